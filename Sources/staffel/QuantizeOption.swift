import ArgumentParser
import Foundation
import ModelFiles

/// `--quantize TYPE`: a model in floats is served in another type, made once and kept.
struct QuantizeOption: ParsableArguments {
    @Option(help: "Serve a model in F32, F16 or BF16 as this type, such as q4_k_m; made at the first start and kept in the cache. (default: as it is)")
    var quantize: String?

    /// The path to use instead of `path`: the model as the wanted type. `path` itself where nothing is asked for, or it is of this type already.
    ///
    /// The bytes depend on nothing but the model and the type, so every worker that makes them from its own copy has the same: a folder's own
    /// name is not among them. The new file's header names the digest of the model that it was made of, so its own digest is another one than
    /// that of any other model.
    ///
    /// - Parameter cache: the folder under which it is kept, in `quantized/`.
    func path(for path: String, _ settings: Settings, cache: String?, threads: Int? = nil) throws -> String {
        guard let name = settings.string("quantize", flag: quantize) else { return path }
        guard let preset = ConversionRecipe.Preset.usual(named: name) else {
            throw ValidationError("quantize is '\(name)': give one of \(ConversionRecipe.Preset.usualNames.joined(separator: ", "))")
        }
        let file = try FolderModel.openWhole(path, vocabulary: Self.vocabulary)
        let recipe = ConversionRecipe(preset)
        if file.tensors.allSatisfy({ $0.type == recipe.type(of: $0, in: file) }) { return path }
        guard file.tensors.allSatisfy({ $0.type.isFloat }) else {
            throw CommandFailure("\(path) is quantised already; to lose accuracy a second time, say so: staffel quantize IN OUT \(name)")
        }
        let folder = (settings.string("cache", flag: cache) ?? CachePath.standard) + "/quantized"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let made = folder + "/" + Self.name(of: file, preset)
        let lock = try FolderLock(path: made + ".lock")
        defer { lock.release() }
        // Who held the lock before may have made it. A file under this name is whole: it was renamed when it was.
        if !FileManager.default.fileExists(atPath: made) {
            let progress = ProgressLine("quantizing to \(preset.name)")
            try ModelConversion.convert(
                file, to: recipe, path: made, threads: threads ?? ProcessInfo.processInfo.activeProcessorCount
            ) { progress.report(done: $0.elementsDone, of: $0.elements) }
            progress.end()
        }
        return made
    }

    private static func vocabulary(_ model: HFModel) throws -> Metadata {
        var metadata = try FolderModel.anyVocabulary(of: model)
        metadata.set("general.name", .string(model.configuration.architecture.rawValue))
        return metadata
    }

    /// What a folder that is served in another type is called: its file in the cache has no name of its own.
    func name(of path: String, _ settings: Settings) throws -> String? {
        guard settings.string("quantize", flag: quantize) != nil, ModelOpener.isFolder(path) else { return nil }
        return try HFFolder(path: path).metadata.string("general.name")
    }

    /// Another name when the model's header, or what the file system says of its files, is another.
    private static func name(of file: any ModelSource, _ preset: ConversionRecipe.Preset) -> String {
        let stamps = file.stamps.map { "\($0.byteCount)_\($0.modifiedNanoseconds)_\($0.inode)" }.joined(separator: " ")
        let told = ContentHash.sha256(Array(stamps.utf8)).prefix(8).map { String(format: "%02x", $0) }.joined()
        return "\(ModelDigest(file).hexadecimal.prefix(16))-\(told)-\(preset.name).gguf"
    }

    /// The same for a child process that has not been given the new path.
    var forwardedFlags: [String] { quantize.map { ["--quantize", $0] } ?? [] }
}

/// One process at a time: the others wait.
private final class FolderLock {
    private let descriptor: Int32

    init(path: String) throws {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0, flock(descriptor, LOCK_EX) == 0 else {
            throw CommandFailure("the lock \(path) can't be taken: check that the cache may be written to, or name another with --cache")
        }
    }

    func release() { close(descriptor) }
}
