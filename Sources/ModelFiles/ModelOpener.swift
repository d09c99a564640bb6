#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Opens what a path names: a folder as Hugging Face publishes models, or a GGUF file.
package enum ModelOpener {
    /// Throws as `HFFolder.init` and `GGUFFile.init` do.
    package static func open(path: String) throws(ModelFileError) -> any ModelSource {
        try isFolder(path) ? HFModel(HFFolder(path: path)) : GGUFFile(path: path)
    }

    /// Whether a path names a folder's config.json, which says all but the weights.
    package static func isConfig(_ path: String) -> Bool { path.hasSuffix(".json") }

    /// Whether a folder has its weights, and not only a config.json.
    package static func hasWeights(_ folder: String) -> Bool { (try? FolderFiles(path: folder).hasWeights) ?? false }

    package static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
