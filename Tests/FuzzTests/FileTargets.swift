import ClusterCore
import ModelFiles

@testable import Gateway

// Model files, which come from anywhere, and the header of one, which a gateway is sent by its coordinator.

extension FuzzTarget {
    static let files: [FuzzTarget] = [
        FuzzTarget(
            name: "model-header", seeds: { [TinyModel.header(), TinyModel.header(template: nil)] },
            dictionary: ["GGUF", "tokenizer.ggml.tokens", "{{", "}}", "{%", "%}", "<|im_start|>", "llama", "gpt2"], headerBytes: 4, inputs: 400,
            make: {
                { input in
                    do {
                        let model = try ServedModel(welcome: TinyModel.welcome(), header: input, names: [])
                        let tokens = model.tokenizer.encode("the end <|im_end|> é", addSpecial: true, parseSpecial: true)
                        _ = model.tokenizer.text(of: tokens, skipSpecialTokens: false)
                        return "took \(model.tokenizer.vocabularySize) words"
                    } catch { return String("\(error)".prefix { !$0.isNumber && $0 != "'" && $0 != "\"" }.prefix(60)) }
                }
            }),
        // `Corpus/gguf` has whole files; `ModelFilesTests` damages ten thousand more.
        FuzzTarget(
            name: "gguf", seeds: { [] }, dictionary: ["GGUF", "general.architecture", "general.alignment", "split.count", "llama", "qwen2"], headerBytes: 8,
            make: {
                { input in
                    do {
                        try readAll(input)
                        return "took it"
                    } catch let error as ModelFileError { return error.code.rawValue }
                }
            }),
    ]

    private static func readAll(_ bytes: [UInt8]) throws {
        let file = try GGUFFile(parts: [bytes])
        precondition(file.reservedBytesMax <= bytes.count, "\(file.reservedBytesMax) bytes reserved for \(bytes.count)")
        for tensor in file.tensors { precondition(tensor.dequantized().count == tensor.elementCount) }
        _ = try Metadata(ggufHeaderBytes: file.headerBytes)
        precondition(!ModelCard(file).description.isEmpty)
        let model = try ModelConfiguration(file: file)
        precondition(ModelSizes(file: file, model: model).stage(layers: 0..<model.layers) > 0)
    }
}
