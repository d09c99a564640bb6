import ClusterCore
import Wire

/// Where a process's coordinator is and which key it must prove: what a process keeps once it is admitted.
package struct Enrolment: Hashable, Sendable {
    private static let fileName = "coordinator"

    /// ZeroMQ endpoint.
    package var endpoint: String
    package var coordinatorKey: PeerKey

    package init(endpoint: String, coordinatorKey: PeerKey) {
        self.endpoint = endpoint
        self.coordinatorKey = coordinatorKey
    }

    package func write(to directory: StateDirectory) throws {
        try directory.write(Self.fileName, "\(endpoint) \(Hex.encode(coordinatorKey.bytes))\n")
    }

    /// `nil` when the directory holds none.
    package static func read(from directory: StateDirectory) throws -> Enrolment? {
        guard let text = try directory.read(fileName) else { return nil }
        let fields = text.split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard fields.count == 2, let bytes = Hex.decode(String(fields[1])), let key = PeerKey(bytes: bytes) else {
            throw NodeError(.stateDirectory, "\(directory.file(fileName)) is not 'endpoint key': remove it and join again with a new token")
        }
        return Enrolment(endpoint: String(fields[0]), coordinatorKey: key)
    }
}
