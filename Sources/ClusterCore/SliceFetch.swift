import OrderedCollections

/// Fetches the chunks of a slice that a worker lacks from whoever has them: which chunk from which source, how many at once, whom to
/// leave alone for a while, whom for good.
///
/// States: waiting for an offer that names a manifest; waiting for that manifest; fetching; ended (`done` or `failed`). Wrong calls:
/// answers that nobody waits for are counted and dropped, whoever they come from; events after the end are ignored; a banned source is
/// never asked, listened to or connected to again.
///
/// A source is asked for what it holds, then for chunks, a few at a time. One that is silent past a deadline, refuses or disappoints is
/// disconnected, rests (longer each time), and is tried again; what was asked of it goes to others at once. One whose bytes are not what
/// the manifest says is banned.
package struct SliceFetch: Sendable {
    package struct Settings: Hashable, Sendable {
        /// Chunks asked of one source and not yet here: one that travels and one that waits behind it.
        package var chunksPerSourceMax = 2
        /// Of all sources together. Bounds the memory that a fetch takes.
        package var chunksInFlightMax = 8
        /// For one answer, a chunk behind another one included: 4 MiB over a link of 10 Mbit/s.
        package var answerTimeoutMs: UInt64 = 15_000
        package var restMinMs: UInt64 = 250
        package var restMaxMs: UInt64 = 15_000
        /// Sources may fetch too: what they hold is asked anew so often while they lack something that is wanted.
        package var heldIntervalMs: UInt64 = 2_000
        package var queryIntervalMs: UInt64 = Limits.weightsQueryIntervalMs
        /// Without one more chunk, or one more hashed byte at the coordinator, in this time the fetch fails.
        package var stallTimeoutMs: UInt64 = 45_000

        package init() {}
    }

    private enum State: Hashable { case offerWanted, manifestWanted, fetching, ended }

    private enum Asked: Hashable { case manifest, held, chunk(Int) }

    private struct Source {
        var peer: StagePeer
        /// What was asked, and when it is overdue, oldest first.
        var asked: [(what: Asked, deadline: Instant)] = []
        var isConnected = false
        var held: ChunkSet?
        var heldAgainAt = Instant(nanoseconds: 0)
        var failures: UInt64 = 0
        var restsUntil = Instant(nanoseconds: 0)

        var chunksAsked: Int { asked.count { if case .chunk = $0.what { true } else { false } } }
    }

    private let settings: Settings
    private let model: ModelDigest
    private var state = State.offerWanted
    private var manifest: ContentDigest?
    private var sources: OrderedDictionary<PeerKey, Source> = [:]
    private var bannedKeys: [PeerKey]
    /// In no flight and not stored, ascending; the lowest is asked for first.
    private var pending: [WantedChunk] = []
    private var inFlight: OrderedDictionary<Int, WantedChunk> = [:]
    private var hashedBytes: UInt64 = 0
    private var lastProgress = Instant(nanoseconds: 0)
    private var queryAt = Instant(nanoseconds: 0)
    /// The source that is asked first next time, so that all get their turn.
    private var turn = 0
    package private(set) var counts = SliceFetchCounts()

    /// `banned`: sources that sent wrong bytes of this model before.
    package init(model: ModelDigest, banned: [PeerKey] = [], settings: Settings = Settings()) {
        self.model = model
        self.settings = settings
        bannedKeys = banned
    }

    /// Sources that sent wrong bytes, in the order of finding out.
    package var banned: [PeerKey] { bannedKeys }
    /// Whether this chunk was asked of this source and has not come.
    package func isAwaited(_ index: Int, from key: PeerKey) -> Bool { sources[key]?.asked.contains { $0.what == .chunk(index) } ?? false }

    package var chunksLacking: Int { pending.count + inFlight.count }

    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {
        guard state != .ended else { return }
        switch event {
        case .start: lastProgress = now
        case .offered(let offer): offered(offer, now, &effects)
        case .manifestKnown(let digest, let wanted):
            precondition(state == .offerWanted, "a manifest that was asked for is known already")
            (manifest, state, pending, lastProgress) = (digest, .fetching, wanted.sorted { $0.index < $1.index }, now)
        case .manifest(let key, let wanted): manifestCame(from: key, wanted, now)
        case .manifestRefused(let key): if forget(.manifest, of: key) { ban(key, "its manifest is another one than the coordinator's", &effects) }
        case .held(let key, let set): held(set, by: key, now)
        case .chunk(let key, let index, let byteCount, let isIntact): chunk(index, byteCount, isIntact, from: key, now, &effects)
        case .missing(let key, let request): missing(request, at: key, now, &effects)
        case .malformed(let key): if sources[key] != nil { ban(key, "what it sends is no answer", &effects) }
        case .refused(let key): rest(key, now, &effects)
        case .deadline: break
        }
        carryOn(now, &effects)
    }

    /// What follows every event.
    private mutating func carryOn(_ now: Instant, _ effects: inout [Effect]) {
        guard state != .ended else { return }
        if state == .fetching, chunksLacking == 0 { return end(.done, &effects) }
        failOverdue(now, &effects)
        guard lastProgress.advanced(milliseconds: settings.stallTimeoutMs) > now else { return end(.failed(stalled), &effects) }
        if queryAt <= now {
            queryAt = now.advanced(milliseconds: settings.queryIntervalMs)
            effects.append(.query)
        }
        if state != .offerWanted { askSources(now, &effects) }
    }

    package var nextDeadline: Instant? {
        guard state != .ended else { return nil }
        var deadlines = [lastProgress.advanced(milliseconds: settings.stallTimeoutMs), queryAt]
        for source in sources.values {
            if let first = source.asked.first { deadlines.append(first.deadline) }
            if state == .offerWanted { continue }
            if !source.isConnected { deadlines.append(source.restsUntil) }
            if state == .fetching, source.isConnected, source.asked.isEmpty, lacksPending(source) { deadlines.append(source.heldAgainAt) }
        }
        return deadlines.min()
    }

    private mutating func end(_ effect: Effect, _ effects: inout [Effect]) {
        for (key, source) in sources where source.isConnected { effects.append(.disconnect(key)) }
        effects.append(effect)
        state = .ended
    }

    private var stalled: Failure {
        let what =
            switch state {
            case .offerWanted: "the coordinator has not said what the model's bytes are"
            case .manifestWanted: "no source has the model's manifest"
            case .fetching, .ended: "\(chunksLacking) chunks are lacking"
            }
        return Failure(
            .loadFailed,
            "no weights came for \(settings.stallTimeoutMs) ms: \(what); \(sources.count) sources were tried and \(bannedKeys.count) sent wrong bytes. "
                + "Look after the others, or copy the model here and name it with --model")
    }

    // MARK: - Offers

    private mutating func offered(_ offer: WeightsOffer, _ now: Instant, _ effects: inout [Effect]) {
        guard offer.modelDigest == model else { return }
        if offer.hashedBytes > hashedBytes {
            hashedBytes = offer.hashedBytes
            lastProgress = now
        }
        if let wanted = offer.manifest {
            // A coordinator that was restarted over another file. What was fetched is of no use; the load begins anew and finds out what is.
            if let manifest, manifest != wanted {
                return end(.failed(Failure(.loadFailed, "the coordinator's model file was replaced while its bytes were fetched")), &effects)
            }
            manifest = wanted
            if state == .offerWanted { (state, lastProgress) = (.manifestWanted, now) }
        }
        for peer in offer.sources where !bannedKeys.contains(peer.key) {
            guard let known = sources[peer.key] else {
                sources[peer.key] = Source(peer: peer)
                continue
            }
            guard known.peer != peer else { continue }
            // Another process under the same key.
            release(peer.key, &effects)
            sources[peer.key] = Source(peer: peer)
        }
        for key in Array(sources.keys) where !offer.sources.contains(where: { $0.key == key }) {
            release(key, &effects)
            sources[key] = nil
        }
    }

    // MARK: - Answers

    private mutating func manifestCame(from key: PeerKey, _ wanted: [WantedChunk], _ now: Instant) {
        guard forget(.manifest, of: key), state == .manifestWanted else { return }
        pending = wanted.sorted { $0.index < $1.index }
        state = .fetching
        succeeded(key)
        lastProgress = now
    }

    private mutating func held(_ set: ChunkSet, by key: PeerKey, _ now: Instant) {
        guard forget(.held, of: key) else { return }
        sources[key]!.held = set
        sources[key]!.heldAgainAt = now.advanced(milliseconds: settings.heldIntervalMs)
        succeeded(key)
    }

    private mutating func chunk(_ index: Int, _ byteCount: Int, _ isIntact: Bool, from key: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard forget(.chunk(index), of: key), let chunk = inFlight.removeValue(forKey: index) else {
            counts.wastedBytes += UInt64(byteCount)
            return
        }
        guard isIntact else {
            counts.corruptChunks += 1
            counts.corruptBytes += UInt64(byteCount)
            putBack(chunk)
            return ban(key, "a chunk's hash is another one than the manifest's", &effects)
        }
        counts.chunks += 1
        counts.bytes += UInt64(byteCount)
        lastProgress = now
        succeeded(key)
        effects.append(.store(index))
    }

    private mutating func missing(_ request: WeightsRequest, at key: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        switch request {
        case .manifest where forget(.manifest, of: key): rest(key, now, &effects)
        case .held where forget(.held, of: key): rest(key, now, &effects)
        case .chunk(_, let index) where forget(.chunk(index), of: key):
            if let chunk = inFlight.removeValue(forKey: index) { putBack(chunk) }
            sources[key]!.held = nil
            sources[key]!.heldAgainAt = now.advanced(milliseconds: settings.heldIntervalMs)
        default: break
        }
    }

    /// Whether this was asked of the source; it no longer is.
    private mutating func forget(_ what: Asked, of key: PeerKey) -> Bool {
        guard let place = sources[key]?.asked.firstIndex(where: { $0.what == what }) else { return false }
        sources[key]!.asked.remove(at: place)
        return true
    }

    private mutating func succeeded(_ key: PeerKey) { sources[key]!.failures = 0 }

    private mutating func putBack(_ chunk: WantedChunk) {
        let place = pending.firstIndex { $0.index > chunk.index } ?? pending.count
        pending.insert(chunk, at: place)
    }

    // MARK: - Sources that fail

    private mutating func failOverdue(_ now: Instant, _ effects: inout [Effect]) {
        for (key, source) in sources where source.asked.contains(where: { $0.deadline <= now }) {
            counts.timeouts += 1
            rest(key, now, &effects)
        }
    }

    /// Leaves a source alone for a while; what it was asked is asked of others.
    private mutating func rest(_ key: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let source = sources[key] else { return }
        release(key, &effects)
        let pause = min(settings.restMinMs << min(source.failures, 20), settings.restMaxMs)
        sources[key]!.failures += 1
        sources[key]!.restsUntil = now.advanced(milliseconds: pause)
    }

    private mutating func ban(_ key: PeerKey, _ reason: String, _ effects: inout [Effect]) {
        effects.append(
            .log(LogEntry(.warning, "a source of weights is not asked again", [.init("peer", key), .init("reason", reason)])))
        release(key, &effects)
        sources[key] = nil
        bannedKeys.append(key)
        counts.banned += 1
    }

    private mutating func release(_ key: PeerKey, _ effects: inout [Effect]) {
        guard let source = sources[key] else { return }
        for (what, _) in source.asked {
            if case .chunk(let index) = what, let chunk = inFlight.removeValue(forKey: index) { putBack(chunk) }
        }
        sources[key]!.asked = []
        sources[key]!.held = nil
        if source.isConnected { effects.append(.disconnect(key)) }
        sources[key]!.isConnected = false
    }

    // MARK: - Asking

    private mutating func askSources(_ now: Instant, _ effects: inout [Effect]) {
        for (key, source) in sources where !source.isConnected && source.restsUntil <= now {
            effects.append(.connect(source.peer))
            sources[key]!.isConnected = true
        }
        if state == .manifestWanted { return askForManifest(now, &effects) }
        for (key, source) in sources where source.isConnected && wantsToKnow(source, now) { ask(.held, of: key, now, &effects) }
        // One chunk a source in each round, so that none gets all.
        var isAsking = true
        while isAsking, !pending.isEmpty {
            isAsking = false
            for _ in 0..<sources.count {
                turn = (turn + 1) % sources.count
                guard inFlight.count < settings.chunksInFlightMax else { return }
                if askForChunk(of: sources.keys[turn], now, &effects) { isAsking = true }
            }
        }
    }

    /// Of one source at a time: a manifest can be megabytes.
    private mutating func askForManifest(_ now: Instant, _ effects: inout [Effect]) {
        guard !sources.values.contains(where: { $0.asked.contains { $0.what == .manifest } }) else { return }
        let able = sources.filter { $0.value.isConnected }.min { $0.value.failures < $1.value.failures }
        if let key = able?.key { ask(.manifest, of: key, now, &effects) }
    }

    private func wantsToKnow(_ source: Source, _ now: Instant) -> Bool {
        source.heldAgainAt <= now && source.asked.isEmpty && lacksPending(source)
    }

    private func lacksPending(_ source: Source) -> Bool {
        guard let held = source.held else { return true }
        return pending.contains { !held.contains($0.index) }
    }

    private mutating func askForChunk(of key: PeerKey, _ now: Instant, _ effects: inout [Effect]) -> Bool {
        guard let source = sources[key], source.isConnected, let held = source.held, source.chunksAsked < settings.chunksPerSourceMax,
            let place = pending.firstIndex(where: { held.contains($0.index) })
        else { return false }
        let chunk = pending.remove(at: place)
        inFlight[chunk.index] = chunk
        ask(.chunk(chunk.index), of: key, now, &effects)
        return true
    }

    private mutating func ask(_ what: Asked, of key: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        sources[key]!.asked.append((what, now.advanced(milliseconds: settings.answerTimeoutMs)))
        let request: WeightsRequest =
            switch what {
            case .manifest: .manifest(model)
            case .held: .held(model)
            case .chunk(let index): .chunk(model, index)
            }
        effects.append(.request(request, from: key))
    }
}
