import ArgumentParser
import ClusterCore
import Configuration
import Engine
import SystemPackage
import Wire

/// Where a setting comes from: the flag, else STAFFEL_…, else the YAML file, else the default beside its use.
struct Settings {
    private let reader: ConfigReader

    /// Throws when the YAML file is missing or not YAML.
    init(configFile: String?) async throws {
        var providers: [any ConfigProvider] = [EnvironmentVariablesProvider().prefixKeys(with: "staffel")]
        if let configFile {
            do {
                providers.append(try await FileProvider<YAMLSnapshot>(filePath: FilePath(configFile)))
            } catch {
                throw CommandFailure("--config \(configFile): can't be read as YAML (\(error)): name a file with one 'flag-name: value' a line")
            }
        }
        reader = ConfigReader(providers: providers)
    }

    func string(_ name: String, flag: String?) -> String? {
        let text = flag ?? reader.string(forKey: ConfigKey([name]))
        return text?.isEmpty == true ? nil : text
    }

    /// Throws when the text is no whole number or lies outside `range`, naming the setting.
    func integer(_ name: String, flag: Int?, in range: ClosedRange<Int>) throws -> Int? {
        let value: Int?
        if let flag {
            value = flag
        } else if let text = string(name, flag: nil) {
            guard let number = Int(text) else { throw ValidationError("\(name) is '\(text)': give a whole number in \(range)") }
            value = number
        } else {
            value = nil
        }
        if let value, !range.contains(value) { throw ValidationError("\(name) is \(value): give a whole number in \(range)") }
        return value
    }

    /// A ZeroMQ endpoint to listen on or to name; port 0 takes any free one.
    func endpoint(_ name: String, flag: String?) throws -> String? {
        guard let text = string(name, flag: flag) else { return nil }
        let withPort = text.hasSuffix(":0") ? String(text.dropLast()) + "1" : text
        guard Endpoint.isConnectable(withPort) else { throw ValidationError("\(name) is '\(text)': give tcp://HOST:PORT, such as tcp://10.0.0.1:7300") }
        return text
    }

    /// Processors to pin threads to: auto, none or a list such as 0-3,8.
    func processors(_ name: String, flag: String?) throws -> ProcessorChoice {
        guard let text = string(name, flag: flag) else { return .automatic }
        guard let choice = ProcessorChoice(text) else {
            throw ValidationError("\(name) is '\(text)': give auto, none, or a list of different processors such as 0-3,8")
        }
        return choice
    }

    /// How many pipelines the workers are divided into: a number or auto.
    func replicas(_ name: String, flag: String?) throws -> ReplicaCount? {
        guard let text = string(name, flag: flag) else { return nil }
        if text == "auto" { return .automatic }
        guard let count = Int(text), (1...Limits.replicasMax).contains(count) else {
            throw ValidationError("\(name) is '\(text)': give auto or a whole number in 1...\(Limits.replicasMax)")
        }
        return .exactly(count)
    }

    /// Sizes are written as bytes or with a suffix: 8GiB, 512MiB, 16GB.
    func bytes(_ name: String, flag: String?) throws -> UInt64? {
        guard let text = string(name, flag: flag) else { return nil }
        let units: [(suffix: String, factor: UInt64)] = [
            ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
            ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000), ("B", 1), ("", 1),
        ]
        for unit in units where text.hasSuffix(unit.suffix) {
            guard let number = Double(text.dropLast(unit.suffix.count)), number > 0, number * Double(unit.factor) < 0x1p62 else { break }
            return UInt64(number * Double(unit.factor))
        }
        throw ValidationError("\(name) is '\(text)': give a size such as 8GiB, 512MiB or 16000000000")
    }
}

/// Flags of every command that starts a service.
struct CommonOptions: ParsableArguments {
    @Option(help: "YAML file with settings, one 'flag-name: value' a line.")
    var config: String?

    @Option(help: "How logs on stderr look: text or json.")
    var logFormat: LogFormat?

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: String?

    /// The same settings for a child process.
    var forwardedFlags: [String] {
        var flags: [String] = []
        if let config { flags += ["--config", config] }
        if let logFormat { flags += ["--log-format", logFormat.rawValue] }
        if let logLevel { flags += ["--log-level", logLevel] }
        return flags
    }

    func settings() async throws -> Settings { try await Settings(configFile: config) }

    func logOutput(_ settings: Settings) throws -> LogOutput {
        try LogOutput(format: settings.string("log-format", flag: logFormat?.rawValue), level: settings.string("log-level", flag: logLevel))
    }
}
