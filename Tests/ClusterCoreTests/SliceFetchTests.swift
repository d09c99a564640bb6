import Testing

@testable import ClusterCore

/// Fetching a slice as values: every way in which sources can be slow, away, empty, greedy or wrong.
@Suite struct SliceFetchTests {
    static let seeds: UInt64 = 2_000
    static let model = ModelDigest(bytes: [UInt8](repeating: 7, count: 32))!
    static let manifest = ContentDigest(bytes: [UInt8](repeating: 9, count: 32))!

    static func peer(_ number: Int) -> StagePeer {
        StagePeer(key: PeerKey(bytes: [UInt8(number)] + [UInt8](repeating: 1, count: 31))!, endpoint: "tcp://10.0.0.1:\(4_000 + number)")
    }

    private func offer(_ sources: [StagePeer], manifest: ContentDigest? = manifest, hashed: UInt64 = 10) -> WeightsOffer {
        WeightsOffer(modelDigest: Self.model, manifest: manifest, hashedBytes: hashed, totalBytes: 10, sources: sources)
    }

    private func wanted(_ count: Int) -> [WantedChunk] { (0..<count).map { WantedChunk(index: $0, byteCount: 10) } }

    private func at(_ ms: UInt64) -> Instant { Instant(nanoseconds: 0).advanced(milliseconds: ms) }

    // MARK: - One step at a time

