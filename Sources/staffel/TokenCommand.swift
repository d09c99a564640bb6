import ArgumentParser
import ClusterCore
import Foundation
import Node
import Wire
import ZeroMQ

/// `staffel token`: who may join a cluster. Works on the coordinator's state folder; a running coordinator sees what changes there.
struct TokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Make, list and revoke the one-time tokens with which workers and gateways join.",
        subcommands: [Create.self, List.self, Revoke.self])

    struct StateOptions: ParsableArguments {
        @Option(help: "The coordinator's state folder. (default: ~/.local/state/staffel/coordinator)")
        var state: String?

        @OptionGroup var common: CommonOptions

        func path() async throws -> String {
            try await common.settings().string("state", flag: state) ?? StatePath.standard("coordinator")
        }

        func directory() async throws -> StateDirectory { try StateDirectory(existing: await path()) }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print a join line that admits one worker or gateway, once.")

        static let minutesMax = 60 * 24 * 30

        @Option(help: "After how many minutes an unused token ends.")
        var expiresMinutes = 60

        @Option(help: "For people: what the token is for.")
        var name = ""

        @Option(help: "Wait so long for a coordinator that is starting.")
        var waitSeconds = 0

        @OptionGroup var options: StateOptions

        func run() async throws {
            guard (1...Self.minutesMax).contains(expiresMinutes) else {
                throw ValidationError("--expires-minutes is \(expiresMinutes): give a number in 1...\(Self.minutesMax)")
            }
            let path = try await options.path()
            let deadline = Date.now.addingTimeInterval(Double(max(0, waitSeconds)))
            while !FileManager.default.fileExists(atPath: path + "/coordinator"), Date.now < deadline {
                try await Task.sleep(for: .milliseconds(100))
            }
            let directory = try StateDirectory(existing: path)
            guard let coordinator = try Enrolment.read(from: directory) else {
                throw CommandFailure("\(path) knows no coordinator: start 'staffel coordinator --state \(path)' first")
            }
            let pair = try CurveKeyPair.generate()
            let expires = Int64(Date.now.timeIntervalSince1970) + Int64(expiresMinutes) * 60
            try TokenStore(directory: directory).add(TokenStore.Token(key: PeerKey(pair.publicKey), expires: expires, name: name))
            print(try JoinLine(endpoint: coordinator.endpoint, serverKey: coordinator.coordinatorKey, tokenSecret: pair.secretKey.bytes).text)
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print the tokens that are not used yet.")

        @OptionGroup var options: StateOptions

        func run() async throws {
            let now = Int64(Date.now.timeIntervalSince1970)
            for token in try TokenStore(directory: await options.directory()).all() {
                let left = token.expires - now
                print("\(token.key)  \(left > 0 ? "expires in \(left / 60) min \(left % 60) s" : "expired")  \(token.name)")
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make an unused token worthless.")

        @Argument(help: "The token's first eight digits, as 'staffel token list' prints them.")
        var token: String

        @OptionGroup var options: StateOptions

        func run() async throws {
            let store = try TokenStore(directory: await options.directory())
            let found = store.all().filter { $0.key.description == token }
            guard let one = found.first, found.count == 1 else {
                throw CommandFailure("no unused token '\(token)': 'staffel token list' prints those there are")
            }
            store.remove(one.key)
        }
    }
}
