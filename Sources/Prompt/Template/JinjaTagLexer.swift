// Inside of tags.
extension Jinja.Lexer {
    mutating func readTag(isBlock: Bool, openedAt: Int) throws(TemplateError) {
        let firstByte: UInt8 = isBlock ? UInt8(ascii: "%") : UInt8(ascii: "}")
        brackets = []
        while at < source.count {
            if brackets.isEmpty {
                let first = source[at]
                let signed = first == UInt8(ascii: "-") || (isBlock && first == UInt8(ascii: "+"))
                let mark = signed ? at + 1 : at
                if byte(mark) == firstByte, byte(mark + 1) == UInt8(ascii: "}") {
                    emit(isBlock ? .blockEnd : .variableEnd, at: at)
                    close(at: mark + 2, sign: signed ? first : 0, trimsNewline: isBlock)
                    return
                }
            }
            if let width = spaceWidth(at) { at += width; continue }
            try readToken()
        }
        throw failure("a tag has no end", at: openedAt)
    }

    private mutating func readToken() throws(TemplateError) {
        let start = at
        switch source[at] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): try readNumber()
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), 0x80...:
            try readName()
        case UInt8(ascii: "'"), UInt8(ascii: "\""): try readString()
        default:
            for (bytes, sign) in Jinja.Sign.table where source[at...].starts(with: bytes) {
                try balance(sign, at: start)
                at += bytes.count
                emit(.sign(sign), at: start)
                return
            }
            throw failure("found a character that has no meaning in a tag: \(Character(Unicode.Scalar(source[at])))", at: at)
        }
    }

    private mutating func balance(_ sign: Jinja.Sign, at offset: Int) throws(TemplateError) {
        switch sign {
        case .openBrace: brackets.append(.closeBrace)
        case .openParen: brackets.append(.closeParen)
        case .openBracket: brackets.append(.closeBracket)
        case .closeBrace, .closeParen, .closeBracket:
            guard let expected = brackets.popLast() else { throw failure("unexpected '\(sign.rawValue)'", at: offset) }
            guard expected == sign else {
                throw failure("unexpected '\(sign.rawValue)', expected '\(expected.rawValue)'", at: offset)
            }
        default: break
        }
    }

    private mutating func readName() throws(TemplateError) {
        let start = at
        while let byte = byte(at), byte >= 0x80 || byte == UInt8(ascii: "_") || isAlphanumeric(byte) {
            if byte >= 0x80, spaceWidth(at) != nil { break }
            at += 1
        }
        let name = String(decoding: source[start..<at], as: UTF8.self)
        let isIdentifier = name.unicodeScalars.enumerated().allSatisfy { index, scalar in
            scalar == "_" || (index == 0 ? scalar.properties.isXIDStart : scalar.properties.isXIDContinue)
        }
        guard isIdentifier, at > start else { throw failure("invalid character in identifier", at: start) }
        emit(.name(name), at: start)
    }

    private func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        default: false
        }
    }

    private func isDigit(_ offset: Int) -> Bool {
        guard let byte = byte(offset) else { return false }
        return byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }

    /// The offset after digits with single underscores between them; nil when no digit stands at `offset`.
    private func digitsEnd(_ offset: Int) -> Int? {
        guard isDigit(offset) else { return nil }
        var end = offset + 1
        while isDigit(end) || (byte(end) == UInt8(ascii: "_") && isDigit(end + 1)) { end += 1 }
        return end
    }

    private mutating func readNumber() throws(TemplateError) {
        let start = at
        if let end = floatEnd(start) {
            at = end
            guard let value = Double(digits(start..<end)) else { throw failure("a number that cannot be read", at: start) }
            emit(.double(value), at: start)
            return
        }
        let (radix, end) = integerEnd(start)
        at = end
        let text = radix == 10 ? digits(start..<end) : String(digits(start..<end).dropFirst(2))
        guard let value = Int(text, radix: radix) else {
            throw TemplateError(.unsupported, "the integer \(text) does not fit 64 bits", at: position(start))
        }
        emit(.int(value), at: start)
    }

    private func digits(_ range: Range<Int>) -> String {
        String(decoding: source[range].filter { $0 != UInt8(ascii: "_") }, as: UTF8.self)
    }

    private func floatEnd(_ start: Int) -> Int? {
        if start > 0, source[start - 1] == UInt8(ascii: ".") { return nil }
        guard var end = digitsEnd(start) else { return nil }
        var isFloat = false
        if byte(end) == UInt8(ascii: "."), let fraction = digitsEnd(end + 1) {
            end = fraction
            isFloat = true
        }
        if byte(end) == UInt8(ascii: "e") || byte(end) == UInt8(ascii: "E") {
            let signed = byte(end + 1) == UInt8(ascii: "+") || byte(end + 1) == UInt8(ascii: "-")
            if let exponent = digitsEnd(end + (signed ? 2 : 1)) { return exponent }
        }
        return isFloat ? end : nil
    }

    private func integerEnd(_ start: Int) -> (radix: Int, end: Int) {
        func isIn(_ radix: UInt8, _ offset: Int) -> Bool {
            byte(offset).flatMap(Jinja.hexDigit).map { $0 < radix } ?? false
        }
        if source[start] == UInt8(ascii: "0"), let mark = byte(start + 1) {
            let radix: UInt8? =
                switch mark | 0x20 {
                case UInt8(ascii: "b"): 2
                case UInt8(ascii: "o"): 8
                case UInt8(ascii: "x"): 16
                default: nil
                }
            if let radix {
                var end = start + 2
                while isIn(radix, end) || (byte(end) == UInt8(ascii: "_") && isIn(radix, end + 1)) { end += 1 }
                if end > start + 2 { return (Int(radix), end) }
            }
        }
        if source[start] == UInt8(ascii: "0") {
            var end = start + 1
            while byte(end) == UInt8(ascii: "0") || (byte(end) == UInt8(ascii: "_") && byte(end + 1) == UInt8(ascii: "0")) { end += 1 }
            return (10, end)
        }
        return (10, digitsEnd(start)!)
    }

    private mutating func readString() throws(TemplateError) {
        let start = at
        let quote = source[at]
        var end = at + 1
        while let byte = byte(end), byte != quote { end += byte == UInt8(ascii: "\\") ? 2 : 1 }
        guard end < source.count else { throw failure("a string has no end", at: start) }
        let text = try unescaped(start + 1..<end)
        at = end + 1
        emit(.text(text), at: start)
    }

    /// Python's unicode-escape codec over the literal's inside.
    private func unescaped(_ range: Range<Int>) throws(TemplateError) -> Jinja.Text {
        var out: [UInt8] = []
        var offset = range.lowerBound
        while offset < range.upperBound {
            let byte = source[offset]
            if byte != UInt8(ascii: "\\") {
                out.append(byte)
                offset += 1
                continue
            }
            offset = try unescape(from: offset + 1, until: range.upperBound, into: &out)
        }
        return Jinja.Text(out)
    }

    private static let simpleEscapes: [UInt8: UInt8] = [
        UInt8(ascii: "\\"): 0x5C, UInt8(ascii: "'"): 0x27, UInt8(ascii: "\""): 0x22, UInt8(ascii: "a"): 0x07,
        UInt8(ascii: "b"): 0x08, UInt8(ascii: "f"): 0x0C, UInt8(ascii: "n"): 0x0A, UInt8(ascii: "r"): 0x0D,
        UInt8(ascii: "t"): 0x09, UInt8(ascii: "v"): 0x0B,
    ]

    private func unescape(from start: Int, until end: Int, into out: inout [UInt8]) throws(TemplateError) -> Int {
        let byte = source[start]
        if let plain = Self.simpleEscapes[byte] {
            out.append(plain)
            return start + 1
        }
        switch byte {
        case 0x0A: return start + 1
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            var code: UInt32 = 0
            var offset = start
            while offset < min(start + 3, end), let digit = Jinja.hexDigit(source[offset]), digit < 8 {
                code = code << 3 | UInt32(digit)
                offset += 1
            }
            out += UTF8.encode(Unicode.Scalar(code)!)!
            return offset
        case UInt8(ascii: "x"): return try unescapeHex(digits: 2, from: start + 1, until: end, into: &out)
        case UInt8(ascii: "u"): return try unescapeHex(digits: 4, from: start + 1, until: end, into: &out)
        case UInt8(ascii: "U"): return try unescapeHex(digits: 8, from: start + 1, until: end, into: &out)
        case UInt8(ascii: "N"):
            throw TemplateError(.unsupported, "escapes by character name (\\N) are not known", at: position(start - 1))
        case 0x80...:
            // Python escapes what is not ASCII before it unescapes, so the backslash here escapes that escape's own.
            let width = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2
            let scalar = String(decoding: source[start..<start + width], as: UTF8.self).unicodeScalars.first!
            out.append(UInt8(ascii: "\\"))
            out += Jinja.escaped(scalar).utf8.dropFirst()
            return start + width
        default:
            out += [UInt8(ascii: "\\"), byte]
            return start + 1
        }
    }

    private func unescapeHex(digits: Int, from start: Int, until end: Int, into out: inout [UInt8]) throws(TemplateError) -> Int {
        var code: UInt32 = 0
        for offset in start..<start + digits {
            guard offset < end, let digit = Jinja.hexDigit(source[offset]) else {
                throw failure("an escape in a string is cut short", at: start)
            }
            code = code << 4 | UInt32(digit)
        }
        guard let scalar = Unicode.Scalar(code) else {
            throw failure("an escape in a string names no character", at: start)
        }
        out += UTF8.encode(scalar)!
        return start + digits
    }
}
