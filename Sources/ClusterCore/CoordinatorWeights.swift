import OrderedCollections

/// How far the coordinator's node is with hashing the model's file.
package struct HashedWeights: Hashable, Sendable {
    /// `nil` until it is done.
    package var manifest: ContentDigest?
    package var hashedBytes: UInt64
    package var totalBytes: UInt64

    package init(manifest: ContentDigest? = nil, hashedBytes: UInt64 = 0, totalBytes: UInt64 = 0) {
        self.manifest = manifest
        self.hashedBytes = hashedBytes
        self.totalBytes = totalBytes
    }
}

/// Who fetches weights now.
///
/// The model is hashed when the first worker asks, not before: workers that have the file need no manifest, so a cluster of those
/// starts without reading a byte more.
struct WeightSources: Hashable, Sendable {
    var hashed = HashedWeights()
    /// Workers that asked and did not say since that they have loaded. Ascending.
    private(set) var fetchers: [PeerKey] = []

    /// False when it was known already.
    mutating func insert(_ key: PeerKey) -> Bool {
        guard !fetchers.contains(key) else { return false }
        fetchers.append(key)
        fetchers.sort()
        return true
    }

    /// False when it was none.
    mutating func remove(_ key: PeerKey) -> Bool {
        guard let place = fetchers.firstIndex(of: key) else { return false }
        fetchers.remove(at: place)
        return true
    }

    /// A worker that came (back) must know whom to let in.
    func tell(_ worker: PeerKey, _ hello: WorkerHello, _ effects: inout [Coordinator.Effect]) {
        if hello.weightsEndpoint != nil, !fetchers.isEmpty { effects.append(.send(.weightsFetchers(fetchers), to: worker)) }
    }
}

extension Coordinator {
    /// Tells a worker that has no model file where its bytes are. Those who have them hear first that it may ask.
    mutating func weightsQueried(_ model: ModelDigest, by worker: PeerKey, _ effects: inout [Effect]) {
        guard model == configuration.model.digest else { return drop(.invalid, from: worker, &effects) }
        if let member = membership.workers[worker], member.hello.version.minor < configuration.weightsMinor {
            let failure = partsUnknown(to: member.hello.version)
            log(.warning, "a worker cannot fetch this model", [.init("peer", worker), .init("reason", failure.message)], &effects)
            return effects.append(.send(.refused(failure), to: worker))
        }
        if weights.insert(worker) {
            log(.info, "a worker fetches weights", [.init("peer", worker)], &effects)
            tellFetchers(&effects)
        }
        if weights.hashed.manifest == nil { effects.append(.hashWeights) }
        var sources = membership.workers.values.filter { $0.key != worker }.compactMap { member in
            member.hello.weightsEndpoint.map { StagePeer(key: member.key, endpoint: $0) }
        }
        if let own = configuration.weightsPeer { sources.append(own) }
        let offer = WeightsOffer(
            modelDigest: model, manifest: weights.hashed.manifest, hashedBytes: weights.hashed.hashedBytes,
            totalBytes: weights.hashed.totalBytes, sources: sources)
        effects.append(.send(.weightsOffer(offer), to: worker))
    }

    private func partsUnknown(to theirs: ProtocolVersion) -> Failure {
        Failure(
            .versionMismatch,
            "the model is a folder, and a worker of protocol \(theirs) cannot fetch folders, which takes \(theirs.major).\(configuration.weightsMinor): update that worker's release, or copy the folder to its box and name it with --model"
        )
    }

    mutating func endFetch(of worker: PeerKey, _ effects: inout [Effect]) {
        if weights.remove(worker) { tellFetchers(&effects) }
    }

    private func tellFetchers(_ effects: inout [Effect]) {
        effects.append(.admitFetchers(weights.fetchers))
        for member in membership.workers.values where member.hello.weightsEndpoint != nil {
            effects.append(.send(.weightsFetchers(weights.fetchers), to: member.key))
        }
    }
}