    @Test func aSliceComesFromOneSource() {
        var fetch = SliceFetch(model: Self.model)
        var effects: [SliceFetch.Effect] = []
        func take(_ event: SliceFetch.Event, _ ms: UInt64 = 1) -> [SliceFetch.Effect] {
            effects = []
            fetch.handle(event, at: at(ms), into: &effects)
            return effects
        }
        let source = Self.peer(1)
        #expect(take(.start) == [.query])
        #expect(take(.offered(offer([source]))) == [.connect(source), .request(.manifest(Self.model), from: source.key)])
        #expect(take(.manifest(from: source.key, wanted: wanted(3))) == [.request(.held(Self.model), from: source.key)])
        #expect(
            take(.held(from: source.key, ChunkSet(count: 3, full: true)))
                == [.request(.chunk(Self.model, 0), from: source.key), .request(.chunk(Self.model, 1), from: source.key)])
        #expect(take(.chunk(from: source.key, 1, byteCount: 10, isIntact: true)) == [.store(1), .request(.chunk(Self.model, 2), from: source.key)])
        #expect(take(.chunk(from: source.key, 0, byteCount: 10, isIntact: true)) == [.store(0)])
        #expect(take(.chunk(from: source.key, 0, byteCount: 10, isIntact: true)) == [], "it came twice")
        #expect(take(.chunk(from: source.key, 2, byteCount: 10, isIntact: true)) == [.store(2), .disconnect(source.key), .done])
        #expect(fetch.counts.bytes == 30 && fetch.counts.wastedBytes == 10 && fetch.nextDeadline == nil)
        #expect(take(.offered(offer([source]))) == [], "it has ended")
    }

    @Test func whatIsOnTheDiskIsNotFetched() {
        var fetch = SliceFetch(model: Self.model)
        var effects: [SliceFetch.Effect] = []
        fetch.handle(.start, at: at(0), into: &effects)
        fetch.handle(.manifestKnown(Self.manifest, wanted: []), at: at(1), into: &effects)
        #expect(effects == [.query, .done])
    }

    @Test func wrongBytesAreBanned() {
        var fetch = SliceFetch(model: Self.model)
        var effects: [SliceFetch.Effect] = []
        let (bad, good) = (Self.peer(1), Self.peer(2))
        fetch.handle(.start, at: at(0), into: &effects)
        fetch.handle(.manifestKnown(Self.manifest, wanted: wanted(4)), at: at(1), into: &effects)
        fetch.handle(.offered(offer([bad, good])), at: at(1), into: &effects)
        fetch.handle(.held(from: bad.key, ChunkSet(count: 4, full: true)), at: at(2), into: &effects)
        effects = []
        fetch.handle(.chunk(from: bad.key, 0, byteCount: 10, isIntact: false), at: at(3), into: &effects)
        #expect(effects.contains(.disconnect(bad.key)) && fetch.banned == [bad.key] && fetch.chunksLacking == 4)
        effects = []
        // Offered again, it stays out; what was asked of it is asked of the other.
        fetch.handle(.offered(offer([bad, good])), at: at(4), into: &effects)
        fetch.handle(.held(from: good.key, ChunkSet(count: 4, full: true)), at: at(5), into: &effects)
        #expect(effects == [.request(.chunk(Self.model, 0), from: good.key), .request(.chunk(Self.model, 1), from: good.key)])
        #expect(fetch.counts.corruptBytes == 10 && fetch.counts.bytes == 0)
    }

    @Test func nobodyWithTheBytesIsAnErrorInTime() {
        var fetch = SliceFetch(model: Self.model)
        var effects: [SliceFetch.Effect] = []
        fetch.handle(.start, at: at(0), into: &effects)
        // Hashing is progress: as long as there is more of it, the fetch waits.
        for second in 1...100 {
            fetch.handle(.offered(offer([], manifest: nil, hashed: UInt64(second))), at: at(UInt64(second) * 1_000), into: &effects)
        }
        #expect(!effects.contains { if case .failed = $0 { true } else { false } })
        fetch.handle(.deadline, at: at(100_000 + SliceFetch.Settings().stallTimeoutMs), into: &effects)
        guard case .failed(let failure)? = effects.last else { return #expect(Bool(false), "it waits for ever") }
        #expect(failure.code == .loadFailed && failure.message.contains("coordinator"))
    }

    @Test func anotherManifestEndsTheFetch() {
        var fetch = SliceFetch(model: Self.model)
        var effects: [SliceFetch.Effect] = []
        fetch.handle(.start, at: at(0), into: &effects)
        fetch.handle(.offered(offer([Self.peer(1)])), at: at(1), into: &effects)
        fetch.handle(.offered(offer([Self.peer(1)], manifest: ContentDigest(bytes: [UInt8](repeating: 1, count: 32))!)), at: at(2), into: &effects)
        guard case .failed? = effects.last else { return #expect(Bool(false), "two models were mixed") }
    }

    // MARK: - Worlds

    /// Thousands of little worlds of honest, slow, dying, empty, partial and corrupt sources. Whatever they do: a banned source is never asked, no
    /// chunk is stored twice, limits hold; and where an honest source has each chunk in the end, all are stored.
    @Test func whateverSourcesDo() {
        var ends: [String: Int] = [:]
        var hits = SliceFetchCounts()
        for seed in 0..<Self.seeds {
            var world = FetchWorld(seed: seed)
            world.run()
            #expect(world.faults == [], "seed \(seed)")
            ends[world.end ?? "none", default: 0] += 1
            hits += world.fetch.counts
        }
        print("\(Self.seeds) seeds: \(ends.sorted { $0.key < $1.key }), \(hits)")
        #expect(ends["done", default: 0] > Int(Self.seeds) / 2 && ends["failed", default: 0] > 20 && ends["none"] == nil)
        let faults = [hits.corruptChunks, hits.timeouts, hits.wastedBytes, hits.banned]
        #expect(faults.allSatisfy { $0 > 500 }, "a fault that never happens proves nothing")
    }
}

extension SeededNumbers {
    fileprivate mutating func int(in range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}

/// Sources with seeded habits around one fetch.
private struct FetchWorld {
    private struct Source {
        let peer: StagePeer
        var held: ChunkSet
        /// Of 100 answers so many are of that kind.
        var corruptPercent: Int
        var silentPercent: Int
        var refusesUntil: UInt64
        var missesPercent: Int
        var delayMs: ClosedRange<UInt64>
        var malformedPercent: Int
        var hasManifest: Bool
        var hasOtherManifest: Bool
        var isHonest: Bool { corruptPercent == 0 && malformedPercent == 0 && !hasOtherManifest }
    }

    private struct Due {
        var at: UInt64
        var event: SliceFetch.Event
        /// Which connection it belongs to: what a closed one would have brought never comes, mostly.
        var connection: Int
        var source: PeerKey?
    }

    var fetch: SliceFetch
    private(set) var faults: [String] = []
    private(set) var end: String?
    private var numbers: SeededNumbers
    private var sources: [Source] = []
    private var due: [Due] = []
    private var now: UInt64 = 0
    private var connections: [PeerKey: Int] = [:]
    private var made = 0
    private var asked: [PeerKey: Int] = [:]
    private var stored: Set<Int> = []
    private let count: Int
    private var manifestAt: UInt64
    private var settings = SliceFetch.Settings()
    private var last: SliceFetch.Event?

    init(seed: UInt64) {
        numbers = SeededNumbers(seed: seed)
        count = numbers.int(in: 1...25)
        manifestAt = numbers.oneIn(3) ? UInt64(numbers.int(in: 0...20_000)) : 0
        settings.answerTimeoutMs = 1_000
        settings.restMaxMs = 1_000
        settings.stallTimeoutMs = 30_000
        fetch = SliceFetch(model: SliceFetchTests.model, settings: settings)
        for number in 0..<numbers.int(in: 0...6) {
            var held = ChunkSet(count: count, full: numbers.oneIn(2))
            for chunk in 0..<count where numbers.oneIn(3) { held.insert(chunk) }
            sources.append(
                Source(
                    peer: SliceFetchTests.peer(number), held: held, corruptPercent: numbers.oneIn(4) ? numbers.int(in: 1...100) : 0,
                    silentPercent: numbers.oneIn(3) ? numbers.int(in: 1...60) : 0,
                    refusesUntil: numbers.oneIn(4) ? UInt64(numbers.int(in: 0...5_000)) : 0,
                    missesPercent: numbers.oneIn(4) ? 30 : 0, delayMs: numbers.oneIn(3) ? 1...1_300 : 1...50,
                    malformedPercent: numbers.oneIn(12) ? 20 : 0, hasManifest: numbers.oneIn(2) || number == 0,
                    hasOtherManifest: numbers.oneIn(12)))
        }
    }

    mutating func run() {
        handle(.start)
        for _ in 0..<20_000 where end == nil {
            let deadline = fetch.nextDeadline.map { $0.nanoseconds / 1_000_000 } ?? .max
            if let next = due.indices.min(by: { (due[$0].at, $0) < (due[$1].at, $1) }), due[next].at <= deadline {
                let one = due.remove(at: next)
                now = max(now, one.at)
                deliver(one)
            } else {
                guard deadline != .max else { break }
                // A deadline in the past would be a driver that spins.
                if last == .deadline, deadline < now { faults.append("a deadline in the past"); break }
                now = max(now, deadline)
                handle(.deadline)
            }
        }
        check()
    }

    private mutating func deliver(_ one: Due) {
        if let source = one.source {
            if connections[source] != one.connection { return }
            asked[source]! -= 1
            if numbers.oneIn(20), case .chunk(_, let index, _, true) = one.event {
                handle(.chunk(from: source, index, byteCount: 10, isIntact: true))
                if end != nil { return }
            }
        }
        handle(one.event)
    }

    private mutating func check() {
        guard end != nil else { return faults.append("it never ends") }
        let able = sources.filter { $0.isHonest && $0.silentPercent < 30 }
        let isPossible = (0..<count).allSatisfy { chunk in able.contains { $0.held.contains(chunk) } } && able.contains { $0.hasManifest }
        if end == "done", stored.count != count { faults.append("done without \(count - stored.count) chunks") }
        if end == "failed", isPossible { faults.append("failed though honest sources have all") }
        if fetch.counts.chunks != UInt64(stored.count) { faults.append("\(fetch.counts.chunks) chunks counted, \(stored.count) stored") }
    }

    private mutating func handle(_ event: SliceFetch.Event) {
        last = event
        var effects: [SliceFetch.Effect] = []
        fetch.handle(event, at: Instant(nanoseconds: now * 1_000_000), into: &effects)
        for effect in effects { perform(effect, after: event) }
        if asked.values.reduce(0, +) > settings.chunksInFlightMax + 2 * sources.count { faults.append("too much in flight") }
    }

    private mutating func perform(_ effect: SliceFetch.Effect, after event: SliceFetch.Event) {
        if end != nil { faults.append("something came after the end") }
        switch effect {
        case .query: due.append(Due(at: now + 1, event: .offered(offer), connection: 0))
        case .connect(let peer):
            made += 1
            connections[peer.key] = made
            asked[peer.key] = 0
            if fetch.banned.contains(peer.key) { faults.append("a banned source is connected to") }
            let source = sources.first { $0.peer == peer }!
            if source.refusesUntil > now {
                due.append(Due(at: now + 2, event: .refused(by: peer.key), connection: made, source: peer.key))
                asked[peer.key]! += 1
            }
        case .disconnect(let key):
            if connections.removeValue(forKey: key) == nil { faults.append("disconnected twice") }
            asked[key] = 0
        case .request(let request, let key):
            if fetch.banned.contains(key) { faults.append("a banned source is asked") }
            guard let connection = connections[key] else { return faults.append("a source is asked without a connection") }
            answer(request, sources.first { $0.peer.key == key }!, connection)
        case .store(let index):
            guard case .chunk(_, index, _, true) = event else { return faults.append("stored what did not come") }
            if !stored.insert(index).inserted { faults.append("a chunk is stored twice") }
        case .log: break
        case .done: end = "done"
        case .failed: end = "failed"
        }
    }

    private var offer: WeightsOffer {
        WeightsOffer(
            modelDigest: SliceFetchTests.model, manifest: now >= manifestAt ? SliceFetchTests.manifest : nil, hashedBytes: min(now, manifestAt),
            totalBytes: manifestAt, sources: sources.map(\.peer))
    }

    private mutating func answer(_ request: WeightsRequest, _ source: Source, _ connection: Int) {
        asked[source.peer.key]! += 1
        let key = source.peer.key
        if source.refusesUntil > now || numbers.int(in: 1...100) <= source.silentPercent { return }
        let delay = UInt64(numbers.int(in: Int(source.delayMs.lowerBound)...Int(source.delayMs.upperBound)))
        let event: SliceFetch.Event =
            if numbers.int(in: 1...100) <= source.malformedPercent {
                .malformed(from: key)
            } else {
                switch request {
                case .manifest:
                    source.hasOtherManifest
                        ? .manifestRefused(from: key)
                        : source.hasManifest
                            ? .manifest(from: key, wanted: (0..<count).map { WantedChunk(index: $0, byteCount: 10) }) : .missing(from: key, request)
                case .held: .held(from: key, source.held)
                case .chunk(_, let index):
                    numbers.int(in: 1...100) <= source.missesPercent
                        ? .missing(from: key, request)
                        : .chunk(from: key, index, byteCount: 10, isIntact: numbers.int(in: 1...100) > source.corruptPercent)
                }
            }
        due.append(Due(at: now + delay, event: event, connection: connection, source: key))
    }
}
