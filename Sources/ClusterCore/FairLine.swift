import OrderedCollections

/// Sequences that wait to run, and whose turn it is: fair queueing over tenants by the tokens they were served.
///
/// Each tenant has a charge, in tokens over its weight: prompt positions to compute and tokens to expect are charged when a sequence is first
/// admitted, the rest of the truth when it is known. The tenant with the smallest charge is next; so tenants that always wait are served in
/// proportion to their weights, but for what one admission costs. A tenant that comes back, or comes for the first time, begins at the
/// virtual time: it has no claim on what was served while it wanted nothing, and no debt of others before it.
///
/// Virtual time never goes back. It is the charge of whoever was admitted last, and grows besides by rows computed over the weights of all
/// that want something: so no number of newcomers keeps a tenant waiting for ever.
package struct FairLine: Hashable, Sendable {
    /// So finely is a token divided that every weight divides it well.
    private static let unitsPerToken: UInt64 = 1 << 10

    private var tenants: OrderedDictionary<Tenant, TenantLine> = [:]
    private var virtualTime: UInt64 = 0
    private var activeWeight = 0
    /// Sequences that wait.
    package private(set) var count = 0
    /// Tenants that wait and have nothing that runs.
    private(set) var unservedTenants = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    // MARK: - Coming and going

    /// It waits: for the first time, or again, in its old place.
    package mutating func insert(_ sequence: GeneratedSequence) {
        if tenants[sequence.tenant] == nil { tenants[sequence.tenant] = TenantLine(weight: sequence.weight, charge: virtualTime) }
        let begin = virtualTime
        change(sequence.tenant) { line in
            // Several requests of a tenant may name several weights: the last one counts.
            line.weight = sequence.weight
            if line.waiting == 0 { line.charge = max(line.charge, begin) }
            line.insert(sequence.place)
        }
    }

    /// Whether it waited.
    package mutating func remove(_ sequence: GeneratedSequence) -> Bool {
        guard tenants[sequence.tenant] != nil else { return false }
        return change(sequence.tenant) { $0.remove(sequence.id) }
    }

    /// It runs from now on; `tokens` are charged for it.
    mutating func admit(_ sequence: GeneratedSequence, charging tokens: Int) {
        virtualTime = max(virtualTime, tenants[sequence.tenant]!.charge)
        change(sequence.tenant) { $0.admit(sequence.id) }
        charge(sequence.tenant, tokens: tokens)
    }

    /// One of the tenant's sequences runs no more.
    mutating func stopped(_ tenant: Tenant) { change(tenant) { $0.running -= 1 } }

    /// More was needed than charged, or less (negative).
    mutating func charge(_ tenant: Tenant, tokens: Int) {
        guard tokens != 0, let line = tenants[tenant] else { return }
        let units = UInt64(tokens.magnitude) * Self.unitsPerToken / UInt64(line.weight)
        let (sum, overflowed) = line.charge.addingReportingOverflow(units)
        tenants[tenant]!.charge = tokens > 0 ? (overflowed ? .max : sum) : line.charge - min(line.charge, units)
    }

    /// So many rows were put into a step.
    mutating func served(rows: Int) {
        if activeWeight > 0 { virtualTime += UInt64(rows) * Self.unitsPerToken / UInt64(activeWeight) }
    }

    @discardableResult
    private mutating func change<Result>(_ tenant: Tenant, _ body: (inout TenantLine) -> Result) -> Result {
        let before = tenants[tenant]!.standing
        let result = body(&tenants[tenant]!)
        let after = tenants[tenant]!.standing
        count += after.waiting - before.waiting
        activeWeight += after.activeWeight - before.activeWeight
        unservedTenants += after.unserved - before.unserved
        if after.activeWeight == 0 { forgetIdle() }
        return result
    }

    /// A tenant that wants nothing is remembered while it has had more than the virtual time says, or a client that asks one request after another
    /// would always be new. Past the limit, those with the least to remember are forgotten first.
    private mutating func forgetIdle() {
        if activeWeight == 0 { return tenants.removeAll() }
        tenants.removeAll { !$0.value.isActive && $0.value.charge <= virtualTime }
        while tenants.count > Limits.tenantsRememberedMax {
            let idle = tenants.filter { !$0.value.isActive }.min { ($0.value.charge, $0.key) < ($1.value.charge, $1.key) }
            guard let idle else { return }
            tenants[idle.key] = nil
        }
    }

    // MARK: - Whose turn it is

    /// One look at all that wait: who was passed over, and whether only tenants that have nothing running are still asked.
    struct Round {
        fileprivate var passed: [Tenant: Int] = [:]
        var asksOnlyUnserved = false

        mutating func pass(_ sequence: GeneratedSequence) { passed[sequence.tenant, default: 0] += 1 }
    }

    /// The next one in this round: of the tenant with the smallest charge; of equal ones who has nothing running, then who waits longest.
    func next(in round: Round) -> SequenceID? {
        var best: (charge: UInt64, runs: Int, place: TenantLine.Place)?
        for (tenant, line) in tenants {
            let index = round.passed.isEmpty ? 0 : round.passed[tenant] ?? 0
            guard index < line.waiting, !round.asksOnlyUnserved || line.running == 0 else { continue }
            let place = line.place(index)
            let key = (line.charge, min(1, line.running), place.arrival, place.choice)
            if let best, key >= (best.charge, best.runs, best.place.arrival, best.place.choice) { continue }
            best = (line.charge, min(1, line.running), place)
        }
        return best?.place.id
    }

    /// All that wait, tenant by tenant as they are next now.
    package var inOrder: [SequenceID] {
        let lines = tenants.values.filter { $0.waiting > 0 }
        let ordered = lines.sorted { ($0.charge, min(1, $0.running), $0.place(0).arrival) < ($1.charge, min(1, $1.running), $1.place(0).arrival) }
        return ordered.flatMap { line in (0..<line.waiting).map { line.place($0).id } }
    }

    // MARK: - What is known of tenants

    func weight(of tenant: Tenant) -> Int { tenants[tenant]?.weight ?? 1 }
    func running(of tenant: Tenant) -> Int { tenants[tenant]?.running ?? 0 }

    /// Sequences of the tenant that wait or run.
    package func open(of tenant: Tenant) -> Int { tenants[tenant].map { $0.waiting + $0.running } ?? 0 }

    /// The sum of the weights of all tenants that want something.
    var weightInAll: Int { activeWeight }

    /// The tenants with most open first, at most `Limits.tenantsReportedMax`.
    package var status: [TenantStatus] {
        let all = tenants.filter { $0.value.isActive }.map {
            TenantStatus(tenant: $0.key, weight: $0.value.weight, waiting: $0.value.waiting, running: $0.value.running)
        }
        let sorted = all.sorted { a, b in
            let (openA, openB) = (a.waiting + a.running, b.waiting + b.running)
            return openA != openB ? openA > openB : a.tenant < b.tenant
        }
        return Array(sorted.prefix(Limits.tenantsReportedMax))
    }
}
