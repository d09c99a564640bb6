extension Jinja {
    enum Token: Equatable {
        case data(Text)
        case variableBegin, variableEnd, blockBegin, blockEnd
        case name(String)
        case text(Text)
        case int(Int)
        case double(Double)
        case sign(Sign)
        case end

        /// As an error message names it.
        var description: String {
            switch self {
            case .data: "template text"
            case .variableBegin: "{{"
            case .variableEnd: "}}"
            case .blockBegin: "{%"
            case .blockEnd: "%}"
            case .name(let name): name
            case .text(let text): "'\(text.string)'"
            case .int(let value): String(value)
            case .double(let value): String(value)
            case .sign(let sign): sign.rawValue
            case .end: "end of template"
            }
        }
    }

    enum Sign: String, CaseIterable {
        case floorDivide = "//", power = "**", equal = "==", notEqual = "!=", greaterOrEqual = ">=", lessOrEqual = "<="
        case add = "+", subtract = "-", divide = "/", multiply = "*", modulo = "%", tilde = "~"
        case openBracket = "[", closeBracket = "]", openParen = "(", closeParen = ")", openBrace = "{", closeBrace = "}"
        case greater = ">", less = "<", assign = "=", dot = ".", colon = ":", pipe = "|", comma = ",", semicolon = ";"

        /// Two-letter signs stand first in the list, so the longest match wins.
        static let table: [(bytes: [UInt8], sign: Sign)] = allCases.map { (Array($0.rawValue.utf8), $0) }
    }

    /// Cuts template text into tokens, with jinja2's rules for white space under `trim_blocks` and `lstrip_blocks`:
    /// `-` eats all white space on its side, a block or comment eats the newline after it and the blanks before it on
    /// its line, `+` forbids that, and one newline at the very end is dropped.
    struct Lexer {
        private let source: [UInt8]
        private let lineStarts: [Int]
        private var at = 0
        /// Whether the tag before ended with a newline, so that the text now begins a line.
        private var lineStarting = true
        private var brackets: [Sign] = []
        private(set) var tokens: [(token: Token, position: Position)] = []

        static func tokens(of source: [UInt8]) throws(TemplateError) -> [(token: Token, position: Position)] {
            var lexer = Lexer(source)
            try lexer.readRoot()
            return lexer.tokens
        }

        private init(_ raw: [UInt8]) {
            source = Self.normalized(raw)
            var starts = [0]
            for (index, byte) in source.enumerated() where byte == 0x0A { starts.append(index + 1) }
            lineStarts = starts
        }

        /// Every line end as \n, one at the very end dropped.
        private static func normalized(_ raw: [UInt8]) -> [UInt8] {
            var out: [UInt8] = []
            out.reserveCapacity(raw.count)
            for (index, byte) in raw.enumerated() {
                if byte == 0x0D {
                    if index + 1 == raw.count || raw[index + 1] != 0x0A { out.append(0x0A) }
                } else {
                    out.append(byte)
                }
            }
            if out.last == 0x0A { out.removeLast() }
            return out
        }

        private func position(_ offset: Int) -> Position {
            var low = 0
            var high = lineStarts.count
            while high - low > 1 {
                let middle = (low + high) / 2
                if lineStarts[middle] <= offset { low = middle } else { high = middle }
            }
            return Position(line: low + 1, column: offset - lineStarts[low] + 1)
        }

        private func failure(_ message: String, at offset: Int) -> TemplateError {
            TemplateError(.syntax, message, at: position(offset))
        }

        private mutating func emit(_ token: Token, at offset: Int) {
            tokens.append((token, position(offset)))
        }

        private func byte(_ offset: Int) -> UInt8? { offset < source.count ? source[offset] : nil }

        private func has(_ text: StaticString, at offset: Int) -> Bool {
            let count = text.utf8CodeUnitCount
            guard source.count - offset >= count else { return false }
            return text.withUTF8Buffer { source[offset..<offset + count].elementsEqual($0) }
        }

        /// The offset after the white space at `offset`.
        private func skipSpace(_ offset: Int) -> Int {
            var offset = offset
            while let width = spaceWidth(offset) { offset += width }
            return offset
        }

        private func spaceWidth(_ offset: Int) -> Int? {
            guard offset < source.count else { return nil }
            if source[offset] < 0x80 { return isSpace(UInt32(source[offset])) ? 1 : nil }
            return Text(source[offset..<min(offset + 3, source.count)]).spaceWidth(at: 0)
        }
    }
}

