import Foundation

/// What the system says of this process's memory, in bytes.
struct ProcessMemory: Codable {
    /// In memory now.
    var residentBytes: Int
    /// The part that belongs to no file: what is gone if the process ends.
    var anonymousBytes: Int
    /// The most that was ever resident.
    var peakBytes: Int

    /// nil where there is no /proc.
    static func now() -> ProcessMemory? {
        guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
        var kilobytes: [Substring: Int] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == ":" || $0 == " " || $0 == "\t" })
            if words.count == 3, words[2] == "kB", let count = Int(words[1]) { kilobytes[words[0]] = count }
        }
        guard let resident = kilobytes["VmRSS"], let anonymous = kilobytes["RssAnon"], let peak = kilobytes["VmHWM"] else { return nil }
        return ProcessMemory(residentBytes: resident << 10, anonymousBytes: anonymous << 10, peakBytes: peak << 10)
    }
}
