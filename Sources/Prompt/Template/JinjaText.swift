/// The parts of the interpreter, out of the way of the target's other names.
enum Jinja {
    static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

extension Jinja {
    /// Python's str: a row of code points, here as valid UTF-8. Its order is the order of the bytes, its equality
    /// theirs; only lengths and indices need the code points counted.
    struct Text: Hashable, Sendable, ExpressibleByStringLiteral, Comparable {
        var utf8: [UInt8]

        init(_ utf8: [UInt8]) { self.utf8 = utf8 }
        init(_ utf8: ArraySlice<UInt8>) { self.utf8 = Array(utf8) }
        init(_ string: String) { utf8 = Array(string.utf8) }
        init(_ scalar: Unicode.Scalar) { utf8 = Array(UTF8.encode(scalar)!) }
        init(stringLiteral value: StaticString) { utf8 = value.withUTF8Buffer { Array($0) } }

        var string: String { String(decoding: utf8, as: UTF8.self) }
        var isEmpty: Bool { utf8.isEmpty }

        static func < (a: Text, b: Text) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }

        /// Code points.
        var length: Int {
            var count = 0
            for byte in utf8 where byte & 0xC0 != 0x80 { count += 1 }
            return count
        }

        var isASCII: Bool { utf8.allSatisfy { $0 < 0x80 } }

        var scalars: [Unicode.Scalar] { Array(string.unicodeScalars) }

        init(_ scalars: some Sequence<Unicode.Scalar>) {
            utf8 = []
            for scalar in scalars { utf8 += UTF8.encode(scalar)! }
        }

        /// The code points as one-character texts.
        var characters: [Text] {
            var parts: [Text] = []
            var start = 0
            for index in utf8.indices.dropFirst() where utf8[index] & 0xC0 != 0x80 {
                parts.append(Text(utf8[start..<index]))
                start = index
            }
            if !utf8.isEmpty { parts.append(Text(utf8[start...])) }
            return parts
        }
    }
}

// Searching and cutting, all over bytes: UTF-8 never matches in the middle of a character.
extension Jinja.Text {
    /// The byte offset of the first occurrence of `needle` at or after `from`.
    func find(_ needle: Jinja.Text, from: Int = 0) -> Int? {
        Search(needle).next(in: utf8, from: from)
    }

    func findLast(_ needle: Jinja.Text) -> Int? {
        let backwards = Jinja.Text(Array(utf8.reversed()))
        return backwards.find(Jinja.Text(Array(needle.utf8.reversed()))).map { utf8.count - $0 - needle.utf8.count }
    }

    /// One needle, prepared once for many finds. Time is bounded by the haystack's length: short needles are compared
    /// at each place, long ones by the method of Knuth, Morris and Pratt.
    private struct Search {
        private static let shortBytesMax = 16
        let pattern: [UInt8]
        /// For each prefix of a long pattern: the length of its longest proper prefix that is also its suffix.
        private var borders: [Int] = []

        init(_ needle: Jinja.Text) {
            pattern = needle.utf8
            guard pattern.count > Self.shortBytesMax else { return }
            borders = [0]
            var border = 0
            for byte in pattern.dropFirst() {
                while border > 0, pattern[border] != byte { border = borders[border - 1] }
                if pattern[border] == byte { border += 1 }
                borders.append(border)
            }
        }

        func next(in text: [UInt8], from: Int) -> Int? {
            guard let first = pattern.first else { return from <= text.count ? from : nil }
            if borders.isEmpty {
                var at = from
                while at <= text.count - pattern.count {
                    if text[at] == first, text[at..<at + pattern.count].elementsEqual(pattern) { return at }
                    at += 1
                }
                return nil
            }
            var matched = 0
            for at in from..<max(from, text.count) {
                while matched > 0, pattern[matched] != text[at] { matched = borders[matched - 1] }
                if pattern[matched] == text[at] { matched += 1 }
                if matched == pattern.count { return at + 1 - matched }
            }
            return nil
        }
    }

    func contains(_ needle: Jinja.Text) -> Bool { find(needle) != nil }

    func hasPrefix(_ prefix: Jinja.Text) -> Bool { utf8.starts(with: prefix.utf8) }

    func hasSuffix(_ suffix: Jinja.Text) -> Bool {
        utf8.count >= suffix.utf8.count && utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
    }

    /// How often `needle` occurs without overlap; Python counts one empty text around each character.
    func count(of needle: Jinja.Text) -> Int {
        if needle.isEmpty { return length + 1 }
        let search = Search(needle)
        var count = 0
        var at = 0
        while let found = search.next(in: utf8, from: at) {
            count += 1
            at = found + needle.utf8.count
        }
        return count
    }

    /// Replaces the first `limit` occurrences (all when negative). An empty `old` stands before each character and at the end.
    func replacing(_ old: Jinja.Text, with new: Jinja.Text, limit: Int) -> Jinja.Text {
        var out: [UInt8] = []
        var left = limit < 0 ? Int.max : limit
        if old.isEmpty {
            for character in characters {
                if left > 0 { out += new.utf8; left -= 1 }
                out += character.utf8
            }
            if left > 0 { out += new.utf8 }
            return Jinja.Text(out)
        }
        let search = Search(old)
        var at = 0
        while left > 0, let found = search.next(in: utf8, from: at) {
            out += utf8[at..<found]
            out += new.utf8
            at = found + old.utf8.count
            left -= 1
        }
        out += utf8[at...]
        return Jinja.Text(out)
    }

    enum Side { case left, right, both }

