/// Bytes as a person reads them: "228 bytes", "12.25 GiB".
package struct ByteCount: Hashable, Sendable, CustomStringConvertible {
    private let bytes: UInt64

    package init(_ bytes: UInt64) { self.bytes = bytes }

    package var description: String {
        let units: [(name: String, shift: UInt64)] = [("GiB", 30), ("MiB", 20)]
        // Whole units below ten would hide up to half of what is missing.
        for unit in units where bytes >= 10 << (unit.shift - 4) {
            let hundredths = ((bytes >> (unit.shift - 10)) * 100) >> 10
            let rest = hundredths % 100
            return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest) \(unit.name)"
        }
        return "\(bytes) bytes"
    }
}
