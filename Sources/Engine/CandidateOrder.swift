import CKernels

/// Tokens by logit descending, then id ascending, sorted only as far as someone looks.
///
/// Tokens are taken in bands of logits, the likeliest first, each wider than the one before: a kernel picks a band's tokens out of the
/// vocabulary, a count by distance puts them almost in order, and what shares a bucket is sorted by comparison. One draw rarely looks past
/// the first bands, which hold a few tokens of a peaked row and a few hundred of a flat one.
/// Made once and used for one row of logits after the other, because its memory is the size of the vocabulary. Allocates nothing later.
final class CandidateOrder {
    /// The first band reaches so far below the largest logit; each later one twice as far, the last to the end.
    private static let firstReach: Float = 2
    private static let lastReach: Float = 64
    private static let buckets = 1024
    /// Distances between elements that are compared, as for Shell's sort by Ciura; the last step is insertion.
    private static let gaps = [90_927, 40_412, 17_961, 7_983, 3_548, 1_577, 701, 301, 132, 57, 23, 10, 4, 1]

    private let count: Int
    private let kernels: OpaquePointer
    /// Sorted so far: logit (as a key that ascends as the logit descends) above, id below.
    private let keys: UnsafeMutableBufferPointer<UInt64>
    private let ids: UnsafeMutablePointer<Int32>  // [count]: one band, unsorted
    /// Tokens of the band in each bucket, then where they end in `keys`.
    private let counts: UnsafeMutableBufferPointer<Int32>
    private var logits: UnsafePointer<Float>
    private var largest: Float = 0
    private var sorted = 0
    /// Tokens of `keys` that stand in their buckets, sorted or not, and the first bucket that is not sorted.
    private var scattered = 0
    private var nextBucket = 0
    /// What is scattered already lies at or above this.
    private var bound: Float = 0
    /// How far below the largest logit the next band reaches.
    private var reach: Float = 0

    init(count: Int, kernels: OpaquePointer) {
        self.count = count
        self.kernels = kernels
        keys = .allocate(capacity: count)
        keys.initialize(repeating: 0)
        ids = .allocate(capacity: count)
        ids.initialize(repeating: 0, count: count)
        counts = .allocate(capacity: Self.buckets)
        counts.initialize(repeating: 0)
        logits = UnsafePointer(bitPattern: MemoryLayout<Float>.alignment)!
    }

    deinit {
        keys.deallocate()
        ids.deallocate()
        counts.deallocate()
    }

    /// Begins anew. logits: f32[count] without NaN or +infinity, valid as long as `id(at:)` is called; -infinity sorts last.
    /// `largest`: the largest of them, finite.
    func begin(_ logits: UnsafePointer<Float>, largest: Float) {
        self.logits = logits
        self.largest = largest
        sorted = 0
        scattered = 0
        bound = .infinity
        reach = Self.firstReach
    }

    /// The id of rank `rank`, 0 being the likeliest; `rank` below the count.
    func id(at rank: Int) -> Int {
        precondition(rank < count, "a rank below the number of candidates")
        while sorted <= rank {
            if sorted == scattered { scatterNextBand() } else { sortNextBucket() }
        }
        return Int(UInt32(truncatingIfNeeded: keys[rank]))
    }

    private func scatterNextBand() {
        // Any falling sequence of bounds gives the same order, whatever rounding does to them.
        let low = reach > Self.lastReach ? -Float.infinity : min(largest - reach, bound)
        let top = min(bound, largest)
        let found = Int(sk_collect(kernels, logits, Int32(count), low, bound, ids))
        bound = low
        reach *= 2
        guard found > 0 else { return }
        scatter(found, top: top, perUnit: Float(Self.buckets) * 2 / reach)
        scattered += found
        nextBucket = 0
    }

    private func sortNextBucket() {
        let end = Int(counts[nextBucket])
        nextBucket += 1
        if end - sorted > 1 { sort(sorted..<end) }
        sorted = end
    }

    /// Puts the band's tokens behind those that are sorted, bucket after bucket.
    private func scatter(_ found: Int, top: Float, perUnit: Float) {
        counts.update(repeating: 0)
        for index in 0..<found { counts[bucket(ids[index], top, perUnit)] += 1 }
        var next = Int32(sorted)
        for bucket in counts.indices {
            let count = counts[bucket]
            counts[bucket] = next
            next += count
        }
        for index in 0..<found {
            let id = ids[index]
            let bucket = bucket(id, top, perUnit)
            keys[Int(counts[bucket])] = Self.key(logits[Int(id)], id)
            counts[bucket] += 1
        }
    }

    /// In place and without memory of its own, which the library's sort would ask for. Most buckets hold a few tokens.
    private func sort(_ range: Range<Int>) {
        for gap in Self.gaps where gap < range.count {
            for index in (range.lowerBound + gap)..<range.upperBound {
                let key = keys[index]
                var hole = index
                while hole - gap >= range.lowerBound, keys[hole - gap] > key {
                    keys[hole] = keys[hole - gap]
                    hole -= gap
                }
                keys[hole] = key
            }
        }
    }

    /// By distance from the band's top, which no rounding can put out of order.
    private func bucket(_ id: Int32, _ top: Float, _ perUnit: Float) -> Int {
        Int(min((top - logits[Int(id)]) * perUnit, Float(Self.buckets - 1)))
    }

    private static func key(_ logit: Float, _ id: Int32) -> UInt64 {
        // Adding zero makes -0 and +0 one value. Flipping makes the bits of floats ascend as unsigned numbers do.
        let bits = (logit + 0).bitPattern
        let ascending = bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(~ascending) << 32 | UInt64(UInt32(bitPattern: id))
    }
}
