import ArgumentParser
import Foundation
import ModelFiles

/// `staffel inspect MODEL`: what a model file holds and what it needs.
struct InspectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show what a model file holds and what it needs.")

    @Argument(help: "A GGUF file, a Hugging Face folder or its config.json, or the name of a model in the local store.")
    var model: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let path = try ModelPath.resolve(model)
        let card = try ModelOpener.isFolder(path) || ModelOpener.isConfig(path) ? ModelCard(folder: path) : ModelCard(Self.open(path))
        print(json ? card.json : card.description)
    }

    /// The header says all that a card has.
    static func open(_ path: String) throws(ModelFileError) -> GGUFFile {
        do {
            return try GGUFFile(path: path)
        } catch {
            guard error.code == .tensorOutsideFile else { throw error }
            printError("'\(path)' is not whole: what follows is about the model whose header it has.")
            return try GGUFFile.outline(path: path)
        }
    }
}
