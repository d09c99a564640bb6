import Foundation
import Testing

@testable import Node

@Suite struct LeasedFolderTests {
    private let parent: TemporaryFolder

    init() throws { parent = try TemporaryFolder() }

    private func makeFolder(_ name: String, mode: Int = 0o700, hasLock: Bool = true) throws -> String {
        let path = parent.file(name)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        if hasLock { try Data().write(to: URL(fileURLWithPath: path + "/lock")) }
        try Data("secret".utf8).write(to: URL(fileURLWithPath: path + "/key"))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        return path
    }

    @Test func aFolderIsItsOwnersAloneAndGoneWhenRemoved() throws {
        let folder = try LeasedFolder(in: parent.path, prefix: "staffel-up-")
        #expect(folder.removed == [] && folder.path.hasPrefix(parent.path + "/staffel-up-"))
        #expect(mode(folder.path) == 0o700 && mode(folder.path + "/lock") == 0o600)
        folder.remove()
        #expect(parent.names == [])
    }

    /// The lock of whoever died is free; of whoever lives it is not, though it is the same process here.
    @Test func onlyFoldersOfTheDeadAreRemoved() throws {
        let living = try LeasedFolder(in: parent.path, prefix: "staffel-up-")
        let dead = try makeFolder("staffel-up-aB3xYz")
        let next = try LeasedFolder(in: parent.path, prefix: "staffel-up-")
        #expect(next.removed == [dead])
        #expect(parent.names == [living.path, next.path].map { ($0 as NSString).lastPathComponent }.sorted())
        living.remove()
        next.remove()
    }

    @Test func whatIsNotExactlyOursIsLeftAlone() throws {
        let outside = try makeFolder("precious")
        _ = try makeFolder("staffel-up-aB3xY")
        _ = try makeFolder("staffel-up-aB3xYzw")
        _ = try makeFolder("staffel-up-aB3-Yz")
        _ = try makeFolder("staffel-up-open00", mode: 0o755)
        _ = try makeFolder("staffel-up-early0", hasLock: false)
        try Data().write(to: URL(fileURLWithPath: parent.file("staffel-up-file00")))
        try FileManager.default.createSymbolicLink(atPath: parent.file("staffel-up-link00"), withDestinationPath: outside)
        let linked = try makeFolder("staffel-up-lock00", hasLock: false)
        try FileManager.default.createSymbolicLink(atPath: linked + "/lock", withDestinationPath: outside + "/lock")
        let hard = try makeFolder("staffel-up-hard00", hasLock: false)
        try FileManager.default.linkItem(atPath: outside + "/lock", toPath: hard + "/lock")
        let before = parent.names
        let folder = try LeasedFolder(in: parent.path, prefix: "staffel-up-")
        #expect(folder.removed == [])
        folder.remove()
        #expect(parent.names == before)
        #expect(FileManager.default.contents(atPath: outside + "/key") == Data("secret".utf8))
    }

    @Test func aParentThatCanNotBeWrittenToIsNamed() {
        let error = #expect(throws: NodeError.self) { try LeasedFolder(in: parent.file("missing"), prefix: "staffel-up-") }
        #expect(error?.message.contains(parent.file("missing")) == true)
    }
}
