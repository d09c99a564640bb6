import ClusterCore
import Foundation
import ZeroMQ

/// Keys and enrolments for a cluster whose processes all start on this machine: everybody knows everybody, no token is needed.
package struct LocalCluster: Sendable {
    /// State folders.
    package let coordinator: String
    package let workers: [String]
    package let gateway: String
    /// Where the coordinator listens.
    package let endpoint: String

    /// Writes the folders below `directory`.
    package init(directory: String, workers count: Int, endpoint: String) throws {
        coordinator = directory + "/coordinator"
        workers = (1...count).map { directory + "/worker-\($0)" }
        gateway = directory + "/gateway"
        self.endpoint = endpoint

        let state = try StateDirectory(path: coordinator)
        let keys = try CurveKeyFile(path: state.file("coordinator.key")).createIfMissing()
        let enrolment = Enrolment(endpoint: endpoint, coordinatorKey: PeerKey(keys.publicKey))
        var peers = try PeerStore(directory: state)
        let members = workers.enumerated().map { ($1, PeerRole.worker, "worker-\($0 + 1)") } + [(gateway, .gateway, "gateway")]
        for (path, role, name) in members {
            let member = try StateDirectory(path: path)
            let own = try CurveKeyFile(path: member.file("node.key")).createIfMissing()
            try enrolment.write(to: member)
            try peers.admit(PeerStore.Entry(key: PeerKey(own.publicKey), role: role, name: name))
        }
    }
}
