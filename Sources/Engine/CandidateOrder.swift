/// Tokens by logit descending, then id ascending, sorted only as far as someone looks.
///
/// Tokens are first counted into buckets by their distance from the largest logit, which no rounding can put out of
/// order; runs of buckets are then gathered and sorted, likeliest first. One draw rarely looks past the first run.
struct CandidateOrder {
    private static let buckets = 4096
    /// Buckets per unit of logit: the first run of a peaked distribution stays small, and 64 units below the top share the last bucket.
    private static let bucketsPerUnit: Float = 64
    private static let firstRun = 64
    private static let runGrowth = 8

    private let logits: UnsafePointer<Float>
    private let count: Int
    private let largest: Float
    /// Sorted so far: logit (as a key that ascends as the logit descends) above, id below.
    private var sorted: [UInt64]
    private var bucketCounts: [Int32]
    private var nextBucket = 0
    private var nextRun = Self.firstRun

    /// Memory of an order that is no longer used, to spare the next one's allocations.
    struct Scratch {
        fileprivate var sorted: [UInt64] = []
        fileprivate var bucketCounts: [Int32] = []
    }

    /// logits: f32[count] without NaN or +infinity; -infinity sorts last. `largest`: the largest of them, finite.
    init(logits: UnsafePointer<Float>, count: Int, largest: Float, scratch: inout Scratch) {
        self.logits = logits
        self.count = count
        self.largest = largest
        sorted = []
        bucketCounts = []
        swap(&sorted, &scratch.sorted)
        swap(&bucketCounts, &scratch.bucketCounts)
        sorted.removeAll(keepingCapacity: true)
        if bucketCounts.isEmpty { bucketCounts = Array(repeating: 0, count: Self.buckets) }
        bucketCounts.withUnsafeMutableBufferPointer { counts in
            counts.update(repeating: 0)
            for id in 0..<count { counts[Self.bucket(largest - logits[id])] += 1 }
        }
    }

    /// Gives the memory back.
    mutating func finish(_ scratch: inout Scratch) {
        swap(&sorted, &scratch.sorted)
        swap(&bucketCounts, &scratch.bucketCounts)
    }

    /// The id of rank `rank`, 0 being the likeliest; `rank` below the count.
    mutating func id(at rank: Int) -> Int {
        while sorted.count <= rank { sortNextRun() }
        return Int(UInt32(truncatingIfNeeded: sorted[rank]))
    }

    private mutating func sortNextRun() {
        let first = nextBucket
        let start = sorted.count
        var gathered = 0
        while nextBucket < Self.buckets, gathered < nextRun {
            gathered += Int(bucketCounts[nextBucket])
            nextBucket += 1
        }
        let run = first..<nextBucket
        sorted.reserveCapacity(start + gathered)
        for id in 0..<count where run.contains(Self.bucket(largest - logits[id])) { sorted.append(Self.key(logits[id], id)) }
        sorted[start...].sort()
        nextRun *= Self.runGrowth
    }

    private static func bucket(_ distance: Float) -> Int { Int(min(distance * bucketsPerUnit, Float(buckets - 1))) }

    private static func key(_ logit: Float, _ id: Int) -> UInt64 {
        // Adding zero makes -0 and +0 one value. Flipping makes the bits of floats ascend as unsigned numbers do.
        let bits = (logit + 0).bitPattern
        let ascending = bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(~ascending) << 32 | UInt64(id)
    }
}
