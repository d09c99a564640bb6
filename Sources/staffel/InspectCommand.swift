import ArgumentParser
import Foundation
import ModelFiles

/// `staffel inspect MODEL`: what a model file holds and what it needs.
struct InspectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show what a model file holds and what it needs.")

    @Argument(help: "A GGUF file, or the name of a model in the local store.")
    var model: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let card = try ModelCard(GGUFFile(path: ModelPath.resolve(model)))
        print(json ? card.json : card.description)
    }
}
