import Foundation

/// How many files, and so connections, this process may have open.
enum OpenFiles {
    private static let wanted: rlim_t = 65_536

    /// Takes what the system allows: shells begin with 1,024, which is few for a server. More than `wanted` would only cost tables.
    static func raiseLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < min(wanted, limit.rlim_max) else { return }
        limit.rlim_cur = min(wanted, limit.rlim_max)
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
