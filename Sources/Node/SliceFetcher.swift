import ClusterCore
import Foundation
import Logging
import ModelFiles
import Wire
import ZeroMQ

/// Performs a `SliceFetch`: sockets to sources, hashing what comes, writing what is right. Runs on the thread that calls `run`, which owns the
/// sockets and waits for the slice.
///
/// Memory: the chunks in flight, which the machine bounds, and what one source may send unasked, which its socket bounds.
struct SliceFetcher: ~Copyable {
    /// How long a change of mind (`tick`) may have to wait.
    private static let pollMsMax: UInt64 = 50
    private static let repliesWaitingMax = 4
    private static let requestsWaitingMax = 16

    private final class Link {
        let socket: Socket
        let monitor: HandshakeMonitor
        var queue = SendQueue(capacity: requestsWaitingMax)

        init(_ peer: StagePeer, context: Context, own: CurveKeyPair) throws(ZeroMQError) {
            var options = SocketOptions(.curveClient(own, server: peer.key.curve))
            options.maxPartBytes = max(WeightManifest.chunkBytes, Limits.manifestBytesMax)
            options.maxMessageBytes = options.maxPartBytes + Limits.messageBytesMax
            options.receiveHighWaterMark = repliesWaitingMax
            let socket = try Socket(context, .dealer, options)
            let monitor = try socket.handshakeMonitor()
            try socket.connect(peer.endpoint)
            self.socket = socket
            self.monitor = monitor
        }
    }

    /// What a worker fetches, and from where it may.
    struct Order: Sendable {
        var model: ClusterCore.ModelDigest
        var layers: Range<Int>
        var isFirst: Bool
        var isLast: Bool
        var banned: [PeerKey] = []
    }

    private let order: Order
    private let cache: SliceCache
    private let own: CurveKeyPair
    private let offers: Mailbox<WeightsOffer>
    private let query: () -> Void
    /// The slice's file, made or found, for others to have.
    private let open: (EncodedManifest) throws -> SliceFile
    /// Hears how much came so far, many times a second.
    private let told: (SliceFetchCounts) -> Void
    private let logger: Logger?
    private let context: Context
    private var machine: SliceFetch
    private var links: [PeerKey: Link] = [:]
    private var slice: SliceFile?
    private var manifestDigest: ContentDigest?
    private var wanted: [Int] = []
    private var end: Result<Void, NodeError>?
    /// For progress: bytes that the coordinator hashed, bytes that were looked at or came, and bytes of the slice.
    private var hashedBytes: UInt64 = 0
    private var doneBytes = 0
    private var sliceBytes = 0

    init(
        _ order: Order, cache: SliceCache, own: CurveKeyPair, offers: Mailbox<WeightsOffer>, logger: Logger?, query: @escaping () -> Void,
        open: @escaping (EncodedManifest) throws -> SliceFile, told: @escaping (SliceFetchCounts) -> Void
    ) throws {
        self.told = told
        self.order = order
        self.cache = cache
        self.own = own
        self.offers = offers
        self.query = query
        self.open = open
        self.logger = logger
        context = try Context()
        machine = SliceFetch(model: order.model, banned: order.banned)
    }

    var counts: SliceFetchCounts { machine.counts }
    var banned: [PeerKey] { machine.banned }

