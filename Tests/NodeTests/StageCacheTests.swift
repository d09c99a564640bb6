import ClusterCore
import Dispatch
import Engine
import Foundation
import Logging
import Synchronization
import Testing

@testable import Node

/// A stage thread keeps what it packed, and the next one on this box uses it.
@Suite struct StageCacheTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private let log = HeardLog()

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    private func stage(cache: String) -> LoadingStage {
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        let logger = Logger(label: "test") { _ in self.log }
        return LoadingStage(
            StageThreadConfiguration(
                threads: 1, instructionSet: .portable, modelPath: nil, cache: PackedCache(folder: cache, limits: limits), logger: logger))
    }

    private func keptFiles(_ cache: String) -> [String] {
        (FileManager.default.enumerator(atPath: cache)?.compactMap { $0 as? String } ?? []).filter { $0.hasSuffix(".packed") }.sorted()
    }

    @Test func theNextStartUsesWhatThisOneKept() throws {
        let cache = folder.file("packed")
        let first = stage(cache: cache)
        #expect(first.load(tiny.assignment(epoch: 1)))
        #expect(log.waitFor("kept packed weights for the next start"))
        #expect(first.end())
        #expect(keptFiles(cache).count == TinyModel.layers + 2)

        // The second one has its layers from there: where one was damaged it says so, and packs that one anew.
        let damaged = cache + "/" + keptFiles(cache).first { $0.hasSuffix("layer-2.packed") }!
        #expect(chmod(damaged, 0o600) == 0)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: damaged))
        bytes[100] ^= 1
        try bytes.write(to: URL(fileURLWithPath: damaged))
        let second = stage(cache: cache)
        #expect(second.load(tiny.assignment(epoch: 1)))
        #expect(log.waitFor("kept weights were not used; packing them again"))
        #expect(log.waitFor("kept packed weights for the next start"))
        #expect(second.end())

        let third = stage(cache: cache)
        #expect(third.load(tiny.assignment(epoch: 1)))
        #expect(third.end())
        #expect(log.count("weights are ready") == 3)
        #expect(log.count("kept weights were not used; packing them again") == 1)
        #expect(log.count("kept packed weights for the next start") == 2)
    }

    @Test func aCacheThatCannotBeWrittenIsAWarning() throws {
        let stage = stage(cache: tiny.path + "/packed")
        #expect(stage.load(tiny.assignment(epoch: 1)))
        #expect(log.waitFor("packed weights were not kept; the next start packs them again"))
        #expect(stage.load(tiny.assignment(epoch: 2)))
        #expect(stage.end())
    }

    /// A new slice takes the memory of the old one, whose keeper must let go of it.
    @Test func loadsThatFollowEachOtherEndTheKeeping() throws {
        let cache = folder.file("packed")
        let stage = stage(cache: cache)
        for epoch in 1...6 as ClosedRange<UInt64> {
            let layers = epoch % 2 == 0 ? 0..<2 : 0..<3
            #expect(stage.load(tiny.assignment(epoch: epoch, stage: 0, of: 2, layers: layers)))
        }
        #expect(stage.end())
        #expect(log.count("packed weights were not kept; the next start packs them again") == 0)
        #expect(log.count("kept weights were not used; packing them again") == 0)
    }
}

/// A stage thread that is told to load and waited for.
private final class LoadingStage: Sendable {
    private static let patience = DispatchTimeInterval.seconds(60)

    private let thread: StageThread
    private let loaded = DispatchSemaphore(value: 0)

    init(_ configuration: StageThreadConfiguration) {
        let loaded = loaded
        thread = StageThread(configuration: configuration) { report in
            if case .loaded = report { loaded.signal() }
        }
    }

    /// False when it did not report the load as done.
    func load(_ assignment: StageAssignment) -> Bool {
        thread.post(.load(assignment)) && loaded.wait(timeout: .now() + Self.patience) == .success
    }

    func end() -> Bool { thread.end(timeoutMs: 60_000) }
}

/// Messages as they are logged, from any thread.
private final class HeardLog: LogHandler, Sendable {
    private static let patience = DispatchTimeInterval.seconds(60)

    private let messages = Mutex<[String]>([])
    private let taken = Mutex<[String: Int]>([:])
    private let heard = DispatchSemaphore(value: 0)

    func log(event: LogEvent) {
        messages.withLock { $0.append("\(event.message)") }
        heard.signal()
    }

    func count(_ message: String) -> Int { messages.withLock { $0.count { $0 == message } } }

    /// Waits until the message was logged once more than earlier waits for it have seen.
    func waitFor(_ message: String) -> Bool {
        let wanted = taken.withLock { taken in
            taken[message, default: 0] += 1
            return taken[message]!
        }
        while count(message) < wanted {
            guard heard.wait(timeout: .now() + Self.patience) == .success else { return false }
        }
        return true
    }

    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }
    subscript(metadataKey _: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
}