    /// Cuts characters of `set` (white space when nil) off the chosen sides.
    func stripped(_ side: Side, of set: Jinja.Text?) -> Jinja.Text {
        var start = 0
        var end = utf8.count
        if let set {
            let set = Set(set.characters)
            if side != .right {
                while start < end {
                    let width = Self.width(utf8[start])
                    guard set.contains(Jinja.Text(utf8[start..<start + width])) else { break }
                    start += width
                }
            }
            if side != .left {
                while start < end {
                    let last = lastCharacterStart(before: end)
                    guard set.contains(Jinja.Text(utf8[last..<end])) else { break }
                    end = last
                }
            }
            return Jinja.Text(utf8[start..<end])
        }
        if side != .right { while let width = spaceWidth(at: start), start < end { start += width } }
        if side != .left { while end > start, let width = spaceWidth(endingAt: end) { end -= width } }
        return Jinja.Text(utf8[start..<end])
    }

    /// Bytes of the white space character that begins at `at`; nil when none does.
    func spaceWidth(at: Int) -> Int? {
        guard at < utf8.count else { return nil }
        let byte = utf8[at]
        if byte < 0x80 { return Jinja.isSpace(UInt32(byte)) ? 1 : nil }
        if byte < 0xC2 { return nil }
        if byte < 0xE0 { return Jinja.isSpace(UInt32(byte & 0x1F) << 6 | UInt32(utf8[at + 1] & 0x3F)) ? 2 : nil }
        guard byte < 0xF0 else { return nil }
        let code = UInt32(byte & 0x0F) << 12 | UInt32(utf8[at + 1] & 0x3F) << 6 | UInt32(utf8[at + 2] & 0x3F)
        return Jinja.isSpace(code) ? 3 : nil
    }

    private func spaceWidth(endingAt end: Int) -> Int? { spaceWidth(at: lastCharacterStart(before: end)) }

    private func lastCharacterStart(before end: Int) -> Int {
        var start = end - 1
        while start > 0, utf8[start] & 0xC0 == 0x80 { start -= 1 }
        return start
    }

    var isSpace: Bool {
        if isEmpty { return false }
        var at = 0
        while let width = spaceWidth(at: at) { at += width }
        return at == utf8.count
    }

    /// Python's `split`: at white space runs when `separator` is nil, else at each separator; at most `limit` cuts.
    func split(_ separator: Jinja.Text?, limit: Int) -> [Jinja.Text] {
        var parts: [Jinja.Text] = []
        var left = limit < 0 ? Int.max : limit
        var at = 0
        if let separator {
            let search = Search(separator)
            while left > 0, let found = search.next(in: utf8, from: at) {
                parts.append(Jinja.Text(utf8[at..<found]))
                at = found + separator.utf8.count
                left -= 1
            }
            parts.append(Jinja.Text(utf8[at...]))
            return parts
        }
        while true {
            while let width = spaceWidth(at: at) { at += width }
            if at == utf8.count { return parts }
            if left == 0 {
                parts.append(Jinja.Text(utf8[at...]))
                return parts
            }
            let start = at
            while at < utf8.count, spaceWidth(at: at) == nil { at += 1 }
            parts.append(Jinja.Text(utf8[start..<at]))
            left -= 1
        }
    }

    /// Python's `rsplit`: as `split`, cutting from the end.
    func splitFromEnd(_ separator: Jinja.Text?, limit: Int) -> [Jinja.Text] {
        if limit < 0 { return split(separator, limit: limit) }
        if let separator {
            let backwards = Jinja.Text(Array(utf8.reversed())).split(Jinja.Text(Array(separator.utf8.reversed())), limit: limit)
            return backwards.reversed().map { Jinja.Text(Array($0.utf8.reversed())) }
        }
        var parts: [Jinja.Text] = []
        var end = utf8.count
        while true {
            while end > 0, let width = spaceWidth(endingAt: end) { end -= width }
            if end == 0 { break }
            if parts.count == limit {
                parts.append(Jinja.Text(utf8[..<end]))
                break
            }
            var start = end
            while start > 0, spaceWidth(endingAt: start) == nil { start = lastCharacterStart(before: start) }
            parts.append(Jinja.Text(utf8[start..<end]))
            end = start
        }
        return parts.reversed()
    }

    /// Lines without their ends (or with them, when `keepEnds`), at every line end Python knows.
    func lines(keepEnds: Bool = false) -> [Jinja.Text] {
        var parts: [Jinja.Text] = []
        var start = 0
        var at = 0
        while at < utf8.count {
            let width = lineEndWidth(at: at)
            if width == 0 { at += 1; continue }
            parts.append(Jinja.Text(utf8[start..<(keepEnds ? at + width : at)]))
            at += width
            start = at
        }
        if start < utf8.count { parts.append(Jinja.Text(utf8[start...])) }
        return parts
    }

    private func lineEndWidth(at: Int) -> Int {
        switch utf8[at] {
        case 0x0D: at + 1 < utf8.count && utf8[at + 1] == 0x0A ? 2 : 1
        case 0x0A, 0x0B, 0x0C, 0x1C, 0x1D, 0x1E: 1
        case 0xC2: utf8[at + 1] == 0x85 ? 2 : 0
        case 0xE2: utf8[at + 1] == 0x80 && (utf8[at + 2] == 0xA8 || utf8[at + 2] == 0xA9) ? 3 : 0
        default: 0
        }
    }
}

extension Jinja {
    /// Python's `str.isspace` for one code point, which is also what `\s` means in its lexer's patterns.
    static func isSpace(_ code: UInt32) -> Bool {
        switch code {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }
}
