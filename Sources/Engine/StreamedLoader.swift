import ModelFiles

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Brings a slice that is larger than its memory to where it can be streamed from: what the cache lacks is packed into it, unit by unit and a
/// window at a time, before anything is served.
struct StreamedLoader {
    /// Between two looks at a file that another process writes.
    private static let busyPauseMs: UInt32 = 20

    let layouts: [WeightLayout]
    let residency: WeightResidency
    let file: any ModelSource
    let cache: PackedCache
    let entries: [PackedEntry]
    let pool: ComputePool

    struct Loaded {
        var units: StreamedUnits
        var report: LoadReport
    }

    /// Throws `cacheUnusable` where there is no folder to stream from, saying what it would need.
    init(
        _ layouts: [WeightLayout], _ residency: WeightResidency, file: any ModelSource, cache: PackedCache?, pool: ComputePool
    ) throws {
        self.layouts = layouts
        self.residency = residency
        self.file = file
        self.pool = pool
        guard let cache else {
            throw EngineError(
                .cacheUnusable,
                "The weights of this stage are larger than the memory they may take (--weights-memory), so they are streamed from the cache of packed weights, which is switched off (--cache-limit 0). Allow it \(layouts.reduce(0) { $0 + $1.byteCount }) bytes."
            )
        }
        self.cache = cache
        let digest = ModelDigest(file)
        var entries: [PackedEntry] = []
        for layout in layouts { entries.append(try cache.entry(layout, of: file, digest: digest)) }
        self.entries = entries
    }

    func load(_ begin: WeightBegin, _ told: @escaping (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> Loaded {
        var report = LoadReport()
        let resident = begin == .later ? 0 : residency.resident.reduce(0) { $0 + layouts[$1].byteCount }
        var progress = LoadProgress(bytesTotal: layouts.reduce(resident) { $0 + $1.sourceBytes }, told: told)
        var files = try openFiles(&report, &progress)
        while true {
            let units = try StreamedUnits(layouts, residency, files: files)
            do {
                if begin != .later {
                    try units.fill(pool: pool) { bytes in
                        progress.add(bytes)
                        try progress.tell()
                    }
                }
                if begin == .now { try units.start(pool: pool) { _ in } }
                report.residentBytes = residency.resident.reduce(0) { $0 + layouts[$1].byteCount }
                report.streamedBytes = units.bytesPerStep
                return Loaded(units: units, report: report)
            } catch let error as EngineError where error.code == .weightsLost && report.refused.count < layouts.count {
                // Its file is gone; what is there is opened again, and that one packed.
                let lost = layouts.indices.filter { access(cache.path(entries[$0]), F_OK) != 0 }
                guard !lost.isEmpty else { throw error }
                report.refused += lost.map { (layouts[$0].unit, .damagedWeights) }
                progress.doAgain(layouts.reduce(resident) { $0 + $1.sourceBytes })
                files = try openFiles(&report, &progress)
            }
        }
    }

    // MARK: Files

    private func openFiles(_ report: inout LoadReport, _ progress: inout LoadProgress) throws -> [StreamedFile] {
        var files: [StreamedFile?] = []
        for (entry, layout) in zip(entries, layouts) {
            let found = open(entry, &report)
            files.append(found)
            if found != nil { progress.add(layout.sourceBytes) }
        }
        try progress.tell()
        let missing = files.indices.filter { files[$0] == nil }
        guard !missing.isEmpty else { return files.map { $0! } }
        var reserved = Dictionary(uniqueKeysWithValues: zip(missing, try reserve(missing)))
        // Its own ones first: who waits for another's file must not hold one that the other waits for.
        for index in missing.filter({ reserved[$0]! != nil }) + missing.filter({ reserved[$0]! == nil }) {
            files[index] = try pack(index, reserved.removeValue(forKey: index)!, &report, &progress)
            report.packedBytes += layouts[index].byteCount
        }
        return files.map { $0! }
    }

    private func open(_ entry: PackedEntry, _ report: inout LoadReport) -> StreamedFile? {
        switch cache.open(entry) {
        case .success(let file): return file.map { StreamedFile(file: $0, path: cache.path(entry)) }
        case .failure(let refusal):
            report.refused.append((entry.table.unit, refusal))
            return nil
        }
    }

    /// Before the first byte is written: a disk that is too small shows at once, with what all of the slice needs. `nil`: another process writes it.
    private func reserve(_ missing: [Int]) throws(EngineError) -> [PackedReservation?] {
        do throws(EngineError) {
            return try PackedReservation.make(missing.map { entries[$0] }, in: cache)
        } catch {
            let needed = missing.reduce(0) { $0 + entries[$1].table.fileBytes }
            throw EngineError(
                .cacheUnusable,
                "The weights of this stage are larger than the memory they may take (--weights-memory), so they are streamed from the cache '\(cache.folder)', which needs \(needed) bytes more for them: make room there, name a folder on a larger disk with --cache, or raise --cache-limit.",
                cause: error)
        }
    }

    /// Into the cache, or another process does it.
    private func pack(
        _ index: Int, _ reserved: PackedReservation?, _ report: inout LoadReport, _ progress: inout LoadProgress
    ) throws -> StreamedFile {
        var reserved = reserved
        while reserved == nil {
            usleep(Self.busyPauseMs * 1000)
            try progress.tell()
            if let file = openIfWhole(index, &progress) { return file }
            // Whoever wrote it may have died over it.
            reserved = try reserve([index])[0]
        }
        // Another process may have finished it since it was looked for.
        if let file = openIfWhole(index, &progress) { return file }
        var window = try UnitWindow(layouts[index], pool: pool)
        let outcome = try PackedWriter.write(reserved!, leavesNothingCached: true, isCancelled: { false }) { range in
            let bytes = try window.bytes(range)
            progress.add(window.takeSourceBytesDone())
            try progress.tell()
            return bytes
        }
        precondition(outcome == .written, "a writer that nobody cancels")
        if let file = open(entries[index], &report) { return file }
        throw EngineError(
            .cacheUnusable,
            "The cache file '\(cache.path(entries[index]))' was written, but can't be opened. Look at the disk, and at who else uses that folder.")
    }

    /// By another process; what is there and can't be used was reported before.
    private func openIfWhole(_ index: Int, _ progress: inout LoadProgress) -> StreamedFile? {
        guard case .success(let file?) = cache.open(entries[index]) else { return nil }
        progress.add(layouts[index].sourceBytes)
        return StreamedFile(file: file, path: cache.path(entries[index]))
    }
}
