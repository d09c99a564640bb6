import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Memory straight from the system: zeros, aligned for the kernels, given back as a whole. Pages that are never
/// written cost nothing, so a generous size is cheap.
final class AlignedMemory {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    /// `byteCount` may be 0.
    init(byteCount: Int, for purpose: String) throws(EngineError) {
        let mapped = mmap(nil, max(1, byteCount), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw EngineError(
                .memoryUnavailable,
                "\(byteCount) bytes for \(purpose) were asked for, but the system refused (error \(errno)). Free memory or give this stage less.")
        }
        base = mapped
        self.byteCount = byteCount
    }

    deinit { munmap(base, max(1, byteCount)) }

    /// The memory as `count` elements from `offset` bytes on.
    func bound<Element>(to type: Element.Type, at offset: Int = 0, count: Int) -> UnsafeMutablePointer<Element> {
        precondition(offset >= 0 && offset + count * MemoryLayout<Element>.stride <= byteCount, "outside of its memory")
        return (base + offset).bindMemory(to: type, capacity: count)
    }

    /// `bytes` rounded up to what the kernels ask of addresses.
    static func aligned(_ bytes: Int) -> Int { (bytes + Int(SK_ALIGNMENT) - 1) / Int(SK_ALIGNMENT) * Int(SK_ALIGNMENT) }
}
