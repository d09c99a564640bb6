/// Rows that a stage handed on, by KV block and place in the block, bit for bit: where the stage after it is lost, they are what its successor needs
/// to compute again. Blocks that were never written cost no memory.
///
/// `@unchecked Sendable`, because pointers are not: one thread at a time reads or writes it.
package final class BoundaryStore: @unchecked Sendable {
    /// Of the model: the layer behind the rows.
    package let boundary: Int
    package let blocks: Int
    private let rowBytes: Int
    private let memory: AlignedMemory

    /// Throws `memoryUnavailable`.
    package init(boundary: Int, blocks: Int, rowBytes: Int) throws(EngineError) {
        self.boundary = boundary
        self.blocks = blocks
        self.rowBytes = rowBytes
        memory = try AlignedMemory(byteCount: max(1, blocks * KVMemory.positionsPerBlock * rowBytes), for: "rows that are handed on")
    }

    private func place(_ position: Int, _ blocks: UnsafeBufferPointer<Int32>) -> UnsafeMutableRawPointer? {
        let size = KVMemory.positionsPerBlock
        let block = Int(blocks[position / size])
        return block < self.blocks ? memory.base + (block * size + position % size) * rowBytes : nil
    }

    /// Keeps the rows of positions from `start` on, as far as there is room for their blocks.
    func keep(_ rows: UnsafeRawBufferPointer, from start: Int, blocks: UnsafeBufferPointer<Int32>) {
        for row in 0..<rows.count / rowBytes {
            place(start + row, blocks)?.copyMemory(from: rows.baseAddress! + row * rowBytes, byteCount: rowBytes)
        }
    }

    /// Fills `rows`; `false` where some were not kept.
    func read(_ rows: UnsafeMutableRawBufferPointer, from start: Int, blocks: UnsafeBufferPointer<Int32>) -> Bool {
        for row in 0..<rows.count / rowBytes {
            guard let place = place(start + row, blocks) else { return false }
            (rows.baseAddress! + row * rowBytes).copyMemory(from: place, byteCount: rowBytes)
        }
        return true
    }

    func copy(from: Int, to: Int) {
        guard from != to, max(from, to) < blocks else { return }
        let bytes = KVMemory.positionsPerBlock * rowBytes
        (memory.base + to * bytes).copyMemory(from: memory.base + from * bytes, byteCount: bytes)
    }
}
