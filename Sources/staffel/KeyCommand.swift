import ArgumentParser
import ClusterCore
import Foundation
import Node
import Wire

/// `staffel key`: whose keys a coordinator admits. Works on its state folder; a running coordinator sees what changes there.
struct KeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "List the keys of workers and gateways that a coordinator admits, and revoke them.",
        subcommands: [List.self, Revoke.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print each key with its role and name, those that were revoked too.")

        @OptionGroup var options: TokenCommand.StateOptions

        func run() async throws {
            let directory = try await options.directory()
            let revoked = try RevokedKeys(directory: directory)
            let isRevoked = Set(revoked.all())
            for peer in try PeerStore(directory: directory).entries where !isRevoked.contains(peer.key) {
                print("\(Hex.encode(peer.key.bytes))  \(peer.role)  \(peer.name)")
            }
            for key in revoked.all() { print("\(Hex.encode(key.bytes))  revoked  \(revoked.note(of: key))") }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shut a worker or gateway out for good: its connections are cut, its layers go to others.")

        /// A running coordinator looks several times a second.
        static let noticeSeconds = 2.0
        static let digitsMin = 8

        @Argument(help: "The key's first eight digits or more, as 'staffel key list' and 'staffel status' print them.")
        var key: String

        @OptionGroup var options: TokenCommand.StateOptions

        func run() async throws {
            let directory = try await options.directory()
            let found = try PeerStore(directory: directory).entries.filter { Hex.encode($0.key.bytes).hasPrefix(key.lowercased()) }
            guard key.utf8.count >= Self.digitsMin, let peer = found.first, found.count == 1 else {
                throw CommandFailure(
                    found.count > 1 && key.utf8.count >= Self.digitsMin
                        ? "\(found.count) keys begin with '\(key)': give more of its digits"
                        : "no admitted key begins with '\(key)': give \(Self.digitsMin) digits or more of one that 'staffel key list' prints")
            }
            guard peer.role != .console else {
                throw CommandFailure("this is the key of 'staffel status' itself: to replace it, stop the coordinator, remove console.key and start it again")
            }
            try RevokedKeys(directory: directory).add(peer.key, note: "\(peer.role) \(peer.name)")
            let deadline = Date.now.addingTimeInterval(Self.noticeSeconds)
            while Date.now < deadline {
                if try PeerStore(directory: directory).role(of: peer.key) == nil {
                    return print("revoked \(peer.role) \(peer.name) (\(peer.key)); the running coordinator has cut it off")
                }
                try await Task.sleep(for: .milliseconds(50))
            }
            print("revoked \(peer.role) \(peer.name) (\(peer.key)); no coordinator runs on this folder, so it counts from the next start")
        }
    }
}
