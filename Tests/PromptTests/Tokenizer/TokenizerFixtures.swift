import Foundation
import ModelFiles
import Testing

@testable import Prompt

/// What ops/golden/make-tokenizer.py has written.
enum TokenizerFixtures {
    struct Entry: Sendable {
        let kind: String
        let bytes: [UInt8]
        /// The reference's text of the bytes: themselves, or with U+FFFD where they are no UTF-8.
        let text: String
    }

    /// The reference's ids of one entry.
    struct Expected: Sendable {
        let parsed: [Int32]
        /// With special tokens left text; only entries of kind "special" have it.
        let plain: [Int32]?
    }

    static func file(_ name: String, in folder: String = "tokenizer") throws -> [UInt8] {
        let folder = try #require(Bundle.module.resourceURL).appendingPathComponent("Fixtures/\(folder)")
        return Array(try Data(contentsOf: folder.appendingPathComponent(name)))
    }

    static func corpus() throws -> [Entry] {
        struct Line: Decodable {
            let k: String
            let t: String?
            let b: Data?
            let r: String?
        }
        let lines = try file("corpus.jsonl").split(separator: UInt8(ascii: "\n"))
        return try lines.map { line in
            let line = try JSONDecoder().decode(Line.self, from: Data(line))
            let text = try #require(line.t ?? line.r)
            return Entry(kind: line.k, bytes: line.b.map { Array($0) } ?? Array(text.utf8), text: text)
        }
    }

    static func metadata(_ name: String) throws -> Metadata {
        try Metadata(ggufHeaderBytes: file(name + ".gguf"))
    }

    static func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(metadata: metadata(name))
    }

    static func expected(_ name: String, for entries: [Entry], in folder: String = "tokenizer") throws -> [Expected] {
        var reader = IDReader(bytes: try file(name + ".ids", in: folder))
        let expected = entries.map { entry in
            Expected(parsed: reader.list(), plain: entry.kind == "special" ? reader.list() : nil)
        }
        try #require(reader.isAtEnd, "the ids belong to another corpus; run ops/golden/make-\(folder).py")
        return expected
    }

    /// The real model's metadata, where the environment names its file; nil where it does not.
    static func realModel() throws -> Metadata? {
        guard let path = ProcessInfo.processInfo.environment["STAFFEL_TEST_MODEL"], !path.isEmpty else { return nil }
        try #require(FileManager.default.fileExists(atPath: path), "STAFFEL_TEST_MODEL names \(path), which is not there")
        return try GGUFFile(path: path).metadata
    }

    private struct IDReader {
        let bytes: [UInt8]
        var index = 0
        var isAtEnd: Bool { index == bytes.count }

        mutating func list() -> [Int32] {
            let count = number()
            return (0..<count).map { _ in Int32(number()) }
        }

        private mutating func number() -> Int {
            var result = 0
            var shift = 0
            while true {
                let byte = bytes[index]
                index += 1
                result |= Int(byte & 0x7F) << shift
                if byte < 0x80 { return result }
                shift += 7
            }
        }
    }
}

enum RealModel {
    static var isNamed: Bool { ProcessInfo.processInfo.environment["STAFFEL_TEST_MODEL"].map { !$0.isEmpty } ?? false }
}
