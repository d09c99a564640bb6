import Foundation
import Testing

@testable import Node

@Suite struct StateDirectoryTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func refusal(_ body: () throws -> Void) -> NodeError? {
        #expect(throws: NodeError.self, performing: body)
    }

    @Test func aSecondCoordinatorKnowsThatItIsNotTheFirst() throws {
        let state = try folder.state()
        let starts = try (0..<3).map { _ in try state.noteStart() }
        #expect(starts == [false, true, true])
    }

    @Test func onlyItsOwnerMayEnterAndRead() throws {
        let state = try StateDirectory(path: folder.file("a/b"))
        try state.write("list", "text\n")
        #expect(mode(state.path) == 0o700)
        #expect(mode(state.file("list")) == 0o600)
    }

    @Test func aFolderThatOthersMayEnterIsRefused() throws {
        for wrong: mode_t in [0o701, 0o710, 0o750, 0o755, 0o777] {
            chmod(folder.path, wrong)
            let error = refusal { _ = try StateDirectory(path: folder.path) }
            #expect(error?.code == .stateDirectory)
            #expect(error?.message.contains("chmod 700 \(folder.path)") == true)
            #expect(error?.message.contains(String(wrong, radix: 8)) == true)
        }
        chmod(folder.path, 0o700)
        _ = try StateDirectory(path: folder.path)
    }

    @Test func aFileInItsPlaceIsRefused() throws {
        try folder.write([1], to: "file")
        #expect(refusal { _ = try StateDirectory(path: folder.file("file")) }?.code == .stateDirectory)
        #expect(refusal { _ = try StateDirectory(path: folder.file("file/below")) }?.code == .stateDirectory)
    }

    @Test func whatIsWrittenIsRead() throws {
        let state = try folder.state()
        #expect(try state.read("list") == nil)
        for text in ["", "one\n", "Stäffel \u{1F3C3}\n", String(repeating: "x", count: StateDirectory.fileBytesMax)] {
            try state.write("list", text)
            #expect(try state.read("list") == text)
        }
        state.remove("list")
        state.remove("list")
        #expect(try state.read("list") == nil)
    }

    /// A reader sees the old file or the new one: the new one is another file under the old name.
    @Test func aFileIsReplacedAsAWhole() throws {
        let state = try folder.state()
        try state.write("list", "old")
        chmod(state.file("list"), 0o644)
        let reader = try #require(FileHandle(forReadingAtPath: state.file("list")))
        try state.write("list", "new and longer")
        #expect(try reader.readToEnd() == Data("old".utf8))
        #expect(try state.read("list") == "new and longer")
        #expect(mode(state.file("list")) == 0o600)
        #expect(folder.names == ["list"], "no draft is left")
    }

    @Test func aWriteThatFailsLeavesNoDraft() throws {
        let state = try folder.state()
        try FileManager.default.createDirectory(atPath: folder.file("list/full"), withIntermediateDirectories: true)
        #expect(refusal { try state.write("list", "text") }?.code == .stateDirectory)
        #expect(refusal { try state.write("missing/list", "text") }?.code == .stateDirectory)
        #expect(folder.names == ["list"])
    }

    @Test func whatIsNoTextOfOursIsRefused() throws {
        let state = try folder.state()
        try folder.write([0xFF, 0xFE, 0x00], to: "binary")
        try folder.write([UInt8](repeating: 0x61, count: StateDirectory.fileBytesMax + 1), to: "large")
        try FileManager.default.createDirectory(atPath: folder.file("folder"), withIntermediateDirectories: true)
        for name in ["binary", "large", "folder"] {
            let error = refusal { _ = try state.read(name) }
            #expect(error?.code == .stateDirectory)
            #expect(error?.message.contains(state.file(name)) == true)
        }
    }

    @Test func namesLeaveOutDrafts() throws {
        let state = try folder.state()
        #expect(state.names(in: "tokens") == [])
        let tokens = try StateDirectory(path: state.file("tokens"))
        try tokens.write("b", "")
        try tokens.write("a", "")
        try Data().write(to: URL(fileURLWithPath: tokens.file("c.17.new")))
        #expect(state.names(in: "tokens") == ["a", "b"])
    }
}
