/// Rules for texts on the wire: they end in logs and on terminals, so a peer must not be able to send escape sequences.
enum Text {
    /// Names: no control characters. Sentences: line feeds and tabs too. Paths: whatever a file system allows.
    enum Kind {
        case name, sentence, path
    }

    static func isAllowed(_ scalar: Unicode.Scalar, _ kind: Kind) -> Bool {
        let value = scalar.value
        let isControl = value < 0x20 || (0x7F...0x9F).contains(value)
        switch kind {
        case .name: return !isControl
        case .sentence: return !isControl || value == 0x0A || value == 0x09
        case .path: return value != 0
        }
    }

    /// The longest beginning of `text` that has at most `bytesMax` bytes and is whole characters; what isn't allowed becomes U+FFFD.
    /// Messages for people are cut rather than refused.
    static func fitting(_ text: String, _ kind: Kind, bytesMax: Int) -> [UInt8] {
        if text.utf8.count <= bytesMax && text.unicodeScalars.allSatisfy({ isAllowed($0, kind) }) { return Array(text.utf8) }
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            let encoded = Array(UTF8.encode(isAllowed(scalar, kind) ? scalar : "\u{FFFD}")!)
            if bytes.count + encoded.count > bytesMax { break }
            bytes += encoded
        }
        return bytes
    }
}
