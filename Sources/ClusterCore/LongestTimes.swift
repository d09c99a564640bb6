/// The longest times of late, by a step's number of rows: what a deadline is a multiple of.
///
/// Times are kept in classes of row counts (powers of two), because a step of 256 rows takes far longer than one of 1. Each is forgotten by an
/// eighth with each shorter one of its class, so a single slow step counts for some tens of steps: more than the 99th percentile, and never
/// less than what was usual.
package struct LongestTimes: Hashable, Sendable {
    /// By class; 0: none was measured.
    private var longest: [UInt64] = []

    package init() {}

    package mutating func note(rows: Int, nanoseconds: UInt64) {
        let index = Self.rowClass(rows)
        while longest.count <= index { longest.append(0) }
        longest[index] = max(nanoseconds, longest[index] - longest[index] / 8)
    }

    /// From its own class, else scaled up from the next smaller one, else as long as the next larger one. `nil` before any was measured.
    package func nanoseconds(rows: Int) -> UInt64? {
        let index = Self.rowClass(rows)
        for smaller in stride(from: min(index, longest.count - 1), through: 0, by: -1) where longest[smaller] > 0 {
            let (scaled, overflowed) = longest[smaller].multipliedReportingOverflow(by: 1 << UInt64(index - smaller))
            return overflowed ? .max : scaled
        }
        return longest.dropFirst(index).first { $0 > 0 }
    }

    /// So many times that, in milliseconds.
    package func milliseconds(rows: Int, times factor: UInt64) -> UInt64? {
        guard let expected = nanoseconds(rows: rows) else { return nil }
        let (product, overflowed) = expected.multipliedReportingOverflow(by: factor)
        return overflowed ? .max : product / 1_000_000
    }

    private static func rowClass(_ rows: Int) -> Int { Int.bitWidth - max(1, rows).leadingZeroBitCount - 1 }
}
