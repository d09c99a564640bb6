import Foundation
import ModelFiles
import Testing

/// Sound files: what is read is what was written, by the reference's writer and by ours.
@Suite struct GGUFFileTests {
    // MARK: A file of the reference's writer (ops/golden/make-modelfiles.py)

    @Test func readsEveryMetadataType() throws {
        let metadata = try GGUFFile(path: Fixture.path("metadata.gguf")).metadata
        #expect(metadata["scalar.u8"] == .uint8(200))
        #expect(metadata["scalar.i8"] == .int8(-100))
        #expect(metadata["scalar.u16"] == .uint16(60000))
        #expect(metadata["scalar.i16"] == .int16(-30000))
        #expect(metadata["scalar.u32"] == .uint32(4_000_000_000))
        #expect(metadata["scalar.i32"] == .int32(-2_000_000_000))
        #expect(metadata["scalar.u64"] == .uint64(18_000_000_000_000_000_000))
        #expect(metadata["scalar.i64"] == .int64(-9_000_000_000_000_000_000))
        #expect(metadata["scalar.f32"] == .float32(0.1))
        #expect(metadata["scalar.f64"] == .float64(0.1))
        #expect(metadata["scalar.yes"] == .bool(true))
        #expect(metadata["scalar.no"] == .bool(false))
        #expect(metadata["scalar.text"] == .string("Größe 体 👩‍🚀"))
        #expect(metadata["array.text"] == .array(.string(StringArray(["", "a", "Ġthe", "体"]))))
        #expect(metadata["array.bool"] == .array(.bool([true, false, true])))
        #expect(metadata["array.i32"] == .array(.int32([1, -2, 3])))
        #expect(metadata["array.f32"] == .array(.float32([0.5, -0.25])))
        #expect(metadata["array.u8"] == .array(.uint8([1, 2, 255])))
        #expect(metadata["array.nested"] == .array(.array([.int32([1, 2]), .int32([3]), .int32([4, 5, 6])])))
        #expect(metadata["absent"] == nil)
        #expect(metadata.keys.first == "general.architecture")
        #expect(metadata.keys.count == 20)
    }

    @Test func readsTensors() throws {
        let file = try GGUFFile(path: Fixture.path("metadata.gguf"))
        #expect(file.version == 3)
        #expect(file.alignment == 32)
        #expect(file.fileBytes == 1056)
        #expect(file.tensors.map(\.name) == ["first", "second", "third"])
        let first = try #require(file.tensor("first"))
        #expect(first.shape == [3, 2])
        #expect((first.columns, first.rows, first.elementCount, first.byteCount) == (3, 2, 6, 24))
        #expect(first.dequantized() == [0, 1, 2, 3, 4, 5])
        let second = try #require(file.tensor("second"))
        #expect((second.type, second.rows) == (.f16, 1))
        #expect(second.dequantized() == [1.5, -2.5])
        let third = try #require(file.tensor("third"))
        #expect((third.type, third.shape, third.byteCount) == (.q8_0, [32, 2], 68))
        #expect(third.bytes.count == 68)
        #expect(third.bytes[0] == 0x08 && third.bytes[1] == 0x20)
        #expect(abs(third.dequantized()[63] - 1) < 0.01)
        #expect(file.tensor("fourth") == nil)
    }

    // MARK: Our own writer

    @Test func readsWhatItWrote() throws {
        let model = TinyModel(tied: false, bias: true)
        let bytes = try model.bytes(seed: 5)
        let file = try GGUFFile(parts: [bytes])
        #expect(file.metadata.keys == model.metadata.keys)
        for key in model.metadata.keys { #expect(file.metadata[key] == model.metadata[key]) }
        #expect(file.tensors.map(\.name) == model.tensors.map(\.name))
        for (index, tensor) in file.tensors.enumerated() {
            #expect(tensor.type == model.tensors[index].type)
            #expect(tensor.shape == model.tensors[index].shape)
            #expect(Array(tensor.bytes) == model.bytes(index, seed: 5))
            #expect(tensor.fileOffset % 32 == 0)
        }
        #expect(file.reservedBytesMax <= bytes.count)
    }

    /// The reference's file, read and written again, is the same file to the byte.
    @Test func writesWhatTheReferenceWrites() throws {
        let bytes = try Fixture.bytes("metadata.gguf")
        let file = try GGUFFile(parts: [bytes])
        var writer = GGUFWriter(metadata: file.metadata)
        for tensor in file.tensors {
            writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(tensor.bytes))
        }
        #expect(try writer.bytes() == bytes)
    }

