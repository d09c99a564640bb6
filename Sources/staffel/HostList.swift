import ArgumentParser
import ClusterCore
import Configuration
import Foundation
import SystemPackage

/// A host to plan over: what a worker on it would say of itself.
struct PlanHost {
    static let form = "NAME:MEMORY_GIB:READ_GB_PER_S:GOP_PER_S[:THREADS]"

    var name: String
    var memoryBytes: UInt64
    var readBytesPerSecond: Double
    var opsPerSecond: Double
    /// Rates are those of all threads together; this is for people.
    var threads: Int?
    /// Of its own link to the others; nil: what `--link` says.
    var linkBytesPerSecond: Double?
    var linkLatencySeconds: Double?
    /// What weights may take of the memory, the rest streamed from a disk of this bandwidth; nil: all are in memory.
    var streaming: (weightsMemoryBytes: UInt64, diskBytesPerSecond: Double)?

    init(name: String, memoryBytes: UInt64, readBytesPerSecond: Double, opsPerSecond: Double, threads: Int? = nil) {
        self.name = name
        self.memoryBytes = memoryBytes
        self.readBytesPerSecond = readBytesPerSecond
        self.opsPerSecond = opsPerSecond
        self.threads = threads
    }

    /// `box-a:64:40:900:16`. Throws what is wrong with which part of the entry.
    init(_ entry: String) throws {
        let parts = entry.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (4...5).contains(parts.count) else {
            throw ValidationError("host '\(entry)' has \(parts.count) parts: give \(Self.form), such as box-a:64:40:900:16")
        }
        func number(_ index: Int, _ what: String, atMost most: Double) throws -> Double {
            guard let value = Double(parts[index]), value > 0, value <= most else {
                throw ValidationError("host '\(entry)': \(what) is '\(parts[index])': give a number above 0, at most \(Int(most)); the form is \(Self.form)")
            }
            return value
        }
        guard !parts[0].isEmpty, parts[0].utf8.count <= Limits.nameBytesMax else {
            throw ValidationError("host '\(entry)': the name is empty or too long; the form is \(Self.form)")
        }
        name = parts[0]
        memoryBytes = UInt64(try number(1, "its memory in GiB", atMost: 1e6) * 0x1p30)
        readBytesPerSecond = try number(2, "its read bandwidth in GB/s", atMost: 1e6) * 1e9
        opsPerSecond = try number(3, "its arithmetic in Gop/s", atMost: 1e9) * 1e9
        if parts.count == 5 {
            guard let threads = Int(parts[4]), (1...1024).contains(threads) else {
                throw ValidationError("host '\(entry)': its threads are '\(parts[4])': give a whole number in 1...1024")
            }
            self.threads = threads
        }
    }

    /// A worker as `staffel status --json` tells it.
    init(status worker: [String: Any], in path: String) throws {
        guard let name = worker["name"] as? String, let memory = worker["memory_bytes"] as? NSNumber,
            let read = worker["read_bytes_per_second"] as? NSNumber, let ops = worker["ops_per_second"] as? NSNumber,
            memory.doubleValue > 0, read.doubleValue > 0, ops.doubleValue > 0
        else {
            throw ValidationError("\(path): a worker lacks name, memory_bytes, read_bytes_per_second or ops_per_second; give what 'staffel status --json' prints")
        }
        self.name = name
        memoryBytes = memory.uint64Value
        readBytesPerSecond = read.doubleValue
        opsPerSecond = ops.doubleValue
        threads = (worker["threads"] as? NSNumber)?.intValue
        if let weights = worker["weights_memory_bytes"] as? NSNumber, let disk = worker["disk_bytes_per_second"] as? NSNumber, disk.doubleValue > 0 {
            streaming = (weights.uint64Value, disk.doubleValue)
        }
    }
}

/// The hosts of `staffel plan --hosts`: entries, files of entries, or what `staffel status --json` printed.
enum HostList {
    /// Throws when a file can't be read, an entry is not one, a name stands twice, or there are none or too many.
    static func read(_ words: [String]) async throws -> [PlanHost] {
        var hosts: [PlanHost] = []
        for word in words.flatMap({ $0.split(separator: ",").map(String.init) }) {
            hosts += isFile(word) ? try await file(word) : [try PlanHost(word)]
        }
        guard !hosts.isEmpty else { throw ValidationError("--hosts names no host: give \(PlanHost.form), or a file of them") }
        guard hosts.count <= Limits.workersMax else { throw ValidationError("--hosts names \(hosts.count) hosts, at most \(Limits.workersMax) can be planned") }
        var names: Set<String> = []
        for host in hosts where !names.insert(host.name).inserted { throw ValidationError("host '\(host.name)' is named twice: give each a name of its own") }
        return hosts
    }

    private static func isFile(_ word: String) -> Bool {
        [".yaml", ".yml", ".json", ".toml"].contains { word.hasSuffix($0) } || !word.contains(":") || word.hasPrefix("/") || word.hasPrefix("./")
    }

    private static func file(_ path: String) async throws -> [PlanHost] {
        if path.hasSuffix(".json") { return try json(path) }
        if !path.hasSuffix(".yaml"), !path.hasSuffix(".yml") {
            let text: String
            do {
                text = try String(contentsOfFile: path, encoding: .utf8)
            } catch {
                throw CommandFailure("--hosts \(path): can't be read (\(error.localizedDescription)): give \(PlanHost.form), or a file of hosts")
            }
            return try HostFile.hosts(in: text, path: path)
        }
        let reader: ConfigReader
        do {
            reader = ConfigReader(provider: try await FileProvider<YAMLSnapshot>(filePath: FilePath(path)))
        } catch {
            throw CommandFailure("--hosts \(path): can't be read as YAML (\(error)): name a file with a list 'hosts', one '- \(PlanHost.form)' a line")
        }
        guard let entries = reader.stringArray(forKey: ConfigKey(["hosts"])) else {
            throw ValidationError("\(path) has no list 'hosts' of texts: give one '- \(PlanHost.form)' a line")
        }
        return try entries.map(PlanHost.init)
    }

    private static func json(_ path: String) throws -> [PlanHost] {
        let object: Any
        do {
            object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw CommandFailure("--hosts \(path): can't be read as JSON (\(error.localizedDescription)): give {\"hosts\": [\"\(PlanHost.form)\"]}")
        }
        let top = object as? [String: Any]
        if let entries = top?["hosts"] as? [String] { return try entries.map(PlanHost.init) }
        if let hosts = top?["hosts"] as? [[String: Any]] {
            return try hosts.enumerated().flatMap { index, members in
                var fields = HostFields(place: "\(path): hosts[\(index)]")
                for (name, value) in members.sorted(by: { $0.key < $1.key }) {
                    try fields.set(name, HostFields.Value(text: "\(value)", place: "\(path): hosts[\(index)].\(name)"))
                }
                return try fields.hosts()
            }
        }
        if let workers = top?["workers"] as? [[String: Any]] { return try workers.map { try PlanHost(status: $0, in: path) } }
        throw ValidationError("\(path) has neither a list 'hosts' (of texts, or of objects with \(HostFields.names.joined(separator: ", "))) nor the 'workers' of 'staffel status --json'")
    }
}
