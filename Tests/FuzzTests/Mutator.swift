/// Damages inputs: bits, bytes, numbers near their borders, pieces lost, doubled and taken from other inputs, words of a dictionary.
struct Mutator {
    static let bytesMax = 64 << 10
    static let actsMax = 6

    private var random: Seeded
    private let target: FuzzTarget
    private let words: [[UInt8]]

    init(seed: UInt64, target: FuzzTarget) {
        random = Seeded(seed)
        self.target = target
        words = target.dictionary.map { Array($0.utf8) }
    }

    mutating func mutant(of pool: [[UInt8]]) -> [UInt8] {
        let original = pool[below(pool.count)]
        // A damaged header hides all that is behind it, so it is damaged now and then only.
        let kept = original.count > target.headerBytes && below(32) > 0 ? target.headerBytes : 0
        var bytes = Array(original.dropFirst(kept))
        var acts = 1
        while acts < Self.actsMax, below(2) == 0 { acts += 1 }
        for _ in 0..<acts { damage(&bytes, pool) }
        return Array((original.prefix(kept) + bytes).prefix(Self.bytesMax))
    }

    /// Any byte; of texts mostly one that is a text by itself.
    private mutating func byte() -> UInt8 {
        target.isText && below(8) > 0 ? UInt8(0x20 + below(0x5F)) : UInt8(truncatingIfNeeded: random.next())
    }

    private mutating func damage(_ bytes: inout [UInt8], _ pool: [[UInt8]]) {
        guard bytes.count > 1 else { return bytes += piece(of: pool[below(pool.count)]) }
        let at = below(bytes.count)
        switch below(words.isEmpty ? 10 : 14) {
        case 0: bytes[at] ^= 1 << UInt8(below(target.isText ? 7 : 8))
        case 1: bytes[at] = byte()
        case 2: bytes[at] = target.isText ? [34, 92, 10, 44][below(4)] : [0, 1, 0x7F, 0x80, 0xFF][below(5)]
        case 3: bytes.removeSubrange(at..<min(bytes.count, at + 1 + below(16)))
        case 4: bytes.insert(contentsOf: (0...below(8)).map { _ in byte() }, at: at)
        case 5: bytes.insert(contentsOf: piece(of: bytes), at: at)
        case 6: bytes.insert(contentsOf: piece(of: pool[below(pool.count)]), at: at)
        case 7 where !target.isText: overwrite(&bytes, at: at)
        case 8: bytes[at] = bytes[at] &+ (random.next() & 1 == 0 ? 1 : 0xFF)
        case 9 where below(4) == 0: bytes.removeLast(below(bytes.count))
        case 7, 9: bytes.insert(contentsOf: Array("\(Int64(bitPattern: random.next()) >> Int64(below(64)))".utf8), at: at)
        default:
            guard !words.isEmpty else { return }
            let word = words[below(words.count)]
            if random.next() & 1 == 0 {
                bytes.insert(contentsOf: word, at: at)
            } else {
                bytes.replaceSubrange(at..<min(bytes.count, at + word.count), with: word)
            }
        }
    }

    /// A number at or beside a power of two, little-endian or as a varint, as wide as it likes.
    private mutating func overwrite(_ bytes: inout [UInt8], at place: Int) {
        var number = (UInt64(1) << UInt64(below(64))) &+ UInt64(below(3)) &- 1
        if below(4) == 0 { number = 0 &- number }
        var encoded = withUnsafeBytes(of: number.littleEndian) { Array($0) }
        if random.next() & 1 == 0 {
            encoded = []
            repeat {
                encoded.append(UInt8(truncatingIfNeeded: number & 0x7F) | (number > 0x7F ? 0x80 : 0))
                number >>= 7
            } while number > 0
        } else {
            encoded = Array(encoded.prefix([1, 2, 4, 8][below(4)]))
        }
        bytes.replaceSubrange(place..<min(bytes.count, place + encoded.count), with: encoded)
    }

    private mutating func piece(of bytes: [UInt8]) -> [UInt8] {
        guard !bytes.isEmpty else { return [0] }
        let start = below(bytes.count)
        return Array(bytes[start..<min(bytes.count, start + 1 + below(64))])
    }

    private mutating func below(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
}
