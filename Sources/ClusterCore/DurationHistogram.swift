/// Counts of durations in a fixed number of classes, eight to each doubling, from 1 µs to a minute: a quantile is off by 12 % at most.
package struct DurationHistogram: Hashable, Sendable {
    /// The first ends at 1 µs, the last has no end.
    package static let octaves = 28
    private static let classesPerOctave = 8

    /// Durations below a microsecond, then class by class.
    private var counts = [UInt64](repeating: 0, count: 1 + (Self.octaves - 1) * Self.classesPerOctave)
    package private(set) var count: UInt64 = 0
    package private(set) var sumNanoseconds: UInt64 = 0

    package init() {}

    package mutating func note(nanoseconds: UInt64) {
        counts[Self.index(nanoseconds)] += 1
        count += 1
        sumNanoseconds = saturatingSum(sumNanoseconds, nanoseconds)
    }

    package mutating func add(_ other: DurationHistogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        sumNanoseconds = saturatingSum(sumNanoseconds, other.sumNanoseconds)
    }

    package mutating func clear() {
        for index in counts.indices { counts[index] = 0 }
        count = 0
        sumNanoseconds = 0
    }

    /// The duration that the share `share` (0...1) of all noted ones does not exceed, on a straight line within its class; 0 for none.
    package func quantile(_ share: Double) -> UInt64 {
        let rank = share * Double(count)
        var below: UInt64 = 0
        for (index, count) in counts.enumerated() where count > 0 {
            if Double(below + count) >= rank {
                let (low, high) = Self.bounds(index)
                return UInt64(low + (high - low) * max(0, rank - Double(below)) / Double(count))
            }
            below += count
        }
        return 0
    }

    /// By octave: entry `i` counts those of at most 2^i µs that no entry before it counts; the last one counts the rest.
    package var countsByOctave: [UInt64] {
        [counts[0]] + stride(from: 1, to: counts.count, by: Self.classesPerOctave).map { counts[$0..<$0 + Self.classesPerOctave].reduce(0, +) }
    }

    /// Bounds belong to the class below them, so that the octaves' are whole.
    private static func index(_ nanoseconds: UInt64) -> Int {
        // In eighths of a microsecond, rounded down but for whole ones.
        let eighths = (min(max(nanoseconds, 1), 1 << 50) * 8 - 1) / 1_000
        guard eighths >= 8 else { return 0 }
        let octave = UInt64.bitWidth - 1 - eighths.leadingZeroBitCount - 3
        guard octave < octaves - 1 else { return (octaves - 1) * classesPerOctave }
        return 1 + octave * classesPerOctave + Int(eighths >> UInt64(octave)) & 7
    }

    private static func bounds(_ index: Int) -> (Double, Double) {
        guard index > 0 else { return (0, 1_000) }
        let (octave, part) = ((index - 1) / classesPerOctave, (index - 1) % classesPerOctave)
        let width = 125 * Double(UInt64(1) << UInt64(octave))
        return (Double(8 + part) * width, Double(9 + part) * width)
    }
}

/// Sums of what peers say stay below what the wire may carry, whatever they say.
func saturatingSum(_ a: UInt64, _ b: UInt64) -> UInt64 { min(a.addingReportingOverflow(b).overflow ? .max : a + b, 1 << 62) }
