import ArgumentParser
import Foundation
import Node

/// The one command users have. Subcommands parse flags and start services; what they start lives in `Node`, `Gateway` and `Engine`.
@main
struct Staffel: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "staffel",
        abstract: "Serve large language models over several CPU boxes.",
        discussion: """
            Every flag may also be given as an environment variable (--data-listen is STAFFEL_DATA_LISTEN) or as a key of the YAML \
            file named by --config (data-listen: …); a flag wins over the environment, the environment over the file.
            """,
        version: version,
        subcommands: [
            UpCommand.self, GenerateCommand.self, CoordinatorCommand.self, WorkerCommand.self, GatewayCommand.self,
            StatusCommand.self, TopCommand.self, DrainCommand.self, PlanCommand.self, TokenCommand.self, KeyCommand.self, APIKeyCommand.self,
            InspectCommand.self, QuantizeCommand.self, ImatrixCommand.self, PerplexityCommand.self,
        ])

    /// How long the log's last lines may take.
    private static let logEndMs = 1_000

    /// Exit codes: 0 done, 1 failed, 2 wrong usage. ArgumentParser's own main would exit with 64.
    static func main() async {
        // A peer that goes away must be an error of a write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        OpenFiles.raiseLimit()
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            LogLines.standardError.flush(withinMs: logEndMs)
        } catch {
            LogLines.standardError.flush(withinMs: logEndMs)
            let code = exitCode(for: error)
            let text = fullMessage(for: error)
            if code.isSuccess {
                print(text)
                Foundation.exit(0)
            }
            if !text.isEmpty { printError(text) }
            Foundation.exit(code == .validationFailure ? 2 : 1)
        }
    }
}

/// A line for people on stderr; stdout carries results only.
func printError(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
}

/// A fault of a command, said in one line to the person who typed it.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