    /// Every metadata type, arrays of each and arrays of arrays, through the writer and back.
    @Test func writesEveryMetadataType() throws {
        let arrays: [MetadataArray] = [
            .uint8([0, 255]), .int8([-128, 127]), .uint16([65535]), .int16([-32768]), .uint32([.max]), .int32([.min]),
            .uint64([.max, 0]), .int64([.min]), .float32([-0.0, .infinity, .leastNonzeroMagnitude]), .float64([.pi]), .bool([true, false]),
            .string(StringArray(["", "x", "日本語"])), .array([.array([.uint8([1])]), .array([])]), .int32([]),
        ]
        let scalars: [MetadataValue] = [
            .uint8(1), .int8(-1), .uint16(2), .int16(-2), .uint32(3), .int32(-3), .uint64(4), .int64(-4), .float32(0.5),
            .float64(-0.5), .bool(true), .string("ü"),
        ]
        var metadata = Metadata()
        for (index, value) in (scalars + arrays.map { .array($0) }).enumerated() { metadata.set("key.\(index)", value) }
        let file = try GGUFFile(parts: [GGUFWriter(metadata: metadata).bytes()])
        #expect(file.metadata.keys == metadata.keys)
        for key in metadata.keys { #expect(file.metadata[key] == metadata[key], "\(key)") }
    }

    @Test(arguments: [8, 64, 4096])
    func obeysTheAlignment(alignment: UInt32) throws {
        var model = TinyModel()
        model.metadata.set("general.alignment", .uint32(alignment))
        let file = try model.file()
        #expect(file.alignment == Int(alignment))
        #expect(file.tensors.allSatisfy { $0.fileOffset % Int(alignment) == 0 })
        #expect(Array(file.tensors[3].bytes) == model.bytes(3, seed: 1))
    }

    @Test func widensSomeRows() throws {
        let tensor = try #require(try TinyModel().file().tensor("blk.1.ffn_gate.weight"))
        let all = tensor.dequantized()
        var some = [Float](repeating: .nan, count: 3 * tensor.columns)
        some.withUnsafeMutableBufferPointer { tensor.dequantize(rows: 2..<5, into: $0) }
        #expect(some == Array(all[(2 * tensor.columns)..<(5 * tensor.columns)]))
        some.withUnsafeMutableBufferPointer { tensor.dequantize(rows: 7..<7, into: $0) }
    }

    /// A tensor keeps its file mapped when the file object is gone.
    @Test func tensorsOutliveTheFile() throws {
        let folder = try TemporaryFolder()
        let model = TinyModel()
        try folder.write(model.bytes(), to: "model.gguf")
        var file: GGUFFile? = try GGUFFile(path: folder.file("model.gguf"))
        let tensor = try #require(file?.tensors[4])
        file = nil
        #expect(Array(tensor.bytes) == model.bytes(4, seed: 1))
    }

    // MARK: Metadata alone

    /// What a gateway does with the bytes that a coordinator sends it.
    @Test func metadataFromHeaderBytes() throws {
        let file = try TinyModel().file()
        let metadata = try Metadata(ggufHeaderBytes: file.headerBytes)
        #expect(metadata.keys == file.metadata.keys)
        for key in metadata.keys { #expect(metadata[key] == file.metadata[key]) }
        #expect(file.headerBytes.count < file.fileBytes)
        for length in 0..<file.headerBytes.count {
            #expect(throws: ModelFileError.self) { _ = try Metadata(ggufHeaderBytes: Array(file.headerBytes[..<length])) }
        }
    }

    /// The tensors' descriptions are not there, however many the head speaks of.
    @Test func metadataOfManyTensors() throws {
        var model = TinyModel()
        for number in 0..<500 { model.tensors.append(("extra.\(number)", .f32, [1])) }
        let header = try model.file().headerBytes
        #expect(header.count < 500 * 33)
        #expect(try Metadata(ggufHeaderBytes: header).keys == model.metadata.keys)
    }

    @Test func typedGetters() throws {
        let metadata = try GGUFFile(path: Fixture.path("metadata.gguf")).metadata
        #expect(try metadata.int("scalar.u8") == 200)
        #expect(try metadata.int("scalar.i64") == -9_000_000_000_000_000_000)
        #expect(try metadata.double("scalar.f32") == Double(Float(0.1)))
        #expect(try metadata.bool("scalar.yes") == true)
        #expect(try metadata.string("scalar.text") == "Größe 体 👩‍🚀")
        #expect(try metadata.strings("array.text") == ["", "a", "Ġthe", "体"])
        #expect(try metadata.stringArray("array.text").map { Array($0.bytes(at: 3)) } == Array("体".utf8))
        #expect(try metadata.ints("array.i32") == [1, -2, 3])
        #expect(try metadata.ints("array.u8") == [1, 2, 255])
        #expect(try metadata.doubles("array.f32") == [0.5, -0.25])
        // Absent keys are nil, whatever the getter.
        #expect(try metadata.string("absent") == nil && metadata.int("absent") == nil && metadata.double("absent") == nil)
        #expect(try metadata.bool("absent") == nil && metadata.strings("absent") == nil && metadata.ints("absent") == nil)
        #expect(try metadata.doubles("absent") == nil)
    }

    @Test func typedGettersRefuseOtherTypes() throws {
        let metadata = try GGUFFile(path: Fixture.path("metadata.gguf")).metadata
        func refused(_ key: String, _ words: String, _ read: () throws -> Any?) {
            #expect { _ = try read() } throws: {
                guard let error = $0 as? ModelFileError else { return false }
                return error.code == .wrongMetadataType && error.message.contains("'\(key)'") && error.message.contains(words)
            }
        }
        refused("scalar.u8", "a string, but holds uint8") { try metadata.string("scalar.u8") }
        refused("scalar.text", "an integer, but holds string") { try metadata.int("scalar.text") }
        refused("scalar.f32", "an integer") { try metadata.int("scalar.f32") }
        refused("scalar.u32", "a floating-point number") { try metadata.double("scalar.u32") }
        refused("scalar.u8", "a bool") { try metadata.bool("scalar.u8") }
        refused("array.i32", "an array of 3 × int32") { try metadata.strings("array.i32") }
        refused("array.text", "an array of 4 × string") { try metadata.ints("array.text") }
        refused("array.nested", "an array of 3 × array") { try metadata.ints("array.nested") }
        refused("array.i32", "an array of floating-point") { try metadata.doubles("array.i32") }
        refused("array.f32", "an array of integers") { try metadata.ints("array.f32") }
        #expect { _ = try metadata.int("scalar.u64") } throws: { ($0 as? ModelFileError)?.code == .invalidValue }
    }

    // MARK: The writer's file

    @Test func aFileTakesItsNameWhenItIsWhole() throws {
        let folder = try TemporaryFolder()
        let model = TinyModel()
        try model.writer().write(to: folder.file("model.gguf"))
        #expect(folder.names == ["model.gguf"])
        #expect(try GGUFFile(path: folder.file("model.gguf")).tensors.count == model.tensors.count)

        var failing = GGUFWriter(metadata: model.metadata)
        failing.add("t", type: .f32, shape: [4]) { (sink) throws(ModelFileError) in
            try sink.write([0, 0])
            throw ModelFileError(.cannotRead, "the source went away")
        }
        #expect { try failing.write(to: folder.file("other.gguf")) } throws: { ($0 as? ModelFileError)?.code == .cannotRead }
        #expect(folder.names == ["model.gguf"])
        #expect { try model.writer().write(to: folder.file("missing/model.gguf")) } throws: {
            ($0 as? ModelFileError)?.code == .cannotWrite
        }
    }
}
