import ClusterCore
import Testing

@testable import Node

@Suite struct ModelLocatorTests {
    private let folder: TemporaryFolder
    private let wanted: TinyModel
    private let other: TinyModel

    init() throws {
        folder = try TemporaryFolder()
        wanted = try TinyModel(folder, name: "wanted.gguf")
        other = try TinyModel(folder, name: "other.gguf", context: 256)
        try folder.write(Array("no model at all".utf8), to: "text.gguf")
    }

    @Test func theFirstPathWithTheDigestIsTaken() throws {
        for paths in [[wanted.path], [nil, wanted.path], [other.path, wanted.path], [folder.file("missing"), folder.file("text.gguf"), wanted.path]] {
            let file = try ModelLocator.open(digest: wanted.digest, paths: paths)
            #expect(file.fileBytes == wanted.file.fileBytes)
            #expect(file.headerBytes == wanted.file.headerBytes)
        }
    }

    @Test func everyPathIsAnsweredForWhenNoneHasIt() throws {
        let error = try #require(throws: NodeError.self) {
            _ = try ModelLocator.open(digest: wanted.digest, paths: [other.path, folder.file("missing"), nil, folder.file("text.gguf")])
        }
        #expect(error.code == .modelUnusable)
        #expect(error.message.contains("\(other.path) is another model (digest \(other.digest.description.prefix(12))"))
        #expect(error.message.contains(folder.file("missing")))
        #expect(error.message.contains(folder.file("text.gguf")))
        #expect(error.message.contains(String(wanted.digest.description.prefix(12))))
        #expect(throws: NodeError.self) { _ = try ModelLocator.open(digest: wanted.digest, paths: []) }
    }
}
