/// How long a stage takes for a step of so many rows, learned from the steps that it computed.
///
/// Rows are kept in classes, four to each doubling; a class knows the mean of its rows and times, in which the last ones count most. Between
/// classes the time is a straight line; above the largest it grows in proportion, which is the most it can; and it never falls with more rows.
///
/// Rows beside a long past take longer than today's may. Where a class lies further above a smaller one than in proportion to its rows, each
/// measurement of the smaller one draws it a little down, so that what is never tried because it once took long is tried again.
package struct StageCurve: Hashable, Sendable {
    private struct Point: Hashable, Sendable {
        var rows: Double
        var nanoseconds: Double
        /// Measurements so far.
        var count = 1.0
    }

    /// A new measurement counts for an eighth; the first few count alike, so that an odd first one is soon outvoted.
    private static let weight = 0.125
    /// So much of the way a class is drawn towards what it would be in proportion to a smaller one.
    private static let relaxation = 1.0 / 256
    /// One far above what is known is a pause of the machine, not of the arithmetic: it counts as this many times the known.
    private static let outlier = 4.0

    private var points: [Point?] = []

    package init() {}

    package var isEmpty: Bool { points.allSatisfy { $0 == nil } }

    /// The most rows that were measured, `nil` before anything was.
    package var rowsMax: Int? { points.last(where: { $0 != nil })?.map { Int($0.rows) } }

    /// Every time becomes so many times what it was.
    package mutating func scale(by factor: Double) {
        for index in points.indices { points[index]?.nanoseconds *= factor }
    }

    package mutating func note(rows: Int, nanoseconds: UInt64) {
        guard rows > 0 else { return }
        let index = Self.rowClass(rows)
        while points.count <= index { points.append(nil) }
        defer { relax(above: index) }
        guard let known = points[index] else {
            points[index] = Point(rows: Double(rows), nanoseconds: Double(nanoseconds))
            return
        }
        let time = min(Double(nanoseconds), known.nanoseconds * Self.outlier)
        let weight = max(Self.weight, 1 / (known.count + 1))
        points[index] = Point(
            rows: known.rows + weight * (Double(rows) - known.rows), nanoseconds: known.nanoseconds + weight * (time - known.nanoseconds),
            count: known.count + 1)
    }

    /// As `nanoseconds`, but no more than the largest measured one above that: the least it can be, for who would try it.
    package func nanosecondsAtLeast(rows: Int) -> Double? {
        guard let largest = rowsMax, rows > largest else { return nanoseconds(rows: rows) }
        return nanoseconds(rows: largest)
    }

    private mutating func relax(above index: Int) {
        guard let fresh = points[index] else { return }
        for above in points.indices where above > index {
            guard let old = points[above] else { continue }
            let excess = old.nanoseconds - fresh.nanoseconds * old.rows / fresh.rows
            if excess > 0 { points[above]!.nanoseconds -= excess * Self.relaxation }
        }
    }

    /// `nil` before anything was measured.
    package func nanoseconds(rows: Int) -> Double? {
        var below: Point?
        for case let point? in points {
            let point = Point(rows: point.rows, nanoseconds: max(point.nanoseconds, below?.nanoseconds ?? 0))
            if point.rows >= Double(rows) {
                guard let below, point.rows > below.rows else { return point.nanoseconds }
                let share = (Double(rows) - below.rows) / (point.rows - below.rows)
                return below.nanoseconds + share * (point.nanoseconds - below.nanoseconds)
            }
            below = point
        }
        return below.map { $0.nanoseconds * Double(rows) / $0.rows }
    }

    /// 1, 2, 3, 4, 5, 6, 7, 8–9, 10–11, 12–13, 14–15, 16–19, …
    private static func rowClass(_ rows: Int) -> Int {
        guard rows >= 4 else { return rows }
        let octave = Int.bitWidth - 1 - rows.leadingZeroBitCount
        return 4 * (octave - 2) + rows >> (octave - 2)
    }
}
