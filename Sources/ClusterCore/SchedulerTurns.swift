// How many rows of whom a step carries while several tenants run.
//
// Admission alone is not fair: a tenant with two hundred streams fills every step, and the one row of another one's only stream takes as long as
// all of them. So each tenant that runs here is owed its share of the stages' time, not of the rows. Where t(r) is what a step of r rows takes in
// all stages together, and r_i are the rows that a step of tenant i would have if nobody else were there, a step has R rows with
//
//     t(R) ≤ max(stretchMax, Σ weights / weight_i) · t(r_i)      for every tenant i
//
// The second term is the fair share. The first is for the sake of the whole: where reading weights takes most of a small step, more rows cost next
// to nothing, and a stream that has to be slowed down by no more than twice would keep a machine half empty. A step's rows are given out in
// rounds, one to each tenant and then as many more as its weight says, who waited longest first; the prompts of tenants that have nothing decoding
// yet go before all. Steps that are in flight when a tenant comes are as short as `StepShape.groups` makes them.

extension Scheduler {
    /// The bounds of the next step, while several tenants run.
    struct Turn: Hashable {
        /// Rows of all kinds; at least one for each tenant.
        var rowsMax: Int
        /// Rows of prompts, among those, of tenants that have nothing decoding: they want their first token.
        var newcomerRows = 0
        /// Tenants with something that decodes.
        var tenantsDecoding = 0
        /// Whether prompts of others wait too.
        var hasOtherPrompts = false

        /// Of `wanted` decoding rows, those that may go.
        func decodeRows(_ wanted: Int) -> Int {
            let room = rowsMax - newcomerRows
            // A prompt of those who decode goes on too.
            return min(wanted, max(1, tenantsDecoding, hasOtherPrompts ? room / 2 : room))
        }

        /// Of `wanted` rows of prompts beside so many that decode, those that may go: a newcomer's as they are, others' where there is room.
        func promptRows(_ wanted: Int, beside decoding: Int) -> Int {
            min(wanted, max(newcomerRows, rowsMax - decoding, StepShape.prefillRowsMin))
        }
    }

    private struct Claim {
        var weight: Int
        var decoding = 0
        /// Rows of prompts that could be sent.
        var promptRows = 0
    }

    /// `nil` where a single tenant runs, or nothing was measured yet.
    func turn() -> Turn? {
        guard running.count > 1 else { return nil }
        var tenants: [Tenant] = []
        var claims: [Claim] = []
        for id in running {
            let sequence = sequences[id]!
            let index = tenants.firstIndex(of: sequence.tenant) ?? tenants.count
            if index == tenants.count {
                tenants.append(sequence.tenant)
                claims.append(Claim(weight: waiting.weight(of: sequence.tenant)))
            }
            if sequence.isDecoding { claims[index].decoding += 1 } else { claims[index].promptRows += sequence.pending }
        }
        guard claims.count > 1 else { return nil }
        let weights = claims.reduce(0) { $0 + $1.weight }
        var turn = Turn(rowsMax: settings.stepRowsMax)
        for claim in claims {
            let stretch = max(settings.tenantStretchMax, Double(weights) / Double(claim.weight))
            guard let rows = shape.rows(within: stretch, of: rowsAlone(claim), atMost: turn.rowsMax) else { return nil }
            turn.rowsMax = min(turn.rowsMax, rows)
            if claim.decoding > 0 {
                turn.tenantsDecoding += 1
                if claim.promptRows > 0 { turn.hasOtherPrompts = true }
            } else {
                turn.newcomerRows += min(claim.promptRows, settings.prefillRowsPerStep)
            }
        }
        turn.rowsMax = max(turn.rowsMax, claims.count)
        return turn
    }

    /// Of a step of this tenant if it were the only one.
    private func rowsAlone(_ claim: Claim) -> Int {
        guard claim.decoding > 0 else { return max(1, min(claim.promptRows, settings.prefillRowsPerStep)) }
        let groups = shape.groups(decoding: claim.decoding, inFlightMax: inFlightMax)
        return (claim.decoding + groups - 1) / groups
    }

    /// Sequences that could decode now, in the order in which they go: in rounds over tenants, within one who waited longest first.
    func readyToDecode() -> [GeneratedSequence] {
        let ready = running.compactMap { sequences[$0] }.filter { $0.isDecoding && $0.stepsInFlight == 0 }
            .sorted { ($0.lastStep, $0.precedence) < ($1.lastStep, $1.precedence) }
        guard let first = ready.first, ready.contains(where: { $0.tenant != first.tenant }) else { return ready }
        var seen: [Tenant: Int] = [:]
        let rounds = ready.indices.map { index in
            let tenant = ready[index].tenant
            let rank = seen[tenant, default: 0]
            seen[tenant] = rank + 1
            return (round: round(rank: rank, of: tenant), index: index)
        }
        return rounds.sorted { $0 < $1 }.map { ready[$0.index] }
    }
}
