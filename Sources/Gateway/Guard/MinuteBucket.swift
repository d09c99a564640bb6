/// What may be taken in a minute: a bucket that fills evenly and holds a minute's worth.
///
/// It may be overdrawn by what is only known afterwards, such as the tokens of an answer; it is then empty until that is made good.
struct MinuteBucket: Hashable, Sendable {
    typealias Instant = ContinuousClock.Instant

    private(set) var perMinute: Int
    private var level: Double
    private var filledAt: Instant

    /// Full.
    init(perMinute: Int, at now: Instant) {
        precondition(perMinute > 0, "a limit of nothing is no limit")
        self.perMinute = perMinute
        level = Double(perMinute)
        filledAt = now
    }

    private var perSecond: Double { Double(perMinute) / 60 }

    /// Whole units that can be taken now; never below 0.
    mutating func available(at now: Instant) -> Int {
        fill(at: now)
        return max(0, Int(level.rounded(.down)))
    }

    /// How long until `amount` can be taken; zero when it can be now, `nil` when it never can.
    mutating func wait(for amount: Int, at now: Instant) -> Duration? {
        guard amount <= perMinute else { return nil }
        fill(at: now)
        return .seconds(max(0, Double(amount) - level) / perSecond)
    }

    /// How long until it is full, if nothing more is taken.
    mutating func waitUntilFull(at now: Instant) -> Duration { wait(for: perMinute, at: now) ?? .zero }

    mutating func take(_ amount: Int, at now: Instant) {
        fill(at: now)
        level -= Double(amount)
    }

    mutating func giveBack(_ amount: Int, at now: Instant) {
        fill(at: now)
        level = min(level + Double(amount), Double(perMinute))
    }

    /// The operator has changed the limit: what was taken stays taken.
    mutating func change(perMinute new: Int, at now: Instant) {
        precondition(new > 0, "a limit of nothing is no limit")
        fill(at: now)
        level = min(Double(new), level + Double(new - perMinute))
        perMinute = new
    }

    private mutating func fill(at now: Instant) {
        // A clock that does not go back is promised, but a caller may have read it a moment before another one.
        guard now > filledAt else { return }
        level = min(Double(perMinute), level + (now - filledAt).inSeconds * perSecond)
        filledAt = now
    }
}
