import Foundation

/// Which machine this process runs on: the same number for all processes that share its processors and memory, containers included.
package enum MachineIdentity {
    /// Never the same for two machines, and another one after each start of the kernel.
    private static let path = "/proc/sys/kernel/random/boot_id"

    /// 0 where the system does not say.
    package static var current: UInt64 { (try? String(contentsOfFile: path, encoding: .utf8)).map(number) ?? 0 }

    /// The text's hash and never the text: peers need not know more than whether two are equal.
    static func number(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return max(1, hash)
    }
}
