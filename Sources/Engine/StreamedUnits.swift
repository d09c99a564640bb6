import CKernels
import ModelFiles

/// A slice that takes less memory than its weights are: what `WeightResidency` says stays in memory, the rest comes from the cache's files as it
/// is needed.
///
/// `@unchecked Sendable`: made by one thread and handed to the one that runs the stage, which alone calls what changes it.
final class StreamedUnits: @unchecked Sendable {
    let residency: WeightResidency
    /// By layout.
    private let files: [StreamedFile]
    private let memory: AlignedMemory
    private let residentAt: [Int: Int]
    private let windowAt: Int
    /// By layer of the slice: which of those that are streamed it is.
    private var ordinals: [Int?] = []
    private var stream: LayerStream?
    private var isFilled = false
    private var isStarted = false
    private(set) var rows: EmbeddingRows?

    /// Reserves the memory and reads nothing.
    init(_ layouts: [WeightLayout], _ residency: WeightResidency, files: [StreamedFile]) throws(EngineError) {
        self.residency = residency
        self.files = files
        // The ring lies first.
        var bytes = residency.slots * residency.slotBytes
        var residentAt: [Int: Int] = [:]
        for index in residency.resident {
            residentAt[index] = bytes
            bytes += WeightResidency.pages(layouts[index].byteCount)
        }
        self.residentAt = residentAt
        windowAt = bytes
        if let embedding = residency.embedding { bytes += EmbeddingRows.windowBytes(layouts[embedding].matrices[0].place) }
        memory = try AlignedMemory(byteCount: bytes, for: "the weights")
        for (index, layout) in layouts.enumerated() {
            if case .layer = layout.unit { ordinals.append(residency.streamed.firstIndex(of: index)) }
        }
        if let embedding = residency.embedding {
            rows = EmbeddingRows(files[embedding], layouts[embedding].matrices[0].place, window: memory.base + windowAt, of: memory)
        }
        for file in files { file.file.openDirectly() }
    }

    /// Where a unit lies: one place for what stays, each place of the ring for what is streamed, none for what is looked up.
    func places(_ index: Int, byteCount: Int) -> [WeightBytes] {
        if let offset = residentAt[index] { return [WeightBytes(base: memory.base + offset, byteCount: byteCount, owner: memory)] }
        guard residency.streamed.contains(index) else { return [] }
        return (0..<residency.slots).map {
            WeightBytes(base: memory.base + $0 * residency.slotBytes, byteCount: byteCount, owner: memory)
        }
    }

    /// Bytes from the disk for a step.
    var bytesPerStep: Int { residency.streamed.reduce(0) { $0 + files[$1].file.table.dataBytes } }

    /// Reads unit `index`, which stays, into its place. Throws `weightsLost`.
    func read(_ index: Int, pool: ComputePool) throws(EngineError) {
        let file = files[index]
        let base = memory.base + residentAt[index]!
        let chunks = file.file.table.chunkCount
        var failures = [EngineError?](repeating: nil, count: pool.threads)
        failures.withUnsafeMutableBufferPointer { failures in
            pool.run { thread, threads in
                for chunk in stride(from: thread, to: chunks, by: threads) {
                    do throws(EngineError) {
                        try file.read(chunk..<chunk + 1, to: base + chunk * PackedTable.chunkBytes)
                    } catch {
                        failures[thread] = error
                        return
                    }
                }
            }
        }
        for case let failure? in failures { throw failure }
    }

    /// Reads what stays; does nothing the second time. Throws `weightsLost`.
    func fill(pool: ComputePool, progress: (_ bytes: Int) throws -> Void) throws {
        guard !isFilled else { return }
        for index in residency.resident {
            try read(index, pool: pool)
            try progress(files[index].file.table.dataBytes)
        }
        isFilled = true
    }

    /// Reads what stays and begins to read ahead, by threads that are as the calling one; does nothing the second time. Throws `weightsLost`.
    func start(pool: ComputePool, progress: (_ bytes: Int) throws -> Void) throws {
        guard !isStarted else { return }
        try fill(pool: pool, progress: progress)
        if !residency.streamed.isEmpty {
            let places = (0..<residency.slots).map { memory.base + $0 * residency.slotBytes }
            stream = try LayerStream(residency.streamed.map { files[$0] }, places: places, of: memory)
        }
        isStarted = true
    }

    /// Waits until layer `index` of the slice is in memory and says in which of its places. Throws `weightsLost`.
    func acquire(layer index: Int) throws(EngineError) -> Int {
        precondition(isStarted, "weights that were not started")
        guard let ordinal = ordinals[index] else { return 0 }
        return try stream!.acquire(ordinal)
    }

    /// It is computed.
    func release(layer index: Int) { if ordinals[index] != nil { stream!.release() } }

    var totals: StreamTotals { stream?.totals ?? StreamTotals() }
}
