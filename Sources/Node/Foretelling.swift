import ClusterCore

/// Whether the last stage foretells a lone stream's tokens. To be told costs the time of a message, and to be told wrong the layers that the
/// first stage computed in vain: where foretold tokens are often wrong, as with a flat distribution that is drawn from, nothing is foretold for a
/// while.
struct Foretelling {
    /// Below this share of right ones it pauses, and after so many steps tries again.
    static let shareMin = 0.6
    static let pauseSteps = 64
    /// Of the share, what a single one makes.
    private static let weight = 1.0 / 12
    /// With which it tries again: two wrong ones end that.
    private static let shareAfterPause = 0.7

    private var sequence: SequenceID?
    private var share = 1.0
    private var stepsLeft = 0
    private var following: StepNumber?

    init() {}

    /// Of a step of one sequence that alone is under way: the last of several that the stages made by themselves counts, too.
    func isWorthwhile(_ step: Step) -> Bool {
        step.segments.count == 1 && step.segments[0].tokens.count == 1 && (step.followUps > 0 || step.number == following) && stepsLeft == 0
    }

    /// What became of a step.
    mutating func note(_ step: Step, foretold: TokenID?, drawn: TokenID?) {
        following = step.followUps > 0 ? StepNumber(step.number.value + 1) : nil
        guard step.segments.count == 1 else { return }
        if step.segments[0].sequence != sequence {
            sequence = step.segments[0].sequence
            (share, stepsLeft) = (1, 0)
        }
        if let foretold {
            share += ((foretold == drawn ? 1 : 0) - share) * Self.weight
            if share < Self.shareMin { stepsLeft = Self.pauseSteps }
        } else if stepsLeft > 0 {
            stepsLeft -= 1
            if stepsLeft == 0 { share = Self.shareAfterPause }
        }
    }
}
