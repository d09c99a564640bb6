import Foundation

/// Finds what MODEL names: the path of a GGUF file or of a Hugging Face folder, or the name of a model in the local store.
enum ModelPath {
    /// Where `ops/fetch-model` and people put models that are called by name.
    static var store: String { CachePath.standard + "/models" }

    static func resolve(_ model: String) throws -> String {
        let files = FileManager.default
        if files.fileExists(atPath: model) {
            return model.hasPrefix("/") ? model : files.currentDirectoryPath + "/" + model
        }
        let named = store + "/" + model
        for candidate in [named, named + ".gguf"] where !model.contains("/") && files.fileExists(atPath: candidate) { return candidate }
        let names = ((try? files.contentsOfDirectory(atPath: store)) ?? []).filter {
            $0.hasSuffix(".gguf") || files.fileExists(atPath: "\(store)/\($0)/config.json")
        }.sorted()
        let known = names.isEmpty ? "the local store \(store) is empty" : "the local store \(store) has \(names.joined(separator: ", "))"
        throw CommandFailure("no model '\(model)': it is no file, and \(known)")
    }
}

/// Where models (`models/`) and packed weights (`packed/`) lie unless --cache says otherwise.
enum CachePath {
    static var standard: String {
        let environment = ProcessInfo.processInfo.environment
        if let cache = environment["STAFFEL_CACHE"], !cache.isEmpty { return cache }
        return (environment["XDG_CACHE_HOME"] ?? NSHomeDirectory() + "/.cache") + "/staffel"
    }
}

/// Where a role keeps its keys unless --state says otherwise.
enum StatePath {
    static func standard(_ role: String) -> String {
        let environment = ProcessInfo.processInfo.environment
        let base = environment["XDG_STATE_HOME"] ?? NSHomeDirectory() + "/.local/state"
        return base + "/staffel/" + role
    }
}
