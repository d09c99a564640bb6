import Foundation
import ModelFiles
import Testing

/// Reading past the mapping: the same bytes, and errors where the mapping would end the process.
@Suite struct TensorReadTests {
    private let folder: TemporaryFolder
    private let path: String

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file("model.gguf")
        try writer().write(to: path)
    }

    private func writer() -> GGUFWriter {
        var writer = GGUFWriter()
        writer.add("a", shape: [64, 3], floats: (0..<192).map(Float.init))
        writer.add("b", type: .q8_0, shape: [32, 500], bytes: (0..<500 * 34).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        return writer
    }

    private func read(_ tensor: Tensor, _ range: Range<Int>) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: range.count)
        try bytes.withUnsafeMutableBytes { try tensor.read(range, into: $0) }
        return bytes
    }

    @Test func bytesAreThoseOfTheMapping() throws {
        for file in [try GGUFFile(path: path), try GGUFFile(parts: [try writer().bytes()])] {
            for tensor in file.tensors {
                for range in [0..<tensor.byteCount, 0..<0, 5..<6, tensor.byteCount - 1..<tensor.byteCount, tensor.byteCount..<tensor.byteCount] {
                    tensor.willRead(range)
                    #expect(try read(tensor, range) == Array(tensor.bytes[range]))
                }
            }
        }
    }

    @Test func aReplacedFileIsStillTheOneThatWasOpened() throws {
        let file = try GGUFFile(path: path)
        let before = try read(file.tensors[1], 0..<100)
        try Data(count: 10).write(to: URL(fileURLWithPath: path), options: .atomic)
        #expect(try read(file.tensors[1], 0..<100) == before)
    }

    @Test func aFileCutShortIsAnError() throws {
        let file = try GGUFFile(path: path)
        #expect(truncate(path, off_t(file.tensors[1].fileOffset + 40)) == 0)
        #expect(try read(file.tensors[1], 0..<40).count == 40)
        let error = #expect(throws: ModelFileError.self) { try read(file.tensors[1], 0..<41) }
        #expect(error?.code == .cannotRead && error?.message.contains(path) == true)
    }

    @Test func stampsAreSizeAndTime() throws {
        var times = [timespec(tv_sec: 7, tv_nsec: 5), timespec(tv_sec: 7, tv_nsec: 5)]
        #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
        let file = try GGUFFile(path: path)
        #expect(file.stamps.map(\.byteCount) == [file.fileBytes] && file.stamps.map(\.modifiedNanoseconds) == [7_000_000_005])
        let inMemory = try GGUFFile(parts: [try writer().bytes()])
        #expect(inMemory.stamps.map(\.byteCount) == [file.fileBytes] && inMemory.stamps.map(\.modifiedNanoseconds) == [0])
    }
}
