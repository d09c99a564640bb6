import Logging
import Synchronization

/// The API keys that count now: those of the file as it was when last looked at.
///
/// A file that became unusable changes nothing but the log: the keys of before count until it is mended. A file that names nobody admits nobody.
final class KeyRing: Sendable {
    private struct State {
        var keys: APIKeys
        var stamp: PrivateFile.Stamp?
    }

    private let file: PrivateFile
    private let logger: Logger
    private let state: Mutex<State>

    init(path: String, logger: Logger) throws(GatewayError) {
        file = .apiKeys(path)
        self.logger = logger
        // Looked at before it is read: a change in between is seen the next time.
        let stamp = file.stamp
        state = Mutex(State(keys: try APIKeys(path: path), stamp: stamp))
    }

    /// See `APIKeys.client(authorization:)`.
    func client(authorization: String?) -> Client? {
        let keys = state.withLock { $0.keys }
        return keys.client(authorization: authorization)
    }

    /// Reads the file where it has changed.
    /// - Returns: whether it had.
    @discardableResult
    func refresh() -> Bool {
        let stamp = file.stamp
        guard stamp != state.withLock({ $0.stamp }) else { return false }
        do {
            let keys = try APIKeys(path: file.path, mayBeEmpty: true)
            state.withLock { $0 = State(keys: keys, stamp: stamp) }
            logger.notice("API keys read anew", metadata: ["file": "\(file.path)", "keys": "\(keys.count)"])
        } catch {
            // Once for each change, not once for each look.
            state.withLock { $0.stamp = stamp }
            logger.error("API keys unusable; those of before count", metadata: ["file": "\(file.path)", "error": "\(error)"])
        }
        return true
    }
}
