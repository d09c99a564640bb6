import Glibc

/// The forty characters of Z85 with which libzmq names a message's sender, to be compared and nothing else.
package struct SenderText: Equatable, Sendable {
    private let words: (UInt64, UInt64, UInt64, UInt64, UInt64)

    /// `nil` unless `text` has forty characters.
    init?(_ text: UnsafePointer<CChar>) {
        guard strlen(text) == Z85.characterCount else { return nil }
        let bytes = UnsafeRawPointer(text)
        words = (
            bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
        )
    }

    package static func == (a: SenderText, b: SenderText) -> Bool { a.words == b.words }
}
