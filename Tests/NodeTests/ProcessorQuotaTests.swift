import Foundation
import Testing

@testable import Node

@Suite struct ProcessorQuotaTests {
    /// A folder that looks like mounted control groups, with these files.
    private func isSet(_ groups: String, _ files: [String: String]) throws -> Bool {
        let folder = try TemporaryFolder()
        for (path, content) in files {
            let file = URL(fileURLWithPath: folder.path).appendingPathComponent(path)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(content.utf8).write(to: file)
        }
        return ProcessorQuota.isSet(groups: groups, root: folder.path)
    }

    @Test func version2() throws {
        #expect(try !isSet("0::/a/b\n", [:]))
        #expect(try !isSet("0::/a/b\n", ["a/cpu.max": "max 100000\n", "a/b/cpu.max": "max 100000\n"]))
        #expect(try isSet("0::/a/b\n", ["a/cpu.max": "max 100000\n", "a/b/cpu.max": "150000 100000\n"]))
        #expect(try isSet("0::/a/b\n", ["a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"]))
        #expect(try isSet("0::/\n", ["cpu.max": "50000 100000\n"]))
        // The group of somebody else.
        #expect(try !isSet("0::/a\n", ["b/cpu.max": "50000 100000\n"]))
    }

    @Test func version1() throws {
        let groups = "9:name=systemd:/x\n4:memory:/x\n2:cpu,cpuacct:/a\n"
        #expect(try !isSet(groups, ["cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n"]))
        #expect(try isSet(groups, ["cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n"]))
        #expect(try isSet("1:cpu:/a/b\n", ["cpu/a/cpu.cfs_quota_us": "50000\n"]))
        #expect(try !isSet("3:cpuset:/a\n", ["cpu/a/cpu.cfs_quota_us": "50000\n"]))
    }

    @Test func nonsense() throws {
        #expect(try !isSet("", [:]))
        #expect(try !isSet("0:/a\n:::\n", ["cpu.max": ""]))
    }
}
