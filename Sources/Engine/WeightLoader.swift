import CKernels
import ModelFiles

/// Brings a slice's weights into memory: units that the cache has are mapped or copied from it, the others are packed from
/// the model file. All threads of the pool work; beside the weights there is one bounded buffer a thread.
///
/// Work goes in waves: one run of the pool, then progress is told and may end the loading.
struct WeightLoader {
    /// Bytes of the file, or of the cache, that one wave reads: enough to keep all threads busy, little enough that
    /// progress is told several times a second from a slow disk.
    static let waveBytes = 32 << 20
    /// Bytes of the file that one thread packs at a time, unless sixteen rows are more.
    static let pieceBytes = 512 << 10

    let layouts: [WeightLayout]
    /// For each layout, where the cache has it or could have it; nil where there is no cache.
    let entries: [PackedEntry]?
    let cache: PackedCache?
    let placement: WeightPlacement
    let pool: ComputePool

    /// What became of the slice, unit by unit.
    struct Loaded {
        var weights: [WeightBytes]
        var report: LoadReport
        /// Indices of the units that were packed from the model file.
        var packed: [Int]
    }

    init(
        _ layouts: [WeightLayout], file: any ModelSource, cache: PackedCache?, placement: WeightPlacement, pool: ComputePool
    ) throws(ModelFileError) {
        self.layouts = layouts
        self.cache = cache
        self.placement = placement
        self.pool = pool
        guard let cache else {
            entries = nil
            return
        }
        let digest = ModelDigest(file)
        var entries: [PackedEntry] = []
        for layout in layouts { entries.append(try cache.entry(layout, of: file, digest: digest)) }
        self.entries = entries
    }

