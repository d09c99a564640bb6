import ModelFiles
import Prompt

/// A model that a command reads to write another of it, or to plan with: a GGUF file, or a folder in the shape of one.
enum FolderModel {
    /// The model at `path` with everything that a GGUF file of it says. `vocabulary`: what a folder's tokenizer becomes.
    static func openWhole(_ path: String, vocabulary: (HFModel) throws -> Metadata) throws -> any ModelSource {
        guard ModelOpener.isFolder(path) else { return try GGUFFile(path: path) }
        let model = try HFModel(HFFolder(path: path))
        return try FolderAsGGUF(model, vocabulary: try vocabulary(model))
    }

    /// The tokenizer in the words of GGUF files; `tell` hears what other readers may do differently. Throws where there are no such words.
    static func vocabulary(of model: HFModel, tell: (String) -> Void) throws(PromptError) -> Metadata {
        let made = try GGUFVocabulary(
            folder: model.metadata, architecture: model.configuration.architecture.rawValue, rows: model.configuration.vocabulary)
        made.notes.forEach(tell)
        return made.metadata
    }

    /// The same for a file that only this release reads: where GGUF has no words, the folder's own files are carried along.
    static func anyVocabulary(of model: HFModel) throws -> Metadata {
        do throws(PromptError) {
            return try vocabulary(of: model) { _ in }
        } catch {
            guard error.code == .unsupportedTokenizer || error.code == .missingKey else { throw error }
            var own = Metadata()
            for key in model.metadata.keys where key.hasPrefix("tokenizer.") { own.set(key, model.metadata[key]!) }
            return own
        }
    }

    /// Sizes and shapes only: of a folder, also of one with nothing but a config.json, of a config.json, of a GGUF file or the front of one.
    static func openShapes(_ path: String) throws -> any ModelSource {
        if ModelOpener.isConfig(path) || ModelOpener.isFolder(path) && !ModelOpener.hasWeights(path) { return try GGUFFile.outline(configAt: path) }
        if ModelOpener.isFolder(path) { return try openWhole(path) { _ in Metadata() } }
        return try InspectCommand.open(path)
    }
}
