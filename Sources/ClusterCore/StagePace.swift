/// What a stage takes for a decode step of so many rows, when no other step is in the pipeline and when others are.
///
/// The two differ where stages share something, above all where workers of one machine share its memory: two that read their weights at once may
/// each take nearly twice as long, and then a batch in several groups is slower than the same batch in one. Which it is depends on the
/// machines, and on virtual ones it changes within seconds, so both are learned from the steps themselves.
package struct StagePace: Hashable, Sendable {
    private var alone = StageCurve()
    private var crowded = StageCurve()

    /// So much of the way the times in a crowd are drawn towards those alone by each step that runs alone: what is no longer tried because it
    /// once was slow is tried again after some hundred steps.
    private static let relaxation = 1.0 / 256

    package init() {}

    package mutating func note(rows: Int, nanoseconds: UInt64, isAlone: Bool) {
        guard isAlone else { return crowded.note(rows: rows, nanoseconds: nanoseconds) }
        alone.note(rows: rows, nanoseconds: nanoseconds)
        if let known = crowded.nanoseconds(rows: rows), let best = alone.nanoseconds(rows: rows), best < known {
            crowded.scale(by: 1 - Self.relaxation * (1 - best / known))
        }
    }

    /// `nil` before anything was measured. Row counts above all that was measured cost in proportion at the most; with `isHoped`, no more than
    /// the largest that was measured.
    package func nanoseconds(rows: Int, isAlone: Bool, isHoped: Bool = false) -> Double? {
        let (own, other) = isAlone ? (alone, crowded) : (crowded, alone)
        guard let largest = own.rowsMax else { return isHoped ? other.nanosecondsAtLeast(rows: rows) : other.nanoseconds(rows: rows) }
        if isHoped { return own.nanosecondsAtLeast(rows: rows) }
        guard let time = own.nanoseconds(rows: rows), let last = own.nanoseconds(rows: largest) else { return nil }
        guard rows > largest, rows <= other.rowsMax ?? 0, let far = other.nanoseconds(rows: rows), let near = other.nanoseconds(rows: largest)
        else { return time }
        // Never measured so, but the other way: the additional rows cost as many times more as they do there.
        return min(time, last * far / max(near, 1))
    }
}
