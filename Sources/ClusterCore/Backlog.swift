/// The common line of several replicas: sequences that none of them has taken yet, and the tenants' accounts over all replicas (`FairLine`).
///
/// A replica's own line only orders whoever waits there for another's prefill; who is placed next is decided here. A sequence is charged when it
/// is placed first, for the positions that the replica has to compute and the tokens to expect of it, and for every token beyond those; what it
/// was charged and did not generate is given back at its end. Calls that concern sequences unknown here do nothing: with one replica all are.
package struct Backlog: Sendable {
    private struct Account {
        var tenant: Tenant
        /// Up to how many generated tokens its tenant has paid.
        var charged: Int
        var generated: Int
        /// In a replica. Else it waits here.
        var isPlaced = false
    }

    private(set) var line = FairLine()
    /// Whether who was in the first replica before is adopted.
    var isInUse = false
    // Only ever asked by id.
    private var sequences: [SequenceID: GeneratedSequence] = [:]
    private var accounts: [SequenceID: Account] = [:]

    package var count: Int { sequences.count }
    package subscript(id: SequenceID) -> GeneratedSequence? { sequences[id] }

    // MARK: - Coming and going

    /// It waits: for the first time, or again, after a replica gave it back.
    package mutating func add(_ sequence: GeneratedSequence) {
        precondition(sequences.updateValue(sequence, forKey: sequence.id) == nil, "a sequence waits once")
        // First this, or its tenant would seem to want nothing for a moment.
        line.insert(sequence)
        if accounts[sequence.id]?.isPlaced == true { line.stopped(sequence.tenant) }
        accounts[sequence.id]?.isPlaced = false
    }

    /// A replica has taken it. `rows` of its prompt have to be computed there, and `tokens` are expected of it.
    package mutating func place(_ id: SequenceID, rows: Int, tokens: Int) {
        guard let sequence = sequences.removeValue(forKey: id) else { preconditionFailure("who is placed has waited") }
        let isNew = accounts[id] == nil
        if isNew {
            let generated = sequence.generatedCount
            accounts[id] = Account(tenant: sequence.tenant, charged: generated + tokens, generated: generated)
        }
        accounts[id]!.isPlaced = true
        // After a preemption or a loss nothing: that was not its wish.
        line.admit(sequence, charging: isNew ? rows + tokens : 0)
    }

    /// It was in a replica before there was a common line.
    package mutating func adopt(_ sequence: GeneratedSequence) {
        guard accounts[sequence.id] == nil else { return }
        let generated = sequence.generatedCount
        accounts[sequence.id] = Account(tenant: sequence.tenant, charged: max(sequence.charged, generated), generated: generated, isPlaced: true)
        line.insert(sequence)
        line.admit(sequence, charging: 0)
    }

    /// It generated a token.
    package mutating func generated(_ id: SequenceID) {
        guard var account = accounts[id] else { return }
        account.generated += 1
        if account.generated > account.charged {
            account.charged = account.generated
            line.charge(account.tenant, tokens: 1)
        }
        accounts[id] = account
    }

    /// It is over. Whether it waited here.
    @discardableResult
    package mutating func end(_ id: SequenceID) -> Bool {
        let waiting = sequences.removeValue(forKey: id)
        let account = accounts.removeValue(forKey: id)
        if let account { line.charge(account.tenant, tokens: account.generated - account.charged) }
        if let waiting { _ = line.remove(waiting) }
        if let account, account.isPlaced { line.stopped(account.tenant) }
        return waiting != nil
    }

    /// So many rows were put into a step of any replica.
    package mutating func served(rows: Int) { line.served(rows: rows) }

    // MARK: - Whose turn it is

    /// The next one in this round; see `FairLine.next`.
    func next(in round: FairLine.Round) -> GeneratedSequence? { line.next(in: round).flatMap { sequences[$0] } }

    /// In no order that matters.
    func work(left forecast: WaitForecast, contextTokens: Int, of tenant: Tenant?) -> WaitForecast.Work {
        line.inOrder.reduce(into: WaitForecast.Work()) { sum, id in
            let sequence = sequences[id]!
            if tenant == nil || sequence.tenant == tenant { sum += forecast.work(left: sequence, contextTokens: contextTokens) }
        }
    }
}