    /// Returns when every chunk of the slice lies on the disk. `tick` is called many times a second with bytes done and in all, which only grow;
    /// what it throws ends the fetch, and what came until then stays for the next one. Throws `NodeError` when there is no way on.
    mutating func run(tick: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> SliceFile {
        // Answers to an earlier fetch.
        _ = offers.drain()
        try handle(.start)
        while end == nil {
            var poller = Poller()
            let offered = poller.watch(offers)
            let entries = links.mapValues { poller.watch($0.socket, $0.queue.interest) }
            _ = try poller.wait(milliseconds: millisecondsUntilDeadline())
            if poller.isReadable(offered) { for offer in offers.drain() { try take(offer, tick: tick) } }
            for (key, entry) in entries where poller.ready(entry) != [] { try receive(from: key) }
            try lookAfterLinks()
            if let deadline = machine.nextDeadline, deadline <= MonotonicClock.now { try handle(.deadline) }
            try tell(tick)
        }
        try end!.get()
        guard let slice else { preconditionFailure("a fetch is done without a manifest") }
        try slice.seal()
        return slice
    }

    private func millisecondsUntilDeadline() -> Int {
        guard let deadline = machine.nextDeadline else { return Int(Self.pollMsMax) }
        return Int(min((deadline.nanoseconds(since: MonotonicClock.now) + 999_999) / 1_000_000, Self.pollMsMax))
    }

    private func tell(_ tick: (Int, Int) throws -> Void) throws {
        told(machine.counts)
        try tick(Int(hashedBytes) + doneBytes, Int(hashedBytes) + max(sliceBytes, doneBytes))
    }

    // MARK: - In

    /// An offer may name a manifest that is on the disk already.
    private mutating func take(_ offer: WeightsOffer, tick: (Int, Int) throws -> Void) throws {
        guard offer.modelDigest == order.model else { return }
        if offer.manifest == nil { hashedBytes = max(hashedBytes, offer.hashedBytes) }
        if manifestDigest == nil, let digest = offer.manifest {
            manifestDigest = digest
            if let kept = SliceFile.keptManifest(in: cache.folder(of: digest), digest: digest) {
                let lacking = try begin(kept, tick: tick)
                try handle(.manifestKnown(digest, wanted: lacking))
            }
        }
        try handle(.offered(offer))
    }

    /// What is to be fetched under this manifest.
    private mutating func begin(_ manifest: EncodedManifest, tick: (Int, Int) throws -> Void) throws -> [WantedChunk] {
        let known = manifest.manifest
        wanted = known.chunks(ofLayers: order.layers, isFirst: order.isFirst, isLast: order.isLast)
        sliceBytes = wanted.reduce(0) { $0 + known.place(of: $1).byteCount }
        let slice = try open(manifest)
        self.slice = slice
        var looked = 0
        let lacking = try slice.lacking(wanted) { bytes in
            looked += bytes
            try tick(Int(hashedBytes), Int(hashedBytes) + sliceBytes)
        }
        let missing = lacking.map { WantedChunk(index: $0, byteCount: known.place(of: $0).byteCount) }
        let bytes = missing.reduce(0) { $0 + $1.byteCount }
        doneBytes = sliceBytes - bytes
        try cache.makeRoom(bytes, for: slice, wanted: wanted)
        logger?.info(
            "fetching weights",
            metadata: ["bytes": "\(bytes)", "of_bytes": "\(sliceBytes)", "chunks": "\(missing.count)", "hashed_again_bytes": "\(looked)"])
        return missing
    }

    private mutating func receive(from key: PeerKey) throws {
        guard let link = links[key] else { return }
        try link.queue.flush(over: link.socket)
        for _ in 0..<Self.repliesWaitingMax {
            // A ban in between closes the link.
            guard links[key] === link, end == nil else { return }
            var isTooLarge = false
            let received = try link.socket.receive(maxParts: 2) { isTooLarge = true }
            if isTooLarge { return try handle(.malformed(from: key)) }
            guard let message = received else { return }
            try take(message, from: key)
        }
    }

    /// Parts: the reply, and the bytes that belong to it.
    private mutating func take(_ message: borrowing Message, from key: PeerKey) throws {
        guard let reply = try? message.withBytes(of: 0, WireCodec.decodeWeightsReply) else { return try handle(.malformed(from: key)) }
        switch reply {
        case .missing(let request): return try handle(.missing(from: key, request))
        case .manifest(let model), .held(let model, _), .chunk(let model, _):
            guard model == order.model, message.count == 2 else { return try handle(.malformed(from: key)) }
        }
        switch reply {
        case .missing: return
        case .manifest:
            guard slice == nil else { return }
            guard let encoded = try? message.withBytes(of: 1, EncodedManifest.init(bytes:)), encoded.digest == manifestDigest,
                encoded.manifest.modelDigest == order.model
            else { return try handle(.manifestRefused(from: key)) }
            let lacking = try begin(encoded) { _, _ in }
            try handle(.manifest(from: key, wanted: lacking))
        case .held(_, let count):
            guard let slice else { return }
            guard count == slice.manifest.manifest.chunkCount, let set = ChunkSet(count: count, bytes: message.bytes(of: 1)) else {
                return try handle(.malformed(from: key))
            }
            try handle(.held(from: key, set))
        case .chunk(_, let index):
            // Nothing is hashed that nobody asked for.
            guard let slice, machine.isAwaited(index, from: key) else {
                return try handle(.chunk(from: key, index, byteCount: message.byteCount(of: 1), isIntact: false))
            }
            try message.withBytes(of: 1) { bytes in
                try handle(.chunk(from: key, index, byteCount: bytes.count, isIntact: slice.isIntact(index, bytes)), chunk: bytes)
            }
        }
    }

    /// Requests that wait for a connection, and connections that were refused.
    private mutating func lookAfterLinks() throws {
        for (key, link) in links {
            if !link.queue.isEmpty { try link.queue.flush(over: link.socket) }
            while let event = try link.monitor.next() {
                switch event {
                case .succeeded: continue
                case .refused, .failed: try handle(.refused(by: key))
                }
                break
            }
        }
    }

    // MARK: - Out

    private mutating func handle(_ event: SliceFetch.Event, chunk: UnsafeRawBufferPointer? = nil) throws {
        var effects: [SliceFetch.Effect] = []
        machine.handle(event, at: MonotonicClock.now, into: &effects)
        for effect in effects { try perform(effect, chunk) }
    }

    private mutating func perform(_ effect: SliceFetch.Effect, _ chunk: UnsafeRawBufferPointer?) throws {
        switch effect {
        case .query: query()
        case .connect(let peer): links[peer.key] = try Link(peer, context: context, own: own)
        case .disconnect(let key): links[key] = nil
        case .request(let request, let key):
            guard let link = links[key] else { preconditionFailure("a source is asked that has no connection") }
            // One that does not go out is overdue in time.
            _ = try link.queue.send(Message(copying: WireCodec.encode(request)), over: link.socket)
        case .store(let index):
            guard let slice, let chunk else { preconditionFailure("a chunk is stored that did not come") }
            do { try slice.store(index, chunk) } catch {
                // Half a slice must not keep a full disk full.
                if (error as? NodeError)?.code == .diskFull { slice.rollBack() }
                throw error
            }
            doneBytes += chunk.count
        case .log(let entry): logger?.log(entry)
        case .done: end = .success(())
        case .failed(let failure): end = .failure(NodeError(.weightsUnusable, failure.message))
        }
    }
}
