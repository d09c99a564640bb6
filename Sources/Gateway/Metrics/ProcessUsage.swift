#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// What this process holds of the machine, as Linux tells it.
struct ProcessUsage: Hashable {
    var openDescriptors: Int
    var residentBytes: Int

    /// `nil` where there is no `/proc`.
    static func current() -> ProcessUsage? {
        guard let descriptors = entryCount("/proc/self/fd"), let pages = residentPages() else { return nil }
        // The descriptor that counts is not counted.
        return ProcessUsage(openDescriptors: descriptors - 1, residentBytes: pages * Int(sysconf(Int32(_SC_PAGESIZE))))
    }

    private static func entryCount(_ path: String) -> Int? {
        guard let folder = opendir(path) else { return nil }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count - 2
    }

    /// The second number of `statm`.
    private static func residentPages() -> Int? {
        guard let file = fopen("/proc/self/statm", "r") else { return nil }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = fread(&buffer, 1, buffer.count, file)
        let fields = buffer[..<count].split(separator: UInt8(ascii: " "))
        guard fields.count > 1 else { return nil }
        return Int(String(decoding: fields[1], as: UTF8.self))
    }
}
