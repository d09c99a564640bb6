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
        let source: [UInt8]
        private let lineStarts: [Int]
        var at = 0
        /// Whether the tag before ended with a newline, so that the text now begins a line.
        private var lineStarting = true
        var brackets: [Sign] = []
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

        func position(_ offset: Int) -> Position {
            var low = 0
            var high = lineStarts.count
            while high - low > 1 {
                let middle = (low + high) / 2
                if lineStarts[middle] <= offset { low = middle } else { high = middle }
            }
            return Position(line: low + 1, column: offset - lineStarts[low] + 1)
        }

        func failure(_ message: String, at offset: Int) -> TemplateError {
            TemplateError(.syntax, message, at: position(offset))
        }

        mutating func emit(_ token: Token, at offset: Int) {
            tokens.append((token, position(offset)))
        }

        func byte(_ offset: Int) -> UInt8? { offset < source.count ? source[offset] : nil }

        func has(_ text: StaticString, at offset: Int) -> Bool {
            let count = text.utf8CodeUnitCount
            guard source.count - offset >= count else { return false }
            return text.withUTF8Buffer { source[offset..<offset + count].elementsEqual($0) }
        }

        /// The offset after the white space at `offset`.
        func skipSpace(_ offset: Int) -> Int {
            var offset = offset
            while let width = spaceWidth(offset) { offset += width }
            return offset
        }

        func spaceWidth(_ offset: Int) -> Int? {
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
    mutating func close(at end: Int, sign: UInt8, trimsNewline: Bool) {
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
