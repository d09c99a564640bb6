import Foundation

/// Something that reads bytes from outside, as the fuzzer sees it.
struct FuzzTarget: Sendable {
    let name: String
    /// What inputs are made of, beside the files in `Corpus/NAME`.
    let seeds: @Sendable () throws -> [[UInt8]]
    /// Words that random bytes would hardly hit.
    var dictionary: [String] = []
    /// Bytes before the content proper.
    var headerBytes = 0
    var isText = false
    /// Inputs of one run in `swift test`, so that all targets together take some seconds.
    var inputs = 12_000
    /// What keeps state from input to input is made by this, once in a run.
    let make: @Sendable () throws -> Reader

    /// Reads one input and says in a few words what became of it. Errors of the libraries are words too; whatever this throws fails the run.
    typealias Reader = (_ input: [UInt8]) throws -> String

    static let all: [FuzzTarget] = wire + transfers + gateway + files + folders

    /// The folder of inputs that are checked in: seeds as they were written once, and whatever did harm once.
    static func corpus(of name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Corpus/\(name)").path
    }

    func corpusFiles() -> [String] {
        let folder = Self.corpus(of: name)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder).sorted()) ?? []
        return names.filter { $0.hasSuffix(".bin") }.map { "\(folder)/\($0)" }
    }
}
