#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Tokens by logit descending, then id ascending, sorted only as far as someone looks.
///
/// Tokens are first counted into buckets by their distance from the largest logit, which no rounding can put out of
/// order; runs of buckets are then gathered, each bucket sorted, likeliest first. One draw rarely looks past the first run.
/// Made once and used for one row of logits after the other, because its memory is the size of the vocabulary.
final class CandidateOrder {
    private static let buckets = 16_384
    /// Buckets per unit of logit: few tokens share one, and what lies 64 units or more below the top shares the last.
    private static let bucketsPerUnit: Float = 256
    private static let insertionSortMax = 24
    /// Tokens that are sorted first, at least; each later run is larger.
    private static let firstRun = 64
    private static let runGrowth = 8

    private let count: Int
    /// Sorted so far: logit (as a key that ascends as the logit descends) above, id below.
    private let keys: UnsafeMutableBufferPointer<UInt64>
    /// Tokens in each bucket; of gathered buckets, where they end in `keys`.
    private let counts: UnsafeMutableBufferPointer<Int32>
    private var logits: UnsafePointer<Float>
    private var largest: Float = 0
    private var sorted = 0
    private var nextBucket = 0
    private var nextRun = 0

    init(count: Int) {
        self.count = count
        keys = .allocate(capacity: count)
        keys.initialize(repeating: 0)
        counts = .allocate(capacity: Self.buckets)
        counts.initialize(repeating: 0)
        logits = UnsafePointer(bitPattern: MemoryLayout<Float>.alignment)!
    }

    deinit {
        keys.deallocate()
        counts.deallocate()
    }

    /// Begins anew. logits: f32[count] without NaN or +infinity, valid as long as `id(at:)` is called; -infinity sorts last.
    /// `largest`: the largest of them, finite.
    func begin(_ logits: UnsafePointer<Float>, largest: Float) {
        self.logits = logits
        self.largest = largest
        sorted = 0
        nextBucket = 0
        nextRun = Self.firstRun
        memset(counts.baseAddress!, 0, counts.count * MemoryLayout<Int32>.stride)
        for id in 0..<count { counts[Self.bucket(largest - logits[id])] += 1 }
    }

    /// The id of rank `rank`, 0 being the likeliest; `rank` below the count.
    func id(at rank: Int) -> Int {
        while sorted <= rank { sortNextRun() }
        return Int(UInt32(truncatingIfNeeded: keys[rank]))
    }

    private func sortNextRun() {
        let first = nextBucket
        let wanted = min(nextRun, count - sorted)
        var gathered = 0
        while gathered < wanted {
            gathered += Int(counts[nextBucket])
            nextBucket += 1
        }
        nextRun *= Self.runGrowth
        scatter(first..<nextBucket)
        sortBuckets(first..<nextBucket)
        sorted += gathered
    }

    /// Puts each token of a run's buckets behind those of the buckets before it.
    private func scatter(_ run: Range<Int>) {
        var next = sorted
        for bucket in run {
            let count = Int(counts[bucket])
            counts[bucket] = Int32(next)
            next += count
        }
        for id in 0..<count {
            let bucket = Self.bucket(largest - logits[id])
            guard run.contains(bucket) else { continue }
            keys[Int(counts[bucket])] = Self.key(logits[id], id)
            counts[bucket] += 1
        }
    }

    private func sortBuckets(_ run: Range<Int>) {
        var first = sorted
        for bucket in run {
            let end = Int(counts[bucket])
            if end - first > Self.insertionSortMax {
                keys[first..<end].sort()
            } else if end - first > 1 {
                insertionSort(first..<end)
            }
            first = end
        }
    }

    /// The library's sort costs more than this on the few tokens that most buckets hold.
    private func insertionSort(_ range: Range<Int>) {
        for index in range.dropFirst() {
            let key = keys[index]
            var hole = index
            while hole > range.lowerBound, keys[hole - 1] > key {
                keys[hole] = keys[hole - 1]
                hole -= 1
            }
            keys[hole] = key
        }
    }

    private static func bucket(_ distance: Float) -> Int { Int(min(distance * bucketsPerUnit, Float(buckets - 1))) }

    private static func key(_ logit: Float, _ id: Int) -> UInt64 {
        // Adding zero makes -0 and +0 one value. Flipping makes the bits of floats ascend as unsigned numbers do.
        let bits = (logit + 0).bitPattern
        let ascending = bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(~ascending) << 32 | UInt64(id)
    }
}
