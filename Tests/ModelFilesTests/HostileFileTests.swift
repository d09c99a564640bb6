import ModelFiles
import Testing

/// One kind of damage a test: each gives its own error, which says where it is.
@Suite struct HostileFileTests {
    /// A sound file of one F32 tensor with four elements; the tests break one thing of it each.
    static var sound: RawGGUF {
        var file = RawGGUF()
        file.pairs = [RawGGUF.pair("general.architecture", type: 8, RawGGUF.text("llama"))]
        file.tensors = [RawGGUF.TensorInfo()]
        file.data = [UInt8](repeating: 0, count: 16)
        return file
    }

    /// Reads `file` and expects `code` and a message that contains `words`.
    private func expect(
        _ code: ModelFileErrorCode, _ words: String = "", _ file: RawGGUF, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expect(code, words, file.bytes, sourceLocation: sourceLocation)
    }

    private func expect(
        _ code: ModelFileErrorCode, _ words: String = "", _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try GGUFFile(parts: [bytes])
            Issue.record("the file was read, but \(code) was expected", sourceLocation: sourceLocation)
        } catch {
            #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
            #expect(words.isEmpty || error.message.contains(words), "\(error.message)", sourceLocation: sourceLocation)
        }
    }

    @Test func theSoundFileIsRead() throws {
        let file = try GGUFFile(parts: [HostileFileTests.sound.bytes])
        #expect(file.tensors.map(\.name) == ["t"])
        #expect(file.metadata.keys == ["general.architecture"])
    }

    // MARK: The first bytes

    @Test func emptyFile() { expect(.truncated, "magic", []) }

    @Test func wrongMagic() {
        expect(.wrongMagic, "does not begin with 'GGUF'", Array("<!DOCTYPE html><html>".utf8))
        expect(.wrongMagic, "Git LFS", Array("version https://git-lfs.github.com/spec/v1".utf8))
    }

    @Test func withdrawnFormats() {
        var file = HostileFileTests.sound
        for (magic, name) in [("lmgg", "ggml"), ("fmgg", "ggmf"), ("tjgg", "ggjt")] {
            file.magic = Array(magic.utf8)
            expect(.wrongMagic, "'\(name)'", file)
        }
    }

    @Test func bigEndian() {
        var file = HostileFileTests.sound
        file.version = UInt32(3).byteSwapped
        expect(.bigEndian, "big-endian", file)
        file.version = 3
        file.magic = Array("FUGG".utf8)
        expect(.bigEndian, "little-endian", file)
    }

    @Test func versions() throws {
        var file = HostileFileTests.sound
        for version: UInt32 in [0, 1, 4, 0xFFFF_FFFF] {
            file.version = version
            expect(.unsupportedVersion, "version \(version)", file)
        }
        file.version = 2
        #expect(try GGUFFile(parts: [file.bytes]).version == 2)
    }

    /// Cut at every length: never a trap, never a success.
    @Test func truncatedAnywhere() {
        let whole = HostileFileTests.sound.bytes
        for length in 0..<whole.count {
            #expect(throws: ModelFileError.self, "cut to \(length) bytes") {
                _ = try GGUFFile(parts: [Array(whole[..<length])])
            }
        }
    }

    @Test func truncatedHeaderAndData() {
        let whole = HostileFileTests.sound.bytes
        expect(.truncated, "the file ends at byte 6", Array(whole[..<6]))
        expect(.tensorOutsideFile, "cut short", Array(whole[..<(whole.count - 1)]))
    }

    // MARK: Counts

    @Test(arguments: [UInt64.max, 1 << 63, 1 << 40, 1_000_000, 3])
    func absurdTensorCount(count: UInt64) {
        var file = HostileFileTests.sound
        file.tensors = []
        file.data = []
        file.tensorCount = count
        expect(.absurdCount, "tensor count", file)
    }

    @Test(arguments: [UInt64.max, 1 << 63, 1 << 40, 1_000_000])
    func absurdMetadataCount(count: UInt64) {
        var file = HostileFileTests.sound
        file.metadataCount = count
        expect(.absurdCount, "metadata count", file)
    }

    @Test(arguments: [UInt64.max, 1 << 63, 1 << 40, 1_000_000])
    func absurdLengths(count: UInt64) {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.number(count) + RawGGUF.text("key")]
        expect(.absurdCount, "metadata key 0", file)
        file.pairs = [RawGGUF.pair("key", type: 8, RawGGUF.number(count))]
        expect(.absurdCount, "value of 'key'", file)
        for type: UInt32 in 0...12 {
            file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: type, count: count, []))]
            expect(.absurdCount, "element count of 'key'", file)
        }
        file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: 8, count: 1, RawGGUF.number(count)))]
        expect(.absurdCount, "a string of 'key'", file)
    }

    /// One byte more than there is: the border of every check.
    @Test func lengthsJustBeyondTheEnd() {
        for beyond: UInt64 in [1, 2, 7, 8, 9] {
            var file = RawGGUF()
            file.alignment = 1
            file.pairs = [RawGGUF.pair("0123456789", type: 8, RawGGUF.number(4 + beyond) + [1, 2, 3, 4])]
            expect(.absurdCount, "is \(4 + beyond), but the 4 bytes", file)
            file.pairs = [RawGGUF.pair("0123456789", type: 9, RawGGUF.array(type: 0, count: 4 + beyond, [1, 2, 3, 4]))]
            expect(.absurdCount, "is \(4 + beyond), but the 4 bytes", file)
            file.pairs = [RawGGUF.number(10 + beyond) + "0123456789".utf8]
            expect(.absurdCount, "is \(10 + beyond), but the 10 bytes", file)
        }
    }

    /// More than is allowed, though all of it is there.
    @Test func limits() {
        var file = RawGGUF()
        file.pairs = (0...ModelFileLimits.metadataEntriesMax).map { RawGGUF.pair("k\($0)", type: 0, [0]) }
        expect(.limitExceeded, "metadata pairs", file)

        file.pairs = [RawGGUF.pair(String(repeating: "k", count: ModelFileLimits.keyBytesMax + 1), type: 0, [0])]
        expect(.limitExceeded, "metadata key 0", file)

        let inner = RawGGUF.array(type: 0, count: 0, [])
        let many = ModelFileLimits.innerArraysMax + 1
        let elements = (0..<many).flatMap { _ in inner }
        file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: 9, count: UInt64(many), elements))]
        expect(.limitExceeded, "arrays within arrays", file)

        file = HostileFileTests.sound
        file.tensors[0].name = String(repeating: "t", count: ModelFileLimits.tensorNameBytesMax + 1)
        expect(.limitExceeded, "name of tensor 0", file)
    }

    @Test func tooManyTensors() {
        var file = RawGGUF()
        file.tensorCount = UInt64(ModelFileLimits.tensorsMax + 1)
        file.data = [UInt8](repeating: 0, count: (ModelFileLimits.tensorsMax + 1) * 33)
        expect(.limitExceeded, "tensors", file)
    }

    // MARK: Metadata

    @Test func invalidTexts() {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.number(UInt64(2)) + [0xC3, 0x28] + RawGGUF.number(UInt32(0)) + [0]]
        expect(.invalidText, "not valid UTF-8", file)
        file.pairs = [RawGGUF.pair("", type: 0, [0])]
        file.pairs.append(RawGGUF.pair("padding", type: 0, [0]))
        expect(.invalidText, "empty", file)
        file.pairs = [RawGGUF.pair("key", type: 8, RawGGUF.number(UInt64(1)) + [0xFF])]
        expect(.invalidText, "the value of 'key'", file)
        // A surrogate, an overlong slash and a number beyond Unicode.
        for bytes: [UInt8] in [[0xED, 0xA0, 0x80], [0xC0, 0xAF], [0xF5, 0x80, 0x80, 0x80]] {
            let element = RawGGUF.number(UInt64(bytes.count)) + bytes
            file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: 8, count: 1, element))]
            expect(.invalidText, "a string of 'key'", file)
        }
        file = HostileFileTests.sound
        file.tensors[0].name = ""
        file.tensors[0].dimensions = [4, 1]
        expect(.invalidText, "empty name", file)
    }

    @Test(arguments: [13, 255, UInt32.max])
    func unknownMetadataType(type: UInt32) {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.pair("key", type: type, [0, 0, 0, 0])]
        expect(.unknownMetadataType, "'key' has type \(type)", file)
        file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: type, count: 1, [0]))]
        expect(.unknownMetadataType, "'key' has type \(type)", file)
    }

    @Test func duplicateKey() {
        var file = HostileFileTests.sound
        file.pairs.append(file.pairs[0])
        expect(.duplicateKey, "'general.architecture' appears twice", file)
    }

    @Test func boolsAreZeroOrOne() {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.pair("key", type: 7, [2])]
        expect(.invalidValue, "the byte 2", file)
        file.pairs = [RawGGUF.pair("key", type: 9, RawGGUF.array(type: 7, count: 3, [0, 1, 255]))]
        expect(.invalidValue, "the byte 255", file)
    }

    @Test func nestingIsBounded() throws {
        func nested(_ depth: Int) -> [UInt8] {
            depth == 1 ? RawGGUF.array(type: 0, count: 1, [7]) : RawGGUF.array(type: 9, count: 1, nested(depth - 1))
        }
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.pair("key", type: 9, nested(ModelFileLimits.arrayDepthMax))]
        _ = try GGUFFile(parts: [file.bytes])
        file.pairs = [RawGGUF.pair("key", type: 9, nested(ModelFileLimits.arrayDepthMax + 1))]
        expect(.nestedTooDeep, "'key'", file)
        // Ten thousand levels: deep enough to end a process that recursed without a bound.
        file.pairs = [RawGGUF.pair("key", type: 9, (0..<10_000).flatMap { _ in RawGGUF.array(type: 9, count: 1, []) })]
        expect(.nestedTooDeep, "'key'", file)
    }

    @Test(arguments: [0, 1, 4, 24, 48, 1 << 21, UInt32.max])
    func alignmentIsAPowerOfTwo(alignment: UInt32) {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.pair("general.alignment", type: 4, RawGGUF.number(alignment))]
        expect(.invalidValue, "general.alignment is \(alignment)", file)
    }

    @Test func alignmentOfAWrongType() {
        var file = HostileFileTests.sound
        file.pairs = [RawGGUF.pair("general.alignment", type: 8, RawGGUF.text("32"))]
        expect(.wrongMetadataType, "general.alignment", file)
    }

    // MARK: Tensors

    @Test func unknownTensorTypes() {
        var file = HostileFileTests.sound
        for (type, name) in [(UInt32(16), "IQ2_XXS"), (9, "Q8_1"), (4, "withdrawn"), (39, "MXFP4"), (5000, "unknown type 5000")] {
            file.tensors[0].type = type
            expect(.unknownTensorType, name, file)
        }
        file.tensors[0].type = UInt32.max
        expect(.unknownTensorType, "'t'", file)
    }

    @Test func duplicateTensor() {
        var file = HostileFileTests.sound
        file.tensors.append(RawGGUF.TensorInfo(offset: 32))
        file.data = [UInt8](repeating: 0, count: 48)
        expect(.duplicateTensor, "'t' appears twice", file)
    }

    @Test func dimensions() {
        var file = HostileFileTests.sound
        file.tensors[0].dimensions = [1, 1, 1, 1, 4]
        expect(.invalidShape, "5 dimensions", file)
        file.tensors[0].dimensionCount = UInt32.max
        expect(.invalidShape, "\(UInt32.max) dimensions", file)
        file.tensors[0].dimensions = [4]
        file.tensors[0].dimensionCount = 0
        expect(.invalidShape, "0 dimensions", file)
        file.tensors[0].dimensionCount = nil
        file.tensors[0].dimensions = [4, 0]
        expect(.invalidShape, "dimension 1", file)
        file.tensors[0].dimensions = [UInt64.max]
        expect(.invalidShape, "dimension 0", file)
    }

    @Test func shapesThatOverflow() {
        var file = HostileFileTests.sound
        for dimensions: [UInt64] in [
            [1 << 62, 4], [1 << 32, 1 << 32], [1 << 31, 1 << 31, 1 << 31, 1 << 31], [(1 << 63) - 1, (1 << 63) - 1],
        ] {
            file.tensors[0].dimensions = dimensions
            expect(.invalidShape, "more than a machine can address", file)
        }
        // Two-bit elements: the bytes can be counted, the elements cannot.
        file.tensors[0].type = 10
        file.tensors[0].dimensions = [1 << 8, (1 << 55) + 1]
        expect(.invalidShape, "more than a machine can address", file)
    }

    @Test func raggedRows() {
        var file = HostileFileTests.sound
        for (type, block) in [(UInt32(8), 32), (12, 256)] {
            file.tensors[0].type = type
            file.tensors[0].dimensions = [UInt64(block) - 1, UInt64(block)]
            expect(.raggedRow, "a multiple of the \(block)", file)
        }
    }

    @Test func misalignedTensor() {
        var file = HostileFileTests.sound
        file.tensors[0].offset = 8
        file.data = [UInt8](repeating: 0, count: 24)
        expect(.misalignedTensor, "offset 8", file)
    }

    @Test func tensorsOutsideTheFile() {
        var file = HostileFileTests.sound
        for offset: UInt64 in [32, 1 << 32, 1 << 63, UInt64.max - 31] {
            file.tensors[0].offset = offset
            expect(.tensorOutsideFile, "'t'", file)
        }
        file.tensors[0].offset = 0
        file.tensors[0].dimensions = [1 << 60]
        expect(.tensorOutsideFile, "'t'", file)
    }

    @Test func overlappingTensors() {
        var file = HostileFileTests.sound
        file.tensors = [
            RawGGUF.TensorInfo(name: "a", dimensions: [16]), RawGGUF.TensorInfo(name: "b", dimensions: [8], offset: 32),
        ]
        file.data = [UInt8](repeating: 0, count: 64)
        expect(.overlappingTensors, "'a' and 'b'", file)
        // One inside the other, from the same start.
        file.tensors[1].offset = 0
        expect(.overlappingTensors, "'a' and 'b'", file)
    }

    @Test func bytesThatNobodyClaims() throws {
        var file = HostileFileTests.sound
        file.tensors[0].offset = 32
        file.data = [UInt8](repeating: 0, count: 48)
        expect(.unclaimedBytes, "32 bytes before the tensor 't'", file)

        file = HostileFileTests.sound
        file.data = [UInt8](repeating: 0, count: 16 + 32)
        expect(.trailingBytes, "32 bytes follow", file)
        // Less than one alignment is padding.
        file.data = [UInt8](repeating: 0, count: 16 + 31)
        _ = try GGUFFile(parts: [file.bytes])
        // Two files joined.
        let whole = HostileFileTests.sound.bytes
        expect(.trailingBytes, "", whole + whole)
    }

    @Test func aFileOfMetadataAlone() throws {
        var file = HostileFileTests.sound
        file.tensors = []
        file.data = []
        #expect(try GGUFFile(parts: [file.bytes]).tensors.isEmpty)
        file.data = [UInt8](repeating: 0, count: 32)
        expect(.trailingBytes, "", file)
    }

    // MARK: The file system

    @Test func filesThatCannotBeOpened() {
        #expect { _ = try GGUFFile(path: "/nonexistent/model.gguf") } throws: {
            guard let error = $0 as? ModelFileError else { return false }
            return error.code == .cannotOpen && error.message.contains("/nonexistent/model.gguf") && error.cause != nil
        }
        #expect { _ = try GGUFFile(path: "/tmp") } throws: { ($0 as? ModelFileError)?.code == .notAFile }
        #expect { _ = try GGUFFile(path: "/dev/null") } throws: { ($0 as? ModelFileError)?.code == .notAFile }
    }
}
