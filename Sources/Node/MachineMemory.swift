import Foundation

/// Memory that processes may still take without others being swapped out.
package enum MachineMemory {
    /// `MemAvailable` of /proc/meminfo, bounded by the control group's limit; a quarter of all memory where neither can be read.
    package static var availableBytes: UInt64 {
        let text = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        let free = kibibytes.map { $0 << 10 } ?? ProcessInfo.processInfo.physicalMemory / 4
        let group = (try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8)).flatMap {
            UInt64($0.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        return min(free, group ?? free)
    }
}
