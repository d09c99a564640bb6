import ArgumentParser
import Engine
import Foundation

/// Where packed weights are kept from one start to the next.
struct CacheOptions: ParsableArguments {
    @Option(help: "Folder that keeps packed weights, so that the next start needs no packing. (default: ~/.cache/staffel)")
    var cache: String?

    @Option(help: "What that folder may grow to, such as 160GiB; what was used longest ago goes first. 0 keeps and uses nothing. (default: 160GiB)")
    var cacheLimit: String?

    @Option(help: "What is always left free on that folder's disk, such as 4GiB. (default: 4GiB)")
    var cacheFree: String?

    /// nil when nothing is to be kept or used.
    func packedCache(_ settings: Settings) throws -> PackedCache? {
        var limits = PackedCache.Limits()
        if settings.string("cache-limit", flag: cacheLimit) == "0" { return nil }
        if let bytes = try settings.bytes("cache-limit", flag: cacheLimit) { limits.bytesMax = Int(bytes) }
        if let bytes = try settings.bytes("cache-free", flag: cacheFree) { limits.freeBytesMin = Int(bytes) }
        return PackedCache(folder: (settings.string("cache", flag: cache) ?? CachePath.standard) + "/packed", limits: limits)
    }

    /// The same for a child process, where given as flags; settings and environment reach it anyway.
    var forwardedFlags: [String] {
        (cache.map { ["--cache", $0] } ?? []) + (cacheLimit.map { ["--cache-limit", $0] } ?? []) + (cacheFree.map { ["--cache-free", $0] } ?? [])
    }
}
