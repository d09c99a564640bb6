import ClusterCore
import Dispatch
import Engine
import Foundation
import Logging
import Synchronization

/// The thread of the draft model. It takes the newest wish, whatever came before it, and never makes the coordinator's thread wait: that one takes
/// what has been said so far when it next forms a step.
package final class DraftThread: Sendable {
    package struct Settings: Sendable {
        /// A GGUF file with the served model's vocabulary.
        package var path: String
        package var contextTokens: Int
        package var threads: Int
        package var instructionSet: InstructionSet

        package init(path: String, contextTokens: Int, threads: Int, instructionSet: InstructionSet) {
            self.path = path
            self.contextTokens = contextTokens
            self.threads = threads
            self.instructionSet = instructionSet
        }
    }

    /// What stands from position `atLength` on: the wish's own guesses, then the model's.
    package struct Word: Hashable, Sendable {
        package var sequence: SequenceID
        package var atLength: Int
        package var tokens: [TokenID]
    }

    private struct Desk {
        var wish: DraftWish?
        /// The newest word that nobody took yet.
        var word: Word?
        var isEnding = false
    }

    private let desk = Mutex(Desk())
    private let wake = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    /// Starts the thread, which loads the model first; of the wishes until then the last is heard. A model that can't be loaded or run is logged
    /// once and guesses nothing.
    package init(_ settings: Settings, logger: Logger) {
        let thread = Thread { [self] in
            NodeThread.nameCurrent("draft")
            do {
                try run(settings, logger)
            } catch {
                logger.error("the draft model can't go on; streams run without it", metadata: ["model": "\(settings.path)", "error": "\(error)"])
            }
            ended.signal()
        }
        thread.stackSize = 8 << 20
        thread.start()
    }

    /// In place of any wish before it.
    package func post(_ wish: DraftWish) {
        desk.withLock { $0.wish = wish }
        wake.signal()
    }

    /// What was said since the last call, if anything. May be called from any thread, at any time.
    package func takeWord() -> Word? {
        desk.withLock { desk in
            defer { desk.word = nil }
            return desk.word
        }
    }

    /// Ends the thread after its present row and waits for that, at most so long. False when it still runs.
    package func end(timeoutMs: Int) -> Bool {
        desk.withLock { $0.isEnding = true }
        wake.signal()
        return ended.wait(timeout: .now() + .milliseconds(timeoutMs)) == .success
    }

    // MARK: - On the thread

    private func run(_ settings: Settings, _ logger: Logger) throws {
        let model = try DraftModel(
            path: settings.path, contextTokens: settings.contextTokens, pool: ComputePool(threads: settings.threads),
            instructionSet: settings.instructionSet)
        logger.info("the draft model is ready", metadata: ["model": "\(settings.path)", "threads": "\(settings.threads)"])
        while let wish = next() {
            let assumed = Array(wish.tokens[wish.known...])
            try model.guess(wish, isStale: { desk.withLock { $0.wish != nil || $0.isEnding } }) { guesses in
                desk.withLock { $0.word = Word(sequence: wish.sequence, atLength: wish.known, tokens: assumed + guesses) }
            }
        }
    }

    /// The next wish; `nil` at the end.
    private func next() -> DraftWish? {
        while true {
            wake.wait()
            let (wish, isEnding) = desk.withLock { desk in
                defer { desk.wish = nil }
                return (desk.wish, desk.isEnding)
            }
            if isEnding { return nil }
            if let wish { return wish }
        }
    }
}
