import ArgumentParser
import Engine
import Foundation

/// `lab bench hop`: the limit beside which a step's overhead is read.
struct BenchHop: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hop", abstract: "What libzmq alone takes from one processor to another, as stages use it.",
        discussion: """
            Two threads send each other messages as stages do: encrypted, over TCP on loopback, libzmq's own thread on the same processor as the
            one that sends, which is kept from halting while it waits. Nothing of Staffel's is on the way but the calls of libzmq. First they answer
            at once; then each multiplies a matrix before it answers, as a stage does, and finds nothing in the processor's caches when it is
            done. Figures are one way, from before a message is sent until it has been received.

            --json prints {bytes, hops, matrixBytes, atOnceSeconds, computingSeconds}; the last two are {median, min, max}.
            """)

    @Option(help: "The two processors: auto, or a list.") var cpus = "auto"
    @Option(help: "Bytes of the row that a message carries.") var bytes = 2304
    @Option(help: "Messages each way that count, at once and computing.") var hops = 200
    @Option(help: "MiB of the matrix that is multiplied; a stage's weights.") var mib = 48
    @Flag(help: "Print one JSON object.") var json = false

    static let bytesMax = 16 << 20
    static let hopsMax = 100_000
    static let mibMax = 1_024

    func validate() throws {
        switch ProcessorChoice(cpus) {
        case .automatic, .listed: break
        case .unpinned, nil: throw ValidationError("--cpus is '\(cpus)': give auto, or two different processors such as 0,1.")
        }
        guard (1...Self.bytesMax).contains(bytes) else { throw ValidationError("--bytes is 1 to \(Self.bytesMax).") }
        guard (1...Self.hopsMax).contains(hops) else { throw ValidationError("--hops is 1 to \(Self.hopsMax).") }
        guard (1...Self.mibMax).contains(mib) else { throw ValidationError("--mib is 1 to \(Self.mibMax).") }
    }

    struct Result: Codable {
        var bytes: Int
        var hops: Int
        var matrixBytes: Int
        var atOnceSeconds: Spread
        var computingSeconds: Spread
    }

    func run() throws {
        let topology = ProcessorTopology.current()
        let chosen: [Int32]? =
            switch ProcessorChoice(cpus)! {
            case .automatic: topology.placements(processes: 2, threads: 1)?.flatMap { $0 }
            case let choice: try choice.processors(threads: 2, topology: topology)
            }
        guard let processors = chosen else {
            throw EngineError(.threadsUnavailable, "This process may use only one processor, and a hop is from one to another.")
        }
        let bench = try HopBench(processors: processors, rowBytes: bytes, hops: hops, matrixBytes: mib << 20)
        let (atOnce, computing) = try bench.run()
        let result = Result(
            bytes: bytes, hops: hops, matrixBytes: mib << 20, atOnceSeconds: Spread(atOnce), computingSeconds: Spread(computing))
        guard json else {
            print("one way, us          median   least    most")
            for (name, times) in [("answered at once", result.atOnceSeconds), ("computing before", result.computingSeconds)] {
                let figures = [times.median, times.min, times.max].map { String(format: "%8.1f", 1e6 * $0) }.joined()
                print(name.padding(toLength: 18, withPad: " ", startingAt: 0) + figures)
            }
            return
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(result), as: UTF8.self))
    }
}
