import Foundation

/// The logits of a model for the tokens of a text that count in its perplexity, kept so that other models are measured against them.
///
/// Little-endian: the eight bytes "STFLLOGI", uint32 vocabulary, uint32 tokens of a chunk, uint64 rows, uint64 digest of the tokens, then
/// f32[rows][vocabulary]. It is as large as that sounds: 400 MB for 2,000 tokens of a vocabulary of 49,152.
struct LogitsFile {
    /// What a file must agree with to be of use.
    struct Outline: Equatable {
        var vocabulary: Int
        var context: Int
        var rows: Int
        /// FNV-1a of all token ids.
        var digest: UInt64

        /// - Parameter chunks: at least one, all of one length; of each all positions behind the first half count but the last.
        init(chunks: [[Int32]], vocabulary: Int, countedInChunk: Int) {
            self.vocabulary = vocabulary
            context = chunks[0].count
            rows = chunks.count * countedInChunk
            digest = chunks.joined().reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64(UInt32(bitPattern: $1))) &* 0x100_0000_01b3 }
        }

        fileprivate static let byteCount = 32

        fileprivate var bytes: Data {
            var data = Data("STFLLOGI".utf8)
            withUnsafeBytes(of: (UInt32(vocabulary).littleEndian, UInt32(context).littleEndian)) { data.append(contentsOf: $0) }
            withUnsafeBytes(of: (UInt64(rows).littleEndian, digest.littleEndian)) { data.append(contentsOf: $0) }
            return data
        }
    }

    private let data: Data
    private let outline: Outline

    /// Maps the file. Throws where it is not of these tokens.
    init(path: String, _ outline: Outline) throws {
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        } catch {
            throw CommandFailure("the logits '\(path)' can't be read: \(error.localizedDescription)")
        }
        guard data.prefix(Outline.byteCount) == outline.bytes, data.count == Outline.byteCount + 4 * outline.rows * outline.vocabulary else {
            throw CommandFailure(
                "'\(path)' holds no logits of these \(outline.rows) tokens: make it with --save-logits from the same text, tokenizer, --context and --chunks")
        }
        self.outline = outline
    }

    /// Calls `body` with f32[vocabulary], valid during the call.
    func withRow<Result>(_ row: Int, _ body: (UnsafeBufferPointer<Float>) -> Result) -> Result {
        data.withUnsafeBytes { bytes in
            let start = Outline.byteCount + 4 * row * outline.vocabulary
            return body(UnsafeRawBufferPointer(rebasing: bytes[start..<start + 4 * outline.vocabulary]).bindMemory(to: Float.self))
        }
    }
}

/// A logits file as it grows. It gets its name when it is whole.
final class LogitsWriter {
    private let path: String
    private var handle: FileHandle

    init(path: String, _ outline: LogitsFile.Outline) throws {
        self.path = path
        guard FileManager.default.createFile(atPath: path + ".partial", contents: nil), let handle = FileHandle(forWritingAtPath: path + ".partial") else {
            throw CommandFailure("'\(path).partial' can't be created: check that the folder exists and may be written to")
        }
        self.handle = handle
        try write(outline.bytes)
    }

    func add(_ logits: UnsafeBufferPointer<Float>) throws { try write(Data(bytes: logits.baseAddress!, count: 4 * logits.count)) }

    func finish() throws {
        try handle.close()
        guard rename(path + ".partial", path) == 0 else { throw CommandFailure("'\(path).partial' can't be renamed to '\(path)'") }
    }

    /// Removes what there is after a failure.
    func abandon() { try? FileManager.default.removeItem(atPath: path + ".partial") }

    private func write(_ data: Data) throws {
        do {
            try handle.write(contentsOf: data)
        } catch {
            throw CommandFailure("'\(path).partial' can't be written; the disk may be full: \(error.localizedDescription)")
        }
    }
}
