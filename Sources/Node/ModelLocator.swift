import ClusterCore
import ModelFiles

/// Opens the model that a plan means, wherever this box has it.
enum ModelLocator {
    /// The first of `paths` that is a model with this digest. A path from a peer is only ever opened for reading, and what
    /// lies there is used only when its digest is right. Throws what was found at each path.
    static func open(digest: ClusterCore.ModelDigest, paths: [String?]) throws -> any ModelSource {
        var found: [String] = []
        for path in paths.compactMap({ $0 }) {
            do {
                let file = try ModelOpener.open(path: path)
                let here = ModelFiles.ModelDigest(file).hexadecimal
                if here == digest.description { return file }
                found.append("\(path) is another model (digest \(here.prefix(12))…)")
            } catch {
                found.append("\(error)")
            }
        }
        throw NodeError(
            .modelUnusable,
            "no model with digest \(digest.description.prefix(12))… on this box: \(found.joined(separator: "; ")). Copy the coordinator's file here and name it with --model")
    }
}