// Text outside of tags.
extension Jinja.Lexer {
    private mutating func readRoot() throws(TemplateError) {
        while let tag = nextTag(from: at) {
            let sign = byte(tag + 2).flatMap { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "+") ? $0 : nil }
            let isVariable = source[tag + 1] == UInt8(ascii: "{")
            let bodyStart = tag + 2 + (sign == nil ? 0 : 1)
            emitData(until: tag, sign: sign, beforeVariable: isVariable)
            at = bodyStart
            switch source[tag + 1] {
            case UInt8(ascii: "{"):
                emit(.variableBegin, at: tag)
                try readTag(isBlock: false, openedAt: tag)
            case UInt8(ascii: "#"):
                try skipComment(openedAt: tag)
            default:
                if let rawBody = rawBodyStart(bodyStart) {
                    at = rawBody
                    lineStarting = source[at - 1] == 0x0A
                    try readRaw(openedAt: tag)
                } else {
                    emit(.blockBegin, at: tag)
                    try readTag(isBlock: true, openedAt: tag)
                }
            }
        }
        if at < source.count { emit(.data(Jinja.Text(source[at...])), at: at) }
        emit(.end, at: source.count)
    }

    private func nextTag(from start: Int) -> Int? {
        var offset = start
        while offset + 1 < source.count {
            if source[offset] == UInt8(ascii: "{") {
                let second = source[offset + 1]
                if second == UInt8(ascii: "{") || second == UInt8(ascii: "%") || second == UInt8(ascii: "#") { return offset }
            }
            offset += 1
        }
        return nil
    }

    private mutating func emitData(until tag: Int, sign: UInt8?, beforeVariable: Bool) {
        var text = Jinja.Text(source[at..<tag])
        if sign == UInt8(ascii: "-") {
            text = text.stripped(.right, of: nil)
        } else if sign == nil, !beforeVariable {
            let lineStart = (text.utf8.lastIndex(of: 0x0A) ?? -1) + 1
            if lineStart > 0 || lineStarting, Jinja.Text(text.utf8[lineStart...]).isSpace {
                text = Jinja.Text(text.utf8[..<lineStart])
            }
        }
        if !text.isEmpty { emit(.data(text), at: at) }
    }

    private mutating func skipComment(openedAt: Int) throws(TemplateError) {
        var offset = at
        while !has("#}", at: offset) {
            offset += 1
            guard offset < source.count else { throw failure("a comment has no end", at: openedAt) }
        }
        let sign = offset > at ? source[offset - 1] : 0
        close(at: offset + 2, sign: sign, trimsNewline: true)
    }

    /// Steps behind a tag's end, eating what its sign and the trimming rules say.
    private mutating func close(at end: Int, sign: UInt8, trimsNewline: Bool) {
        at = end
        if sign == UInt8(ascii: "-") {
            at = skipSpace(end)
        } else if sign != UInt8(ascii: "+"), trimsNewline, byte(end) == 0x0A {
            at = end + 1
        }
        lineStarting = source[at - 1] == 0x0A
    }

    /// Where the text of a raw block begins, when the block tag whose inside begins at `offset` opens one.
    private func rawBodyStart(_ offset: Int) -> Int? {
        var offset = skipSpace(offset)
        guard has("raw", at: offset) else { return nil }
        offset = skipSpace(offset + 3)
        if has("-%}", at: offset) { return skipSpace(offset + 3) }
        return has("%}", at: offset) ? offset + 2 : nil
    }

    private mutating func readRaw(openedAt: Int) throws(TemplateError) {
        var offset = at
        while offset + 1 < source.count {
            defer { offset += 1 }
            guard has("{%", at: offset) else { continue }
            var inside = offset + 2
            let sign = byte(inside).flatMap { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "+") ? $0 : nil }
            if sign != nil { inside += 1 }
            inside = skipSpace(inside)
            guard has("endraw", at: inside) else { continue }
            inside = skipSpace(inside + 6)
            let endSign = byte(inside) == UInt8(ascii: "-") || byte(inside) == UInt8(ascii: "+") ? source[inside] : 0
            if endSign != 0 { inside += 1 }
            guard has("%}", at: inside) else { continue }
            emitData(until: offset, sign: sign, beforeVariable: false)
            close(at: inside + 2, sign: endSign, trimsNewline: true)
            return
        }
        throw failure("a raw block has no end", at: openedAt)
    }
}

// Inside of tags.
extension Jinja.Lexer {
    private mutating func readTag(isBlock: Bool, openedAt: Int) throws(TemplateError) {
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

    private func unescape(from start: Int, until end: Int, into out: inout [UInt8]) throws(TemplateError) -> Int {
        let simple: [UInt8: UInt8] = [
            UInt8(ascii: "\\"): 0x5C, UInt8(ascii: "'"): 0x27, UInt8(ascii: "\""): 0x22, UInt8(ascii: "a"): 0x07,
            UInt8(ascii: "b"): 0x08, UInt8(ascii: "f"): 0x0C, UInt8(ascii: "n"): 0x0A, UInt8(ascii: "r"): 0x0D,
            UInt8(ascii: "t"): 0x09, UInt8(ascii: "v"): 0x0B,
        ]
        let byte = source[start]
        if let plain = simple[byte] {
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
