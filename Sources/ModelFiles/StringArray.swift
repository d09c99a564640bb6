/// Many strings in two allocations: all bytes one after the other, and where each ends.
///
/// Tokenizers work on bytes: use `bytes(at:)`. Note that Swift compares `String`s by canonical equivalence, so a
/// dictionary keyed by `String` merges tokens that differ only in how an accent is composed; key by bytes instead.
package struct StringArray: Sendable, RandomAccessCollection, Equatable {
    /// The UTF-8 bytes of all strings, without separators.
    package private(set) var bytes: [UInt8] = []
    /// End of each string in `bytes`; the start is the end of the one before.
    package private(set) var ends: [UInt32] = []

    package init() {}

    package init(_ strings: some Sequence<String>) {
        for string in strings { append(utf8: string.utf8) }
    }

    package var startIndex: Int { 0 }
    package var endIndex: Int { ends.count }

    package subscript(position: Int) -> String {
        String(decoding: bytes(at: position), as: UTF8.self)
    }

    /// The UTF-8 bytes of one string.
    package func bytes(at position: Int) -> ArraySlice<UInt8> {
        let start = position == 0 ? 0 : Int(ends[position - 1])
        return bytes[start..<Int(ends[position])]
    }

    mutating func reserve(strings: Int, bytes byteCount: Int) {
        ends.reserveCapacity(strings)
        bytes.reserveCapacity(byteCount)
    }

    mutating func append(utf8: some Collection<UInt8>) {
        bytes.append(contentsOf: utf8)
        ends.append(UInt32(bytes.count))
    }
}
