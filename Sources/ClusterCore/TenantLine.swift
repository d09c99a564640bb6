/// One tenant's sequences that wait, and its account.
///
/// Who ran before comes first, in order of precedence; then by priority (lower first), then by arrival. So that low priority doesn't wait for
/// ever, the one that came first is overtaken `Limits.overtakesMax` times at most before it is the next.
struct TenantLine: Hashable, Sendable {
    struct Place: Hashable, Sendable {
        var id: SequenceID
        var precedence: GeneratedSequence.Precedence
        var priority: Int32
        var arrival: UInt64
        var choice: UInt32

        func goesBefore(_ other: Place) -> Bool {
            (precedence, priority, arrival, choice) < (other.precedence, other.priority, other.arrival, other.choice)
        }

        var isNew: Bool { precedence == .none }
    }

    var weight: Int
    /// Virtual time up to which the tenant has had its share, see `FairLine`.
    var charge: UInt64
    /// Sequences that run.
    var running = 0
    /// Last goes first, so that taking the first is cheap.
    private var places: [Place] = []
    /// How often the newcomer that came first was overtaken.
    private var overtakes = 0

    init(weight: Int, charge: UInt64) {
        self.weight = weight
        self.charge = charge
    }

    var waiting: Int { places.count }
    var isActive: Bool { waiting > 0 || running > 0 }

    /// What it adds to the sums over all tenants.
    struct Standing {
        var waiting: Int
        /// 0 when it wants nothing.
        var activeWeight: Int
        /// 1 when it waits and has nothing that runs.
        var unserved: Int
    }

    var standing: Standing {
        Standing(waiting: waiting, activeWeight: isActive ? weight : 0, unserved: waiting > 0 && running == 0 ? 1 : 0)
    }

    /// The `index`-th to go.
    func place(_ index: Int) -> Place { places[places.count - 1 - index] }

    mutating func insert(_ place: Place) {
        var (low, high) = (0, places.count)
        while low < high {
            let middle = (low + high) / 2
            if place.goesBefore(places[middle]) { low = middle + 1 } else { high = middle }
        }
        places.insert(place, at: low)
    }

    /// Whether it was there.
    mutating func remove(_ id: SequenceID) -> Bool {
        guard let index = places.lastIndex(where: { $0.id == id }) else { return false }
        places.remove(at: index)
        return true
    }

    /// It runs from now on.
    mutating func admit(_ id: SequenceID) {
        guard let index = places.lastIndex(where: { $0.id == id }) else { preconditionFailure("who is admitted has waited") }
        let place = places.remove(at: index)
        running += 1
        guard place.isNew else { return }
        guard let first = firstToCome, places[first].arrival < place.arrival else { return overtakes = 0 }
        overtakes += 1
        if overtakes >= Limits.overtakesMax { promote(first) }
    }

    private mutating func promote(_ index: Int) {
        overtakes = 0
        var place = places.remove(at: index)
        place.priority = .min
        insert(place)
    }

    private var firstToCome: Int? {
        places.indices.filter { places[$0].isNew }.min { (places[$0].arrival, places[$0].choice) < (places[$1].arrival, places[$1].choice) }
    }
}
