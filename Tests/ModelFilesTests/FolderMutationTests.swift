import Foundation
import ModelFiles
import Testing

/// The same as `MutationTests` for Hugging Face folders: 6,000 damaged ones are refused with an error or read to the last element.
@Suite struct FolderMutationTests {
    static let folders = 6_000

    @Test func damagedFoldersNeverTrap() async throws {
        print("folder mutation test: seed \(MutationTests.seed), \(Self.folders) folders")
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent, \.standardOutputContent]) {
            do {
                try FolderMutationTests.run()
            } catch {
                // An error that leaves the child would end it without a word.
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                exit(EXIT_FAILURE)
            }
        }
        print(String(decoding: result?.standardOutputContent ?? [], as: UTF8.self))
        let errors = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        if !errors.isEmpty { Issue.record("the child said: \(errors.suffix(2000))") }
    }

    private static func run() throws {
        let originals = [TinyFolder(), .sharded]
        for original in originals { try readAll(original) }
        var random = SeededRandom(seed: MutationTests.seed)
        var codes: [ModelFileErrorCode: Int] = [:]
        var read = 0
        try MutationTests.capAddressSpace()
        for number in 0..<folders {
            var folder = originals[number % originals.count]
            // Weights and their index twice as often as the texts.
            let names = folder.files.keys.sorted()
            let chosen = names + names.filter { $0.hasPrefix("model") }
            let name = chosen.randomElement(using: &random)!
            var bytes = folder.files[name]!
            for _ in 0..<Int.random(in: 1...2, using: &random) { damage(&bytes, &random) }
            folder.files[name] = bytes
            do {
                try readAll(folder)
                read += 1
            } catch let error as ModelFileError {
                codes[error.code, default: 0] += 1
                guard !error.message.isEmpty else { throw error }
            }
        }
        let refused = codes.sorted { $0.value > $1.value }.map { "\($0.key.rawValue) \($0.value)" }
        print("read \(read), refused \(folders - read): \(refused.joined(separator: ", "))")
        precondition(read > 100 && codes.count >= 12, "the mutations are too weak: \(read) read, \(codes.count) kinds of errors")
    }

    /// Bytes as in a GGUF file, or a number of the JSON exchanged for another.
    private static func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        let digits = bytes.indices.filter { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[$0]) }
        guard Bool.random(using: &random), let place = digits.randomElement(using: &random) else { return Mutation.apply(to: &bytes, using: &random) }
        let numbers = ["0", "-1", "8", "16", "1e3", "0.5", "NaN", "null", "[]", "4294967296", "9223372036854775807", "1000000000000000000000", "\"I8\""]
        bytes.replaceSubrange(place...place, with: Array(numbers.randomElement(using: &random)!.utf8))
    }

    private static func readAll(_ folder: TinyFolder) throws {
        let source = try folder.open()
        for tensor in source.tensors { precondition(tensor.dequantized().count == tensor.elementCount) }
        precondition(source.extents.reduce(0) { $0 + $1.byteCount } == source.fileBytes)
        _ = try Metadata(ggufHeaderBytes: source.headerBytes)
        _ = try SamplingDefaults(source.metadata)
        _ = ModelDigest(source)
    }
}
