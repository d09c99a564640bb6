import ClusterCore
import Crypto

/// Who makes a request, as far as sharing the cluster goes: the holder of an API key, or everybody where none is asked for.
struct Client: Hashable, Sendable {
    var name: String
    /// Made of the name; the same at every gateway, and no way back to the key.
    var tenant: Tenant
    /// See `GenerationRequest.weight`.
    var weight = 1
    /// The lowest priority value that its requests may have.
    var prioritySoonest: Int32 = .min
    /// Choices that it may have open at once at one gateway.
    var choicesOpenMax: Int?
    /// See `RateLimits`.
    var requestsPerMinuteMax: Int?
    var tokensPerMinuteMax: Int?

    var isMetered: Bool { requestsPerMinuteMax != nil || tokensPerMinuteMax != nil }

    /// Where no key is asked for, all are one.
    static let anybody = Client(name: "", tenant: .shared)

    private init(name: String, tenant: Tenant) {
        self.name = name
        self.tenant = tenant
    }

    /// More than any cluster of processors answers in a minute.
    static let perMinuteMax = 1_000_000_000

    /// - Parameters:
    ///   - settings: what stands behind the key in the file, such as `weight=4`.
    ///   - place: names the line in errors.
    init(name: String, settings: some Sequence<Substring>, place: String) throws(GatewayError) {
        self.init(name: name, tenant: Self.tenant(named: name))
        var given: Set<String> = []
        for setting in settings {
            let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, let number = Int(parts[1]) else {
                throw GatewayError(.apiKeys, "\(place) has '\(setting)' where weight=N, priority=N, open=N, requests-per-minute=N or tokens-per-minute=N is taken, N a whole number.")
            }
            guard given.insert(parts[0]).inserted else { throw GatewayError(.apiKeys, "\(place) gives '\(parts[0])' twice. Give it once.") }
            switch parts[0] {
            case "weight": weight = try Self.checked(setting, number, 1...Limits.tenantWeightMax, place)
            case "priority": prioritySoonest = Int32(try Self.checked(setting, number, Int(Int32.min)...Int(Int32.max), place))
            case "open": choicesOpenMax = try Self.checked(setting, number, 1...Limits.requestsOpenMax, place)
            case "requests-per-minute": requestsPerMinuteMax = try Self.checked(setting, number, 1...Self.perMinuteMax, place)
            case "tokens-per-minute": tokensPerMinuteMax = try Self.checked(setting, number, 1...Self.perMinuteMax, place)
            default:
                throw GatewayError(
                    .apiKeys,
                    "\(place) has '\(setting)'; only weight=N, priority=N, open=N, requests-per-minute=N and tokens-per-minute=N are known.")
            }
        }
    }

    private static func checked(_ setting: Substring, _ number: Int, _ range: ClosedRange<Int>, _ place: String) throws(GatewayError) -> Int {
        guard range.contains(number) else {
            throw GatewayError(.apiKeys, "\(place) has '\(setting)', but the number must be in \(range.lowerBound)...\(range.upperBound).")
        }
        return number
    }

    /// The first eight bytes of the name's SHA-256: what `printf %s NAME | sha256sum | cut -c1-16` prints is what `staffel status` shows.
    static func tenant(named name: String) -> Tenant {
        let number = SHA256.hash(data: Array(name.utf8)).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return Tenant(max(1, number))
    }

    /// What a request of this client is run with.
    /// - Throws: when it asks for an earlier turn than it may.
    func priority(asked: Int32?) throws(APIError) -> Int32 {
        guard let asked else { return max(0, prioritySoonest) }
        guard asked >= prioritySoonest else {
            throw .invalid(
                "priority", "'priority' is \(asked), but with this API key \(prioritySoonest) is the lowest (soonest) one.", code: "out_of_range")
        }
        return asked
    }
}
