import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Brings the layers that do not stay in memory from the disk, in the order in which steps compute them and round again to the first: while one is
/// computed, threads of its own fill the other places of the ring.
///
/// The stage thread alone calls `acquire` and `release`, in turn. Nothing is allocated once the threads run.
final class LayerStream: Sendable {
    /// One waits for the disk while another sums up what it got.
    static let readers = 2
    /// Read at once.
    static let blockChunks = 2

    private let ring: LayerRing
    private let threads: [pthread_t]

    /// Begins to read at once.
    ///
    /// - Parameters:
    ///   - files: of the layers, in order; more than `slots`.
    ///   - places: of the ring, each large enough for every layer, from a page on; in `memory`.
    init(_ files: [StreamedFile], places: [UnsafeMutableRawPointer], of memory: AlignedMemory) throws(EngineError) {
        let ring = LayerRing(files, places: places, memory: memory)
        var threads: [pthread_t] = []
        for _ in 0..<Self.readers {
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(ring)
            let result = pthread_create(&thread, nil, { argument in
                sk_processors_as_first_thread()
                Unmanaged<LayerRing>.fromOpaque(argument!).takeRetainedValue().read()
                return nil
            }, argument.toOpaque())
            if result == 0 { threads.append(thread) } else { argument.release() }
        }
        self.ring = ring
        self.threads = threads
        guard !threads.isEmpty else {
            throw EngineError(.threadsUnavailable, "The system would not give a thread that reads weights from disk. Raise its limit.")
        }
    }

    deinit {
        ring.end()
        for thread in threads { pthread_join(thread, nil) }
    }

    /// Waits until layer `index` is in memory and says in which place. Throws `weightsLost`, from then on always.
    func acquire(_ index: Int) throws(EngineError) -> Int { try ring.acquire(index) }

    /// The layer acquired last is computed: its place may be filled anew.
    func release() { ring.release() }

    /// Since the beginning.
    var totals: StreamTotals { ring.totals }
}

/// What was streamed.
package struct StreamTotals: Hashable, Sendable {
    package var bytes: UInt64 = 0
    /// For which the stage thread waited for the disk.
    package var waitNanoseconds: UInt64 = 0
    /// In which at least one read was under way, its checksum included: bytes over it are what the disk gives this process, others beside it.
    package var readNanoseconds: UInt64 = 0

    package init() {}
}

/// The state that the stage thread and the readers share.
///
/// Layers that are wanted are numbered through for ever, by tickets: ticket t is layer (t + shift) mod count and has place t mod places. Tickets
/// below `head` are computed, `head` is the one that the stage has or waits for, those up to `next` are being read or ready. A place is free when
/// the ticket that had it is computed, so `next` is never more than a ring ahead of `head`.
///
/// `@unchecked Sendable`: everything that changes is guarded by the mutex; bytes of a place belong to the readers until it is ready, and to the
/// stage from then until it releases it.
private final class LayerRing: @unchecked Sendable {
    private let files: [StreamedFile]
    private let places: [UnsafeMutableRawPointer]
    private let memory: AlignedMemory
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// Readers wait for a free place.
    private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// The stage waits for a ready one.
    private let ready = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    private var shift = 0
    private var head = 0
    private var next = 0
    /// Of ticket `next`: the first chunk that nobody reads yet.
    private var nextChunk = 0
    /// By place: chunks that are still to come.
    private var missing: [Int]
    private var readsUnderWay = 0
    private var isTurning = false
    private var isEnding = false
    private var failure: EngineError?
    private var counted = StreamTotals()
    /// Up to when `readNanoseconds` counts.
    private var countedTo = ContinuousClock.now

    init(_ files: [StreamedFile], places: [UnsafeMutableRawPointer], memory: AlignedMemory) {
        precondition(places.count >= WeightResidency.slotsMin && files.count > places.count, "a ring smaller than what goes through it")
        self.files = files
        self.places = places
        self.memory = memory
        missing = [Int](repeating: 0, count: places.count)
        precondition(pthread_mutex_init(mutex, nil) == 0 && pthread_cond_init(work, nil) == 0 && pthread_cond_init(ready, nil) == 0)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(work)
        pthread_cond_destroy(ready)
        mutex.deallocate()
        work.deallocate()
        ready.deallocate()
    }

