import ArgumentParser
import ClusterCore
import Foundation
import Node
import Wire
import ZeroMQ

/// How a worker or a gateway becomes part of a cluster: by a join line once, by its own key ever after.
struct JoinOptions: ParsableArguments {
    @Option(help: "What 'staffel token create' printed on the coordinator's box. Needed once: the key is kept in the state folder.")
    var join: String?

    @Option(help: "A file that holds the join line.")
    var joinFile: String?

    @Option(help: "Folder for this process's key. Every process needs its own. (default: ~/.local/state/staffel/worker or gateway)")
    var state: String?

    /// Who this process is and which coordinator admits it.
    struct Membership {
        let keys: CurveKeyPair
        let enrolment: Enrolment
    }

    /// Enrols when the join line names a coordinator that this process's key is not enrolled at.
    func membership(_ settings: Settings, role: PeerRole, name: String) throws -> Membership {
        let directory = try StateDirectory(path: settings.string("state", flag: state) ?? StatePath.standard("\(role)"))
        let hadKey = FileManager.default.fileExists(atPath: directory.file("node.key"))
        let keys = try CurveKeyFile(path: directory.file("node.key")).createIfMissing()
        // A coordinator knows keys: what one without this key said does not hold for the new one.
        let known = hadKey ? try Enrolment.read(from: directory) : nil
        guard let line = try joinLine(settings) else {
            guard let known else {
                throw ValidationError("--join is missing, and \(directory.path) holds no enrolment: run 'staffel token create' on the coordinator's box")
            }
            return Membership(keys: keys, enrolment: known)
        }
        if let known, known.coordinatorKey == line.serverKey, known.endpoint == line.endpoint {
            return Membership(keys: keys, enrolment: known)
        }
        try CoordinatorExchange.enrol(line, own: keys, role: role, name: name, state: directory)
        return Membership(keys: keys, enrolment: Enrolment(endpoint: line.endpoint, coordinatorKey: line.serverKey))
    }

    private func joinLine(_ settings: Settings) throws -> JoinLine? {
        if let text = settings.string("join", flag: join) { return try JoinLine(parsing: text) }
        guard let path = settings.string("join-file", flag: joinFile) else { return nil }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw ValidationError("--join-file \(path) can't be read: name the file that 'staffel token create' was written to")
        }
        return try JoinLine(parsing: text)
    }
}
