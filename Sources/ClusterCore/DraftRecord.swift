/// What guesses have brought one sequence, and how many are worth their time next.
///
/// A guess costs a row, whether it is right or not. Kept is how often guesses were right, by how many tokens agreed before them, and what they have
/// won or cost in all, in units of a plain step. Two rules follow:
///
/// - So many guesses k are taken as bring the most tokens for the time: the largest E(k) / c(k), where E(k) = 1 + p + … + p^k tokens are expected
///   when each guess is right with probability p, and c(k) is how many times longer the step takes. None if that is hardly above 1.
/// - No more is risked than was won: were all guesses wrong, c(k) - 1 would be lost, and so much must be there. Each plain step adds a little, so a
///   text in which guesses fail pays that little at most, and one that begins to repeat itself is still noticed.
struct DraftRecord: Hashable, Sendable {
    /// What a guess rests on.
    enum Evidence: Hashable, Sendable {
        /// So many tokens before it are the same as where it was looked up.
        case agreement(Int)
        /// It stands where the text was followed before it changed a little.
        case source
        /// A draft model.
        case model
    }

    private struct Trials: Hashable, Sendable {
        var right = 0.0
        var all = 0.0
    }

    /// What a plain step adds to that which may be lost, in plain steps.
    static let allowance = 0.01
    /// What a new sequence may lose, and the most that is kept of what was won: a text that stops repeating itself shall not pay for long.
    static let firstBalance = 1.0
    static let balanceMax = 4.0
    /// Less than this many times plain decoding's tokens for the time is not worth a guess: curves are measured, and measures err.
    static let gainMin = 1.03
    /// Numbers of guesses that are weighed against each other.
    static let counts = [1, 2, 3, 5, 7, 11, Speculation.draftTokensMax]
    /// After so many guesses that would likely have been right but were not worth their time as measured, the time is measured again.
    static let passedMax = 32

    /// Classes of agreement by their least number of tokens, and how often a guess is right in each before any was tried.
    private static let classes: [(matched: Int, prior: Double)] = [(0, 0.35), (4, 0.5), (6, 0.7), (10, 0.85)]
    /// Behind these come two classes more.
    private static let sourceClass = classes.count
    private static let sourcePrior = 0.5
    private static let modelClass = classes.count + 1
    private static let modelPrior = 0.6
    /// A draft model that is right less often is not asked, until what was tried has faded: its thread takes time and memory's bandwidth, perhaps
    /// from a stage of the same machine.
    private static let askedMin = 0.45
    /// Nor for guesses that are less likely than this to stand behind none but right ones.
    private static let askedLikelihoodMin = 0.3
    /// So many tries the prior counts for.
    private static let priorTrials = 2.0
    /// Tries count less with each later one, and less still with each chance that was passed: what was is no proof of what is.
    private static let decay = 0.9
    private static let fading = 0.98

    private var trials = [Trials](repeating: Trials(), count: classes.count + 2)
    private(set) var balance = firstBalance
    private var passed = 0

    /// How many of `most` guesses to take.
    ///
    /// - Parameter stretch: how many times longer the step takes with so many rows more; `nil`: that is not to be had.
    mutating func count(_ evidence: Evidence, most: Int, stretch: (Int) -> Double?) -> Int {
        let index = Self.classIndex(evidence)
        let p = probability(index)
        var (best, bestGain) = (0, Self.gainMin)
        // Tokens expected of the guesses before the next one, and that one's share of them.
        var (expected, share) = (1.0, 1.0)
        var next = 1
        for count in Self.counts where count <= most {
            while next <= count {
                share *= p
                expected += share
                next += 1
            }
            guard let stretch = stretch(count), stretch - 1 <= balance else { continue }
            if expected / stretch > bestGain { (best, bestGain) = (count, expected / stretch) }
        }
        if best == 0 { best = pass(index, p, most, stretch) }
        return best
    }

    /// A chance that is let pass, unless it is time to measure again.
    private mutating func pass(_ index: Int, _ p: Double, _ most: Int, _ stretch: (Int) -> Double?) -> Int {
        fade(index)
        if p >= 0.5 { passed += 1 }
        let trial = min(most, 3)
        guard passed >= Self.passedMax, let stretch = stretch(trial), stretch - 1 <= balance else { return 0 }
        return trial
    }

    /// Of `count` guesses the first `accepted` were right; the sequence's part of the step took `stretch` times a plain one.
    mutating func returned(_ evidence: Evidence, count: Int, accepted: Int, stretch: Double) {
        let index = Self.classIndex(evidence)
        trials[index].right = trials[index].right * Self.decay + Double(accepted)
        trials[index].all = trials[index].all * Self.decay + Double(min(accepted + 1, count))
        balance = min(Self.balanceMax, balance + Double(accepted + 1) - stretch)
        passed = 0
    }

    mutating func advancedPlainly() { balance = min(Self.balanceMax, balance + Self.allowance) }

    /// How likely the first guess is right that rests on this.
    func probability(_ evidence: Evidence) -> Double { probability(Self.classIndex(evidence)) }

    /// How many of `most` guesses of a draft model are worth its time; none where it failed. It is asked again one day: text changes.
    mutating func countAsked(most: Int) -> Int {
        let p = probability(Self.modelClass)
        guard p >= Self.askedMin else {
            fade(Self.modelClass)
            return 0
        }
        var (count, likelihood) = (0, 1.0)
        while count < most, likelihood >= Self.askedLikelihoodMin {
            count += 1
            likelihood *= p
        }
        return count
    }

    private mutating func fade(_ index: Int) {
        trials[index].right *= Self.fading
        trials[index].all *= Self.fading
    }

    private func probability(_ index: Int) -> Double {
        let prior = index == Self.modelClass ? Self.modelPrior : index == Self.sourceClass ? Self.sourcePrior : Self.classes[index].prior
        return (trials[index].right + prior * Self.priorTrials) / (trials[index].all + Self.priorTrials)
    }

    private static func classIndex(_ evidence: Evidence) -> Int {
        switch evidence {
        case .agreement(let matched): classes.lastIndex { $0.matched <= matched } ?? 0
        case .source: sourceClass
        case .model: modelClass
        }
    }
}
