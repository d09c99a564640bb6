import Wire

/// What a process tells others to connect to, when it listens somewhere.
enum AdvertisedEndpoint {
    /// The endpoint to hand out: `advertise`, or `listen` where that names one address. Port 0 of `listen` is filled in by who binds it.
    ///
    /// Throws when it would be a wildcard, which only the process itself can connect to; `option` is the flag that sets `advertise`.
    static func check(listen: String, advertise: String?, option: String) throws {
        guard let advertise else {
            guard !isWildcard(listen) else {
                throw NodeError(
                    .addressNeeded,
                    "listening on every address (\(listen)), but others must be told one of them: "
                        + "give \(option) tcp://HOST:PORT with a host that they can reach")
            }
            return
        }
        guard Endpoint.isConnectable(advertise), !isWildcard(advertise) else {
            throw NodeError(
                .addressNeeded,
                "nobody can connect to '\(advertise)': give \(option) tcp://HOST:PORT with a host that others can reach, and a port above 0")
        }
    }

    /// `tcp://*:…`, `tcp://0.0.0.0:…`, `tcp://[::]:…` and longer spellings of these.
    static func isWildcard(_ endpoint: String) -> Bool {
        guard let scheme = endpoint.range(of: "://"), let colon = endpoint.lastIndex(of: ":"), scheme.upperBound <= colon else { return false }
        let host = endpoint[scheme.upperBound..<colon]
        return host == "*" || (host.contains("0") || host.contains(":")) && host.allSatisfy { "0.:[]".contains($0) }
    }
}
