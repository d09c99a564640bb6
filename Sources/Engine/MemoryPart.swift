/// Some bytes of a larger piece of memory, which are given back as soon as nobody uses them any more: other parts may be in use for long.
final class MemoryPart {
    private let memory: AlignedMemory
    private let bytes: Range<Int>

    init(_ memory: AlignedMemory, _ bytes: Range<Int>) {
        self.memory = memory
        self.bytes = bytes
    }

    deinit { memory.giveBack(bytes) }
}
