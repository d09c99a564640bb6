import ModelFiles
import Testing

/// Conversion of a model to float weights.
@Suite struct ModelConversionTests {
    @Test func toF32KeepsEveryWeight() throws {
        let file = try TinyModel(tied: false).file()
        let converted = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: .f32)])
        #expect(converted.tensors.map(\.name) == file.tensors.map(\.name))
        for (new, old) in zip(converted.tensors, file.tensors) {
            #expect(new.type == .f32)
            #expect(new.shape == old.shape)
            #expect(new.dequantized() == old.dequantized())
        }
        #expect(try ModelConfiguration(file: converted) == ModelConfiguration(file: file))
        #expect(try converted.metadata.int("general.file_type") == 0)
    }

    @Test func toHalvesRoundsToNearestEven() throws {
        let file = try TinyModel().file()
        let halves = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: .f16)])
        let brains = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: .bf16)])
        for tensor in file.tensors {
            let exact = tensor.dequantized()
            let half = try #require(halves.tensor(tensor.name))
            let brain = try #require(brains.tensor(tensor.name))
            let isVector = tensor.shape.count == 1
            #expect((half.type, brain.type) == (isVector ? .f32 : .f16, isVector ? .f32 : .bf16))
            #expect(half.dequantized() == (isVector ? exact : exact.map { Float(Float16($0)) }))
            if !isVector {
                // Half a unit in the last of 8 bits.
                #expect(zip(brain.dequantized(), exact).allSatisfy { abs($0 - $1) <= abs($1) / 256 })
            }
        }
    }

    @Test func halvesOfSpecialValues() throws {
        let values: [Float] = [0, -0.0, 1, 1.00390625, 1.01171875, -.infinity, .nan, 3.3895314e38, .leastNonzeroMagnitude]
        var writer = GGUFWriter()
        writer.add("t", shape: [values.count, 1], floats: values)
        let file = try GGUFFile(parts: [writer.bytes()])
        let brains = try #require(try GGUFFile(parts: [ModelConversion.bytes(of: file, as: .bf16)]).tensor("t")).dequantized()
        #expect(brains[0].sign == .plus && brains[1].sign == .minus)
        // Ties: 1 + 1/256 lies between 1 and 1 + 1/128 and goes to the even 1; 1 + 3/256 to 1 + 2/128.
        let rounded: [Float] = [1, 1, 1.015625, -.infinity]
        #expect(Array(brains[2...5]) == rounded)
        #expect(brains[6].isNaN)
        #expect(brains[7] == 3.3895314e38)
        #expect(brains[8] == 0)
        #expect { _ = try ModelConversion.bytes(of: file, as: .f16) } throws: {
            ($0 as? ModelFileError)?.code == .invalidValue
        }
    }

    @Test func aSplitModelBecomesOneFile() throws {
        let split = try GGUFFile(parts: SplitModelTests.parts())
        let folder = try TemporaryFolder()
        try ModelConversion.convert(split, to: .f32, path: folder.file("float.gguf"))
        let converted = try GGUFFile(path: folder.file("float.gguf"))
        #expect(converted.tensors.count == split.tensors.count)
        #expect(converted.metadata.keys.allSatisfy { !$0.hasPrefix("split.") })
    }
}