    // MARK: The stage thread

    func acquire(_ index: Int) throws(EngineError) -> Int {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if layer(of: head) != index { turn(to: index) }
        if !isReady(head), failure == nil {
            let started = ContinuousClock.now
            while !isReady(head), failure == nil { pthread_cond_wait(ready, mutex) }
            counted.waitNanoseconds &+= UInt64(clamping: (ContinuousClock.now - started).nanoseconds)
        }
        if let failure { throw failure }
        return head % places.count
    }

    func release() {
        pthread_mutex_lock(mutex)
        head += 1
        pthread_cond_broadcast(work)
        pthread_mutex_unlock(mutex)
    }

    func end() {
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_broadcast(work)
        pthread_mutex_unlock(mutex)
    }

    var totals: StreamTotals {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return counted
    }

    private func layer(of ticket: Int) -> Int { (ticket + shift) % files.count }

    private func isReady(_ ticket: Int) -> Bool { ticket < next && missing[ticket % places.count] == 0 }

    /// Another layer is wanted than the one that would follow: a step that leaves some out. What was read ahead is forgotten.
    private func turn(to index: Int) {
        isTurning = true
        while readsUnderWay > 0 { pthread_cond_wait(ready, mutex) }
        isTurning = false
        for place in missing.indices { missing[place] = 0 }
        shift = ((index - head) % files.count + files.count) % files.count
        (next, nextChunk) = (head, 0)
        pthread_cond_broadcast(work)
    }

    // MARK: Readers

    private struct Task {
        let file: StreamedFile
        let chunks: Range<Int>
        let place: Int
        let bytes: Int
    }

    func read() {
        pthread_mutex_lock(mutex)
        while let task = waitForTask() {
            countTime()
            readsUnderWay += 1
            pthread_mutex_unlock(mutex)
            var lost: EngineError?
            do throws(EngineError) {
                try task.file.read(task.chunks, to: places[task.place] + task.chunks.lowerBound * PackedTable.chunkBytes)
            } catch {
                lost = error
            }
            pthread_mutex_lock(mutex)
            countTime()
            readsUnderWay -= 1
            failure = failure ?? lost
            if lost == nil { missing[task.place] -= task.chunks.count }
            counted.bytes &+= UInt64(task.bytes)
            if missing[task.place] == 0 || failure != nil || isTurning { pthread_cond_broadcast(ready) }
        }
        pthread_mutex_unlock(mutex)
    }

    /// Before another number of reads is under way.
    private func countTime() {
        let now = ContinuousClock.now
        if readsUnderWay > 0 { counted.readNanoseconds &+= UInt64(clamping: (now - countedTo).nanoseconds) }
        countedTo = now
    }

    /// nil when it ends, or when something was lost: then all are waiting in vain.
    private func waitForTask() -> Task? {
        while !isEnding, failure == nil {
            if !isTurning, next < head + places.count { return takeTask() }
            pthread_cond_wait(work, mutex)
        }
        return nil
    }

    private func takeTask() -> Task {
        let file = files[layer(of: next)]
        let count = file.file.table.chunkCount
        let place = next % places.count
        if nextChunk == 0 { missing[place] = count }
        let chunks = nextChunk..<min(nextChunk + LayerStream.blockChunks, count)
        nextChunk = chunks.upperBound
        if nextChunk == count { (next, nextChunk) = (next + 1, 0) }
        let bytes = file.file.table.chunk(chunks.upperBound - 1).upperBound - chunks.lowerBound * PackedTable.chunkBytes
        return Task(file: file, chunks: chunks, place: place, bytes: bytes)
    }
}

extension Duration {
    /// Whole ones, for spans that are far below 292 years.
    fileprivate var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
