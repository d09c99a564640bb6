// Who keeps its place and its blocks when there are not enough for all that run.
//
// Precedence is the order in which sequences were first admitted; it never changes. The order of shares is made of it: the first one of each
// tenant, then so many more of each as its weight says, and so on, in each such round by precedence. Blocks are taken from the last in this
// order, prompts are computed from the first. So a tenant that runs a hundred sequences presses on its own hundredth, not on another's first.
//
// Why no sequence starves: take, of all that were ever admitted and are not over, the one of highest precedence. It is the first of its
// tenant, so it comes first in the order of shares: nobody takes its blocks or its place, and its prompt is computed first. If it waits, its
// tenant's charge stands still while virtual time goes on, so its turn comes, and then nobody overtakes it. So it ends, and another
// one is of highest precedence; each one was admitted after finitely many others. And each one is admitted: its tenant's turn comes again and again,
// and within the tenant it is overtaken a bounded number of times.

extension Scheduler {
    /// The running sequences, who gives way last first.
    func inOrderOfShares() -> [SequenceID] {
        var seen: [Tenant: Int] = [:]
        var rounds: [(round: Int, index: Int)] = []
        for (index, id) in running.enumerated() {
            let tenant = sequences[id]!.tenant
            let rank = seen[tenant, default: 0]
            seen[tenant] = rank + 1
            rounds.append((round(rank: rank, of: tenant), index))
        }
        return rounds.sorted { $0 < $1 }.map { running[$0.index] }
    }

    func round(rank: Int, of tenant: Tenant) -> Int { rank == 0 ? 0 : 1 + (rank - 1) / waiting.weight(of: tenant) }

    /// The running sequence that gives way first to `id`, or `nil` when all come before it. None whose rows are in `draft`.
    func firstToGiveWay(to id: SequenceID, sparing draft: StepDraft) -> SequenceID? {
        let order = inOrderOfShares()
        guard let place = order.firstIndex(of: id) else { preconditionFailure("only who runs wants room") }
        return order[(place + 1)...].last { !draft.has($0) }
    }

    /// Whether `id`, if it were admitted now, would have its prompt computed no later than a running sequence of the same or another tenant.
    func comesBefore(_ id: SequenceID, running other: SequenceID) -> Bool {
        let (newcomer, runner) = (sequences[id]!, sequences[other]!)
        guard newcomer.tenant != runner.tenant else { return newcomer.precedence < runner.precedence }
        let rank = running.prefix { $0 != other }.count { sequences[$0]!.tenant == runner.tenant }
        let own = running.count { sequences[$0]!.tenant == newcomer.tenant }
        return (round(rank: own, of: newcomer.tenant), newcomer.precedence) < (round(rank: rank, of: runner.tenant), runner.precedence)
    }

    // MARK: - A place for who has none

    /// Sees to it that a sequence of a tenant that runs nothing finds a place and `blocks` free blocks: tenants that have more than one running
    /// give way, the last in the order of shares first. `false` and no change when that does not suffice, or when so much was taken lately
    /// that more would be waste.
    ///
    /// What is taken has to be computed again. Each row computed allows for `Limits.displacedShare` rows to be computed again; no more than one
    /// context is saved up, and where more is taken the rest is owed. So what is lost stays in proportion to the work, and nobody waits long.
    mutating func displace(forBlocks blocks: Int, sparing past: [BlockID]) -> Bool {
        guard let victims = displaced(forBlocks: blocks, sparing: past) else { return false }
        let lost = victims.reduce(0) { $0 + sequences[$1]!.sent }
        guard displacementCredit >= Double(min(lost, settings.contextTokens)) else { return false }
        displacementCredit -= Double(lost)
        for victim in victims { preempt(victim) }
        displacements += UInt64(victims.count)
        return true
    }

    /// Whom to preempt, or `nil` when nobody or not enough can be had.
    private func displaced(forBlocks blocks: Int, sparing past: [BlockID]) -> [SequenceID]? {
        var left: [Tenant: Int] = [:]
        var victims: [SequenceID] = []
        var freed = 0
        let lacksPlace = running.count >= settings.sequencesRunningMax
        for id in inOrderOfShares().reversed() where freed < blocks || (lacksPlace && victims.isEmpty) {
            let sequence = sequences[id]!
            let running = left[sequence.tenant] ?? waiting.running(of: sequence.tenant)
            guard running > 1 else { continue }
            left[sequence.tenant] = running - 1
            victims.append(id)
            // What others hold too, or the newcomer will, is not freed for it.
            freed += sequence.blocks.count { allocator.holderCount($0) == 1 && !past.contains($0) }
        }
        return victims.isEmpty || freed < blocks ? nil : victims
    }

    /// Rows were put into a step.
    mutating func noteServed(rows: Int) {
        waiting.served(rows: rows)
        displacementCredit = min(Double(settings.contextTokens), displacementCredit + Limits.displacedShare * Double(rows))
    }

    // MARK: - Accounts

    /// What an admission is charged for: positions to compute and tokens to expect. After a preemption nothing: that was not its wish.
    mutating func chargeAdmission(of id: SequenceID, cached: Int) -> Int {
        guard sequences[id]!.precedence == .none else { return 0 }
        nextPrecedence += 1
        sequences[id]!.setPrecedence(GeneratedSequence.Precedence(number: nextPrecedence))
        let expected = forecast.expectedTokens(of: sequences[id]!, contextTokens: settings.contextTokens)
        sequences[id]!.setCharged(sequences[id]!.generatedCount + expected)
        return sequences[id]!.tokens.count - cached + expected
    }

    /// It generated a token.
    mutating func chargeToken(of id: SequenceID) {
        guard sequences[id]!.generatedCount > sequences[id]!.charged else { return }
        sequences[id]!.setCharged(sequences[id]!.generatedCount)
        waiting.charge(sequences[id]!.tenant, tokens: 1)
    }

    /// It is over: tokens that it was charged for and did not generate are given back.
    mutating func settle(_ sequence: GeneratedSequence) {
        waiting.charge(sequence.tenant, tokens: -max(0, sequence.charged - sequence.generatedCount))
    }

    // MARK: - What is to come

    /// How long a request of `tenant` would wait before it is computed, in milliseconds; of nobody in particular, behind all that is open.
    package func expectedWaitMs(of tenant: Tenant? = nil) -> UInt64 {
        guard !waiting.isEmpty || running.count >= settings.sequencesRunningMax else { return 0 }
        var (all, own) = (WaitForecast.Work(), WaitForecast.Work())
        for id in running + waiting.inOrder {
            let sequence = sequences[id]!
            let work = forecast.work(left: sequence, contextTokens: settings.contextTokens)
            all += work
            if sequence.tenant == tenant { own += work }
        }
        guard let tenant else { return forecast.milliseconds(for: all) }
        // Until its own work is done, the others get theirs in proportion to their weights, but not more than there is.
        let weight = max(1, waiting.weight(of: tenant))
        let isNew = waiting.open(of: tenant) == 0
        let share = Double(waiting.weightInAll + (isNew ? weight : 0)) / Double(weight)
        return UInt64(min(Double(forecast.milliseconds(for: all)), Double(forecast.milliseconds(for: own)) * share))
    }
}
