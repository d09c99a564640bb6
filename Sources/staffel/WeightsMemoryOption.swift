import ArgumentParser
import Engine
import Node

/// What weights may take of a process's memory.
struct WeightsMemoryOption: ParsableArguments {
    @Option(
        help:
            "What weights may take of the memory, such as 8GiB, though they are larger: layers beyond are streamed from the cache's disk with every step. (default: all weights are in memory)"
    )
    var weightsMemory: String?

    /// nil where all weights are to be in memory.
    func bytes(_ settings: Settings) throws -> Int? { try settings.bytes("weights-memory", flag: weightsMemory).map { Int($0) } }

    /// The same with where they are streamed from. Throws where nothing can be streamed, or weights may take more than there is.
    func streaming(_ settings: Settings, memory: UInt64, cache: PackedCache?) throws -> (memory: Int, cache: PackedCache)? {
        guard let bytes = try bytes(settings) else { return nil }
        guard UInt64(bytes) < memory else {
            throw ValidationError(
                "weights-memory is \(bytes) bytes of a memory of \(memory): leave some for keys and values, or give --memory more")
        }
        guard let cache else {
            throw ValidationError("weights-memory is given, and so weights are streamed from the cache, but cache-limit is 0: allow it what the weights are")
        }
        return (bytes, cache)
    }

    /// For a child process, where given as a flag; settings and environment reach it anyway.
    var forwardedFlags: [String] { weightsMemory.map { ["--weights-memory", $0] } ?? [] }
}
