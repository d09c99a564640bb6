import ModelFiles
import Testing

/// Models in several files.
@Suite struct SplitModelTests {
    /// The parts of a tiny model, `perPart` tensors each: the first has all metadata, the others only the split's.
    static func parts(_ model: TinyModel = TinyModel(), perPart: Int = 7) throws -> [[UInt8]] {
        let chunks = stride(from: 0, to: model.tensors.count, by: perPart).map {
            $0..<min($0 + perPart, model.tensors.count)
        }
        return try chunks.enumerated().map { number, chunk in
            var metadata = number == 0 ? model.metadata : Metadata()
            metadata.set("split.no", .uint16(UInt16(number)))
            metadata.set("split.count", .uint16(UInt16(chunks.count)))
            metadata.set("split.tensors.count", .int32(Int32(model.tensors.count)))
            var writer = GGUFWriter(metadata: metadata)
            for index in chunk {
                let tensor = model.tensors[index]
                writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: model.bytes(index, seed: 1))
            }
            return try writer.bytes()
        }
    }

    private func write(_ parts: [[UInt8]], to folder: TemporaryFolder) throws -> [String] {
        try parts.indices.map { index in
            let name = "tiny-0000\(index + 1)-of-0000\(parts.count).gguf"
            try folder.write(parts[index], to: name)
            return folder.file(name)
        }
    }

    private func refused(_ code: ModelFileErrorCode, _ words: String, _ open: () throws -> GGUFFile) {
        #expect { _ = try open() } throws: {
            guard let error = $0 as? ModelFileError else { return false }
            return error.code == code && error.message.contains(words)
        }
    }

    @Test func anyPartOpensAll() throws {
        let folder = try TemporaryFolder()
        let paths = try write(SplitModelTests.parts(), to: folder)
        #expect(paths.count == 3)
        let whole = try TinyModel().file()
        for path in paths {
            let file = try GGUFFile(path: path)
            #expect(file.paths == paths)
            #expect(file.tensors.map(\.name) == whole.tensors.map(\.name))
            for tensor in whole.tensors { #expect(file.tensor(tensor.name).map { Array($0.bytes) } == Array(tensor.bytes)) }
            #expect(Set(file.tensors.map(\.part)) == [0, 1, 2])
            #expect(try file.metadata.string("general.name") == "Tiny")
            _ = try ModelConfiguration(file: file)
        }
    }

    @Test func aPartIsMissing() throws {
        let folder = try TemporaryFolder()
        let parts = try SplitModelTests.parts()
        try folder.write(parts[0], to: "tiny-00001-of-00003.gguf")
        refused(.missingPart, "tiny-00002-of-00003.gguf") { try GGUFFile(path: folder.file("tiny-00001-of-00003.gguf")) }
    }

    @Test func aPartUnderAnotherName() throws {
        let folder = try TemporaryFolder()
        try folder.write(SplitModelTests.parts()[0], to: "model.gguf")
        refused(.splitMismatch, "one of 3 parts, but 1") { try GGUFFile(path: folder.file("model.gguf")) }
    }

    @Test func partsOutOfOrder() throws {
        let parts = try SplitModelTests.parts()
        refused(.splitMismatch, "should be part 2") { try GGUFFile(parts: [parts[0], parts[2], parts[1]]) }
    }

    @Test func aTensorTooMany() throws {
        var bigger = TinyModel()
        bigger.tensors.append(("extra", .f32, [4]))
        let parts = try SplitModelTests.parts()
        let others = try SplitModelTests.parts(bigger)
        #expect(parts.count == others.count)
        refused(.splitMismatch, "20 tensors, but its parts hold 21") { try GGUFFile(parts: [parts[0], parts[1], others[2]]) }
    }

    @Test func theSameTensorInTwoParts() throws {
        let parts = try SplitModelTests.parts()
        refused(.duplicateTensor, "appears twice") { try GGUFFile(parts: [parts[0], parts[0], parts[2]]) }
    }

    @Test func plainFilesAsParts() throws {
        let plain = try TinyModel().bytes()
        var other = TinyModel()
        other.tensors = [("other", .f32, [4])]
        refused(.splitMismatch, "an unknown number of parts, but 2") { try GGUFFile(parts: [plain, other.bytes()]) }
    }

    @Test func hugePartNumbersAreNoTrap() throws {
        var model = TinyModel()
        model.metadata.set("split.no", .uint64(UInt64(Int64.max)))
        model.metadata.set("split.count", .uint64(1))
        refused(.splitMismatch, "split.no \(Int64.max)") { try model.file() }
        model.metadata.set("split.count", .int64(.min))
        refused(.splitMismatch, "\(Int64.min)") { try model.file() }
    }

    @Test(arguments: ["x-00000-of-00002.gguf", "x-00003-of-00002.gguf", "x-00001-of-00000.gguf", "x-00001-of-99999.gguf"])
    func impossibleNames(name: String) throws {
        refused(.splitMismatch, name) { try GGUFFile(path: "/nonexistent/" + name) }
    }

    /// Names that only look like parts are files of their own.
    @Test(arguments: ["x-0001-of-0002.gguf", "x-00001-of-00002.bin", "00001-of-00002.gguf", "x_00001-of-00002.gguf"])
    func otherNames(name: String) throws {
        let folder = try TemporaryFolder()
        try folder.write(TinyModel().bytes(), to: name)
        #expect(try GGUFFile(path: folder.file(name)).paths == [folder.file(name)])
    }
}
