import ArgumentParser
import Gateway

/// `staffel apikey`: who may use a gateway. Works on the file that `staffel gateway --api-keys` names; running gateways see what changes there.
struct APIKeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apikey", abstract: "Make, list and revoke the API keys that a gateway asks its clients for.",
        subcommands: [Create.self, List.self, Revoke.self])

    struct FileOptions: ParsableArguments {
        @Option(help: "The file of API keys, as the gateway's flag of this name.")
        var apiKeys: String?

        @OptionGroup var common: CommonOptions

        func file() async throws -> APIKeyFile {
            guard let path = try await common.settings().string("api-keys", flag: apiKeys) else {
                throw ValidationError("--api-keys is missing: name the file that 'staffel gateway --api-keys' is given")
            }
            return APIKeyFile(path: path)
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a new key, once: the file keeps its SHA-256 only.",
            discussion: "Several keys of one name are one client with one share and one limit, so a key can be replaced by the next.")

        @Argument(help: "The client's name: one word.")
        var name: String

        @Option(help: "The client's share of the cluster beside others', 1...100. (default: 1)")
        var weight: Int?

        @Option(help: "The lowest number, so the soonest turn, that its requests may ask for. (default: any)")
        var priority: Int?

        @Option(help: "Choices that it may have open at once. (default: as many as there are places)")
        var open: Int?

        @Option(help: "Requests that it may send in a minute to each gateway. (default: any number)")
        var requestsPerMinute: Int?

        @Option(help: "Tokens, of prompts and answers, that it may have in a minute from each gateway. (default: any number)")
        var tokensPerMinute: Int?

        @OptionGroup var options: FileOptions

        func run() async throws {
            let settings: [(String, Int?)] = [
                ("weight", weight), ("priority", priority), ("open", open), ("requests-per-minute", requestsPerMinute),
                ("tokens-per-minute", tokensPerMinute),
            ]
            let file = try await options.file()
            do { print(try file.add(name: name, settings: settings.compactMap { name, value in value.map { "\(name)=\($0)" } })) } catch {
                throw CommandFailure(error.message)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print each key's client, the first digits of its SHA-256, and what it may.")

        @OptionGroup var options: FileOptions

        func run() async throws {
            let file = try await options.file()
            do { for line in try file.list() { print(line) } } catch { throw CommandFailure(error.message) }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take keys away: gateways refuse them within a second. Answers that are under way go on to their end.")

        @Argument(help: "A client's name, for all of its keys, or the first eight digits or more that 'staffel apikey list' prints for one.")
        var key: String

        @OptionGroup var options: FileOptions

        func run() async throws {
            let file = try await options.file()
            let count: Int
            do { count = try file.remove(key) } catch { throw CommandFailure(error.message) }
            guard count > 0 else { throw CommandFailure("'\(key)' is no client and no key of \(file.path): 'staffel apikey list' prints them") }
            print("revoked \(count) key\(count == 1 ? "" : "s")")
        }
    }
}