    /// `told` is called on this thread with the bytes done and the bytes in all; what it throws ends the loading.
    func load(_ told: @escaping (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> Loaded {
        var progress = LoadProgress(bytesTotal: layouts.reduce(0) { $0 + $1.sourceBytes }, told: told)
        var report = LoadReport()
        var files = openFiles(&report)
        try keepMapped(&files, &report, &progress)

        // What is not mapped lies in one piece of memory.
        let own = layouts.indices.filter { files[$0]?.isMapped != true }
        var places: [Int: Int] = [:]
        var byteCount = 0
        for index in own {
            places[index] = byteCount
            byteCount += layouts[index].byteCount
        }
        let memory = try AlignedMemory(byteCount: byteCount, for: "the weights")
        if placement == .nearTheirThreads { WeightPlacement.touch(own.map { (layouts[$0], memory.base + places[$0]!) }, pool: pool) }

        try copy(own.filter { files[$0] != nil }, of: &files, &report, &progress) { memory.base + places[$0]! }
        let packed = own.filter { files[$0] == nil }
        try WeightPacker(pool: pool).pack(packed.map { (layouts[$0], memory.base + places[$0]!) }, &progress)

        for index in layouts.indices {
            let bytes = layouts[index].byteCount
            report.packedBytes += files[index] == nil ? bytes : 0
            report.copiedBytes += files[index]?.isMapped == false ? bytes : 0
            report.mappedBytes += files[index]?.isMapped == true ? bytes : 0
        }
        let weights = layouts.indices.map { index in
            places[index].map {
                let bytes = layouts[index].byteCount
                return WeightBytes(base: memory.base + $0, byteCount: bytes, owner: MemoryPart(memory, $0..<$0 + bytes))
            }
                ?? files[index]!.file.mapped
        }
        return Loaded(weights: weights, report: report, packed: packed)
    }

    /// A unit that the cache has.
    private struct Found {
        let file: PackedFile
        var isMapped = false
    }

    private func openFiles(_ report: inout LoadReport) -> [Found?] {
        guard let cache, let entries else { return layouts.map { _ in nil } }
        return entries.map { entry in
            switch cache.open(entry) {
            case .success(let file): return file.map { Found(file: $0) }
            case .failure(let refusal):
                report.refused.append((entry.table.unit, refusal))
                return nil
            }
        }
    }

    // MARK: From the cache

    /// Maps and checks what was found, and keeps the mappings that lie in huge pages; the others are left to be copied into
    /// memory that does. The first unit large enough to tell is looked at before the rest is fetched twice.
    private func keepMapped(_ files: inout [Found?], _ report: inout LoadReport, _ progress: inout LoadProgress) throws {
        guard placement == .anywhere else { return }
        let found = files.indices.filter { files[$0] != nil }
        let first = found.first { layouts[$0].byteCount >= AlignedMemory.hugePagesFromBytes }
        if let first {
            try map([first], &files, &report, &progress)
            if files[first] != nil, files[first]?.isMapped == false { return }
        }
        try map(found.filter { $0 != first }, &files, &report, &progress)
    }

    private func map(_ units: [Int], _ files: inout [Found?], _ report: inout LoadReport, _ progress: inout LoadProgress) throws {
        let able = units.filter { files[$0]!.file.map() }
        let intact = try check(able, &files, &report, &progress) { file, chunk, _ in file.isIntact(chunk: chunk) }
        let huge = HugePages.mappedBytes(at: intact.map { files[$0]!.file.mapped.base })
        let isCopyBetter = HugePages.areGivenToMemory
        for (unit, bytes) in zip(intact, huge) {
            let possible = layouts[unit].byteCount / AlignedMemory.hugePageBytes * AlignedMemory.hugePageBytes
            if bytes * 2 >= possible || !isCopyBetter {
                files[unit]!.isMapped = true
                report.hugePageBytes += bytes
            } else {
                files[unit]!.file.unmap()
                progress.doAgain(layouts[unit].sourceBytes)
            }
        }
    }

    private func copy(
        _ units: [Int], of files: inout [Found?], _ report: inout LoadReport, _ progress: inout LoadProgress,
        to base: (Int) -> UnsafeMutableRawPointer
    ) throws {
        let bases = Dictionary(uniqueKeysWithValues: units.map { ($0, base($0)) })
        _ = try check(units, &files, &report, &progress) { file, chunk, unit in file.read(chunk: chunk, to: bases[unit]!) }
    }

    /// Runs `take` on every chunk of the units, and forgets the file of each unit of which a chunk was not as it was written.
    /// Gives the others.
    private func check(
        _ units: [Int], _ files: inout [Found?], _ report: inout LoadReport, _ progress: inout LoadProgress,
        _ take: (PackedFile, _ chunk: Int, _ unit: Int) -> Bool
    ) throws -> [Int] {
        let chunks = units.flatMap { unit in (0..<files[unit]!.file.table.chunkCount).map { (unit: unit, chunk: $0, file: files[unit]!.file) } }
        var isGood = [Bool](repeating: false, count: chunks.count)
        let wave = Self.waveBytes / PackedTable.chunkBytes
        for start in stride(from: 0, to: chunks.count, by: wave) {
            let end = min(start + wave, chunks.count)
            isGood.withUnsafeMutableBufferPointer { isGood in
                pool.run { thread, threads in
                    for index in stride(from: start + thread, to: end, by: threads) {
                        isGood[index] = take(chunks[index].file, chunks[index].chunk, chunks[index].unit)
                    }
                }
            }
            for (unit, chunk, file) in chunks[start..<end] {
                progress.add(layouts[unit].sourceBytes, part: chunk, of: file.table.chunkCount)
            }
            try progress.tell()
        }
        let bad = Set(zip(chunks, isGood).filter { !$0.1 }.map(\.0.unit))
        for unit in bad.sorted() {
            files[unit] = nil
            report.refused.append((layouts[unit].unit, .damagedWeights))
            progress.doAgain(layouts[unit].sourceBytes)
        }
        return units.filter { !bad.contains($0) }
    }
}

/// Where a slice's weights came from.
package struct LoadReport: Sendable {
    /// Packed from the model file.
    package var packedBytes = 0
    /// Mapped from the cache.
    package var mappedBytes = 0
    /// Of these, in huge pages.
    package var hugePageBytes = 0
    /// Read from the cache into memory.
    package var copiedBytes = 0
    /// Read from the cache into memory that the weights may take, where they may not take as much as they are...
    package var residentBytes = 0
    /// ... and read from it with every step.
    package var streamedBytes = 0
    /// Files of the cache that were not used, and why.
    package var refused: [(unit: WeightUnit, refusal: PackedRefusal)] = []

    package var cachedBytes: Int { mappedBytes + copiedBytes + residentBytes }
}

/// How far a load is: bytes of the model file that are in memory, or need not be read because the cache had them.
struct LoadProgress {
    private var bytesDone = 0
    /// Grows when work was for nothing and is done again, so that what is done never shrinks.
    private var bytesTotal: Int
    private let told: (Int, Int) throws -> Void

    init(bytesTotal: Int, told: @escaping (Int, Int) throws -> Void) {
        self.bytesTotal = bytesTotal
        self.told = told
    }

    mutating func add(_ bytes: Int) { bytesDone += bytes }

    /// Part `part` of `count` of something with so many bytes.
    mutating func add(_ bytes: Int, part: Int, of count: Int) { bytesDone += bytes * (part + 1) / count - bytes * part / count }

    mutating func doAgain(_ bytes: Int) { bytesTotal += bytes }

    func tell() throws { try told(bytesDone, bytesTotal) }
}
