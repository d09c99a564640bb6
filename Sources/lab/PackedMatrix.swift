import CKernels
import Foundation
import ModelFiles

/// A matrix of random weights, packed.
final class PackedMatrix {
    let rows: Int
    let columns: Int
    let byteCount: Int
    let isFloat: Bool
    private let base: UnsafeMutableRawPointer
    let kernelMatrix: sk_matrix

    /// Rows that are made and packed at a time; a multiple of the kernels' row group.
    private static let chunkRows = 256
    private static let hugePageBytes = 2 << 20

    init(type: TensorType, rows: Int, columns: Int) {
        let kernelType = sk_type(rawValue: UInt32(type.rawValue))
        self.rows = rows
        self.columns = columns
        isFloat = type.isFloat
        byteCount = sk_packed_bytes(kernelType, Int32(rows), Int32(columns))
        base = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: Self.hugePageBytes)
        #if canImport(Glibc)
            // As the probe has it. What it measures and what is measured must not differ in their pages.
            madvise(base, byteCount, MADV_HUGEPAGE)
        #endif
        let blocks = SyntheticBlocks(type: type, deviation: 1 / Float(columns).squareRoot())
        let rowBytes = type.rowBytes(columns: columns)
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunkRows * rowBytes, alignment: 64)
        defer { chunk.deallocate() }
        for first in stride(from: 0, to: rows, by: Self.chunkRows) {
            let count = min(Self.chunkRows, rows - first)
            blocks.fill(UnsafeMutableRawBufferPointer(rebasing: chunk[..<(count * rowBytes)]), seed: UInt64(first))
            let place = base + sk_packed_offset(kernelType, Int32(first), Int32(columns))
            sk_pack_rows(kernelType, chunk.baseAddress!, Int32(count), Int32(columns), place)
        }
        kernelMatrix = sk_matrix(type: kernelType, rows: Int32(rows), columns: Int32(columns), packed: base)
    }

    deinit { base.deallocate() }
}
