import Foundation
import ModelFiles
import Testing

#if canImport(Glibc)
import Glibc
#endif

/// 10,000 damaged files, read to the last element: each is either refused with an error or read; none ends the process, and
/// none makes it reserve more memory than a small allowance, whatever counts it claims.
///
/// Runs in a process of its own whose address space is capped, so that both a trap and an absurd reservation fail the
/// test and not the whole run. `STAFFEL_SEED` chooses other files.
@Suite struct MutationTests {
    static let files = 10_000
    /// Address space that the child may add once it is warm. The files are below 64 KiB.
    static let allowanceBytes = 48 << 20
    static var seed: UInt64 {
        ProcessInfo.processInfo.environment["STAFFEL_SEED"].flatMap { UInt64($0) } ?? 20_261_121
    }

    @Test func damagedFilesNeverTrap() async throws {
        print("mutation test: seed \(MutationTests.seed), \(MutationTests.files) files")
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent, \.standardOutputContent]
        ) {
            do {
                try MutationTests.run()
            } catch {
                // An error that leaves the child would end it without a word.
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                exit(EXIT_FAILURE)
            }
        }
        let output = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
        print(output)
        let errors = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        if !errors.isEmpty { Issue.record("the child said: \(errors.suffix(2000))") }
    }

    /// The child's whole work.
    private static func run() throws {
        let originals = try [
            [TinyModel().bytes()], [TinyModel(architecture: "qwen2", tied: false, bias: true, divisors: true).bytes()],
            [Fixture.bytes("metadata.gguf")], SplitModelTests.parts(),
        ]
        var random = SeededRandom(seed: seed)
        var codes: [ModelFileErrorCode: Int] = [:]
        var read = 0
        for original in originals {
            // The reference's file is no model of ours; all else about it is sound.
            do { try readAll(original) } catch let error as ModelFileError where error.code == .unsupportedArchitecture {}
        }
        try capAddressSpace()

        for number in 0..<files {
            var damaged = originals[number % originals.count]
            let part = Int.random(in: 0..<damaged.count, using: &random)
            for _ in 0..<Int.random(in: 1...3, using: &random) { Mutation.apply(to: &damaged[part], using: &random) }
            do {
                try readAll(damaged)
                read += 1
            } catch let error as ModelFileError {
                codes[error.code, default: 0] += 1
                guard !error.message.isEmpty else { throw error }
            }
        }
        let refused = codes.sorted { $0.value > $1.value }.map { "\($0.key.rawValue) \($0.value)" }
        print("read \(read), refused \(files - read): \(refused.joined(separator: ", "))")
        // A test whose files are all refused alike, or never, tests nothing.
        precondition(read > 100 && codes.count > 20, "the mutations are too weak: \(read) read, \(codes.count) kinds of errors")
    }

    /// Everything that the library does with a file.
    private static func readAll(_ parts: [[UInt8]]) throws {
        let file = try GGUFFile(parts: parts)
        let largest = parts.map(\.count).max() ?? 0
        precondition(file.reservedBytesMax <= largest, "\(file.reservedBytesMax) bytes reserved for \(largest)")
        for tensor in file.tensors { precondition(tensor.dequantized().count == tensor.elementCount) }
        let metadata = try Metadata(ggufHeaderBytes: file.headerBytes)
        for key in metadata.keys { _ = (try? metadata.ints(key), try? metadata.strings(key), try? metadata.int(key)) }
        precondition(!ModelCard(file).description.isEmpty)
        let model = try ModelConfiguration(file: file)
        precondition(ModelSizes(file: file, model: model).stage(layers: 0..<model.layers) > 0)
    }

    static func capAddressSpace() throws {
        #if canImport(Glibc)
        let pages = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
        let used = try #require(Int(pages[0])) * Int(getpagesize())
        var limit = rlimit(rlim_cur: rlim_t(used + allowanceBytes), rlim_max: rlim_t(used + allowanceBytes))
        precondition(setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, "setrlimit")
        #endif
    }
}

/// One act of damage.
enum Mutation {
    static func apply(to bytes: inout [UInt8], using random: inout SeededRandom) {
        guard bytes.count > 16 else { return }
        // Half of all damage hits the header, where the structure is.
        let end = Bool.random(using: &random) ? bytes.count : min(bytes.count, 1200)
        let place = Int.random(in: 0..<(end - 8), using: &random)
        switch Int.random(in: 0..<9, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &random)
        case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 2: bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
        case 3: bytes.append(contentsOf: repeatElement(0, count: Int.random(in: 1...100, using: &random)))
        case 4: overwrite(&bytes, at: place, with: huge(using: &random))
        case 5: bytes.insert(contentsOf: RawGGUF.number(huge(using: &random)), at: place)
        case 6: bytes.removeSubrange(place..<(place + Int.random(in: 1...8, using: &random)))
        case 7: bytes.swapAt(place, Int.random(in: 0..<end, using: &random))
        default: overwriteSmallNumber(&bytes, from: place, using: &random)
        }
    }

    /// A power of two near a border, give or take one.
    private static func huge(using random: inout SeededRandom) -> UInt64 {
        (1 << UInt64.random(in: 8...63, using: &random)) &+ UInt64.random(in: 0...2, using: &random) &- 1
    }

    private static func overwrite(_ bytes: inout [UInt8], at place: Int, with number: UInt64) {
        let encoded = RawGGUF.number(number)
        let width = number > UInt64(UInt32.max) ? 8 : 4
        bytes.replaceSubrange(place..<(place + width), with: encoded[..<width])
    }

    /// Finds the next number that looks like a count, type or dimension and changes it a little: the damage that
    /// keeps a file nearly right.
    private static func overwriteSmallNumber(_ bytes: inout [UInt8], from place: Int, using random: inout SeededRandom) {
        for start in place..<(bytes.count - 4) where bytes[start] != 0 && bytes[(start + 1)..<(start + 4)].allSatisfy({ $0 == 0 }) {
            bytes[start] = UInt8.random(in: 0...64, using: &random)
            return
        }
    }
}
