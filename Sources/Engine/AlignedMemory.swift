import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Memory straight from the system: zeros, aligned for the kernels, given back as a whole. Pages that are never
/// written cost nothing, so a generous size is cheap.
///
/// Large pieces begin at a huge page and ask for huge pages: the processor finds an address in one look-up instead of
/// 512, and its prefetchers do not stop every 4 KiB. Many systems give them only to those who ask.
final class AlignedMemory {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    /// All that was mapped.
    private let region: UnsafeMutableRawBufferPointer

    /// What x86-64 and ARM (with 4 KiB pages) call a huge page.
    static let hugePageBytes = 2 << 20
    /// Below this a huge page would mostly hold nothing.
    static let hugePagesFromBytes = 2 * hugePageBytes

    /// `byteCount` may be 0.
    init(byteCount: Int, for purpose: String) throws(EngineError) {
        let isLarge = byteCount >= Self.hugePagesFromBytes
        // Room to begin at a huge page; its pages are never written.
        let (reserved, overflow) = max(1, byteCount).addingReportingOverflow(isLarge ? Self.hugePageBytes : 0)
        let mapped = overflow ? MAP_FAILED : mmap(nil, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw EngineError(
                .memoryUnavailable,
                "\(byteCount) bytes for \(purpose) were asked for, but the system refused (error \(errno)). Free memory or give this stage less.")
        }
        region = UnsafeMutableRawBufferPointer(start: mapped, count: reserved)
        base = isLarge ? mapped.alignedUp(toMultipleOf: Self.hugePageBytes) : mapped
        self.byteCount = byteCount
        #if os(Linux)
            // A wish: a kernel built without huge pages refuses it, and small ones do.
            if isLarge { _ = madvise(base, byteCount, MADV_HUGEPAGE) }
        #endif
    }

    deinit { munmap(region.baseAddress!, region.count) }

    /// These bytes hold nothing of value any more; where they fill pages of their own, the system gets those back. They may be used again.
    func giveBack(_ bytes: Range<Int>) {
        precondition(bytes.lowerBound >= 0 && bytes.upperBound <= byteCount, "outside of its memory")
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = (base + bytes.lowerBound).alignedUp(toMultipleOf: page)
        let count = (base + bytes.upperBound - first) / page * page
        // Private memory of the process itself: the call can't fail for it, and if it did, only memory would be wasted.
        if count > 0 { _ = madvise(first, count, MADV_DONTNEED) }
    }

    /// The memory as `count` elements from `offset` bytes on.
    func bound<Element>(to type: Element.Type, at offset: Int = 0, count: Int) -> UnsafeMutablePointer<Element> {
        precondition(offset >= 0 && offset + count * MemoryLayout<Element>.stride <= byteCount, "outside of its memory")
        return (base + offset).bindMemory(to: type, capacity: count)
    }

    /// `bytes` rounded up to what the kernels ask of addresses.
    static func aligned(_ bytes: Int) -> Int { (bytes + Int(SK_ALIGNMENT) - 1) / Int(SK_ALIGNMENT) * Int(SK_ALIGNMENT) }
}
