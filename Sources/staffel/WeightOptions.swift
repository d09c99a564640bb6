import ArgumentParser
import Node

/// How weights are handed on to workers that have no model file.
struct WeightOptions: ParsableArguments {
    @Option(help: "Where workers without a model file fetch weights from this process. (default: the host of the other listening address, any free port)")
    var weightsListen: String?

    @Option(help: "Bytes of weights that may leave in a second, such as 200MB; 0 hands none on. (default: 1GiB)")
    var weightsRate: String?

    /// `other`: where the process listens anyway, and how that is reached. `nil` when nothing is handed on.
    func server(_ settings: Settings, besides other: String, advertise: String?) throws -> WeightServerSettings? {
        if settings.string("weights-rate", flag: weightsRate) == "0" { return nil }
        return .besides(
            other, advertise: advertise, explicit: try settings.endpoint("weights-listen", flag: weightsListen),
            bytesPerSecondMax: try settings.bytes("weights-rate", flag: weightsRate).map { max(1 << 10, Int($0)) })
    }
}

/// Where a worker's own weights come from.
struct FetchOptions: ParsableArguments {
    @Option(help: "Where weights come from: auto (a model file on this box, else other workers), peers (always other workers) or file (never). (default: auto)")
    var weightsFrom: String?

    @Option(help: "What fetched weights may take below the cache's folder, such as 64GiB; what was used longest ago goes first. 0 fetches none. (default: 64GiB)")
    var slicesLimit: String?

    func apply(to worker: inout WorkerSettings, _ settings: Settings, caching: CacheOptions) throws {
        if let text = settings.string("weights-from", flag: weightsFrom) {
            guard let source = WeightsFrom(rawValue: text) else {
                throw ValidationError("weights-from is '\(text)': give \(WeightsFrom.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            worker.weightsFrom = source
        }
        if settings.string("slices-limit", flag: slicesLimit) == "0" { return }
        let bytes = try settings.bytes("slices-limit", flag: slicesLimit).map { Int($0) }
        worker.slices = SliceCache(
            folder: (settings.string("cache", flag: caching.cache) ?? CachePath.standard) + "/slices", bytesMax: bytes ?? SliceCache.bytesMaxDefault)
    }
}
