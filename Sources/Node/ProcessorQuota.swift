import Foundation

/// Whether a control group limits how long this process may run: then waiting awake would be paid with time to compute.
enum ProcessorQuota {
    static var isSet: Bool { isSet(groups: (try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)) ?? "", root: "/sys/fs/cgroup") }

    /// - Parameters:
    ///   - groups: lines of `hierarchy:controllers:path`, as in /proc/self/cgroup; version 2 has one line without controllers.
    ///   - root: where the hierarchies are mounted.
    static func isSet(groups: String, root: String) -> Bool {
        for line in groups.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let controllers = fields[1].split(separator: ",")
            if controllers.isEmpty {
                if folders(String(fields[2]), root).contains(where: { limit($0 + "/cpu.max").map { $0 != "max" } ?? false }) { return true }
            } else if controllers.contains("cpu") {
                let mounts = Set(["\(root)/cpu", "\(root)/\(fields[1])"])
                let isLimited = { (folder: String) in limit(folder + "/cpu.cfs_quota_us").flatMap { Int($0) } ?? -1 > 0 }
                if mounts.contains(where: { folders(String(fields[2]), $0).contains(where: isLimited) }) { return true }
            }
        }
        return false
    }

    /// A group's own folder and those of all groups around it: each may set a limit. Inside a container the path may be the host's and lie nowhere.
    private static func folders(_ path: String, _ root: String) -> [String] {
        var folders = [root]
        for name in path.split(separator: "/") { folders.append(folders.last! + "/" + name) }
        return folders
    }

    private static func limit(_ path: String) -> String? {
        (try? String(contentsOfFile: path, encoding: .utf8))?.split { $0 == " " || $0 == "\n" }.first.map(String.init)
    }
}
