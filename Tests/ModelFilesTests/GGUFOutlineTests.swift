import ModelFiles
import Testing

/// Models of which only the header is there.
@Suite struct GGUFOutlineTests {
    /// RoPE's divisors are data and not there.
    @Test(arguments: [false, true]) func theFrontOfAFileIsEnough(divisors: Bool) throws {
        let folder = try TemporaryFolder()
        let bytes = try TinyModel(divisors: divisors).bytes()
        let whole = try GGUFFile(parts: [bytes])
        let data = try #require(whole.tensors.map(\.fileOffset).min())
        for length in [data, data + 5, bytes.count] {
            try folder.write(Array(bytes[..<length]), to: "front.gguf")
            let outline = try GGUFFile.outline(path: folder.file("front.gguf"))
            if !divisors { #expect(try ModelConfiguration(file: outline) == ModelConfiguration(file: whole)) }
            let model = try ModelConfiguration(file: whole)
            #expect(ModelSizes(file: outline, model: model) == ModelSizes(file: whole, model: model))
            #expect(ModelDigest(outline) == ModelDigest(whole))
        }
        try folder.write(Array(bytes[..<(data / 2)]), to: "front.gguf")
        #expect(throws: ModelFileError.self) { try GGUFFile.outline(path: folder.file("front.gguf")) }
    }

    /// What a model would be in another type is what it becomes in that type.
    @Test(arguments: [QuantisationMix.q8_0, .q4_K_M, .q2_K])
    func anotherTypeIsForetold(mix: QuantisationMix) throws {
        let file = try GGUFFile(parts: [ModelConversion.bytes(of: TinyModel(tied: false, divisors: true).file(), as: .f32)])
        let recipe = ConversionRecipe(.mix(mix))
        let outline = try GGUFFile.outline(of: file, as: recipe)
        let made = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: recipe)])
        #expect(outline.tensors.map(\.type) == made.tensors.map(\.type) && outline.tensors.map(\.fileOffset) == made.tensors.map(\.fileOffset))
        #expect(ModelDigest(outline) == ModelDigest(made))
    }

    @Test func theDigestNamesTheSource() throws {
        var writer = TinyModel().writer()
        let first = try GGUFFile(parts: [writer.bytes()])
        writer.metadata.set("general.name", .string("Another"))
        let second = try GGUFFile(parts: [writer.bytes()])
        let made = try [first, second].map { try GGUFFile(parts: [ModelConversion.bytes(of: $0, as: .f32)]) }
        #expect(try made[0].metadata.string("quantize.source.digest") == ModelDigest(first).hexadecimal)
        #expect(ModelDigest(made[0]) != ModelDigest(first) && ModelDigest(made[0]) != ModelDigest(made[1]))
    }
}
