// The filters behind `|`: here the dispatch and those that work on one value; sequences are in JinjaSequenceFilters.swift.
extension Jinja.Interpreter {
    static let filterNames: Set<String> = [
        "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "first",
        "float", "forceescape", "format", "indent", "int", "items", "join", "last", "length", "list", "lower", "map",
        "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice",
        "sort", "string", "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "wordcount"
    ]

    func applyFilter(_ filter: Jinja.Application, to value: Value, _ scope: Scope) throws(TemplateError) -> Value {
        let arguments = filter.arguments.isEmpty ? CallArguments() : try evaluate(filter.arguments, scope)
        return try applyFilter(filter.name, to: value, arguments)
    }

    func applyFilter(_ name: String, to value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        try step()
        switch name {
        case "default", "d":
            let values = try arguments.bound(["default_value", "boolean"], required: 0, in: name)
            let isMissing = value.isUndefined || (values[1]?.isTrue == true && !value.isTrue)
            return isMissing ? values[0] ?? .text("") : value
        case "length", "count":
            try expectNone(arguments, name)
            return .int(try length(of: value))
        case "tojson": return .text(try json(value, try jsonLayout(arguments)))
        case "attr":
            let key = try textArgument(try arguments.bound(["name"], required: 1, in: name)[0]!, name)
            if case .dictionary = value { return try method(key, of: value) ?? missingItem(key.string, of: value) }
            return try attribute(key, of: value)
        case "abs", "round", "int", "float": return try applyNumberFilter(name, value, arguments)
        case "trim", "upper", "lower", "title", "capitalize", "replace", "string", "safe", "e", "escape", "forceescape",
            "indent", "center", "truncate", "wordcount", "format":
            return try applyTextFilter(name, value, arguments)
        default: return try applySequenceFilter(name, value, arguments)
        }
    }

    func expectNone(_ arguments: CallArguments, _ name: String) throws(TemplateError) {
        _ = try arguments.unnamed(0...0, in: name)
    }

    private func jsonLayout(_ arguments: CallArguments) throws(TemplateError) -> Jinja.JSONLayout {
        let values = try arguments.bound(["ensure_ascii", "indent", "separators", "sort_keys"], required: 0, in: "tojson")
        var layout = Jinja.JSONLayout()
        layout.ensureASCII = values[0]?.isTrue ?? false
        layout.sortsKeys = values[3]?.isTrue ?? false
        switch values[1] {
        case nil, .some(.none): break
        case .some(.text(let text)): layout.indent = text
        case .some(let value): layout.indent = try repeated(" ", try integerArgument(value, "tojson's indent"))
        }
        if layout.indent != nil { layout.itemSeparator = "," }
        if let separators = values[2], separators.isTrue {
            let parts = try items(of: separators)
            guard parts.count == 2 else { throw failure("tojson needs two separators") }
            layout.itemSeparator = try textArgument(parts[0], "tojson")
            layout.keySeparator = try textArgument(parts[1], "tojson")
        }
        return layout
    }

    private func applyTextFilter(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        if name == "indent" || name == "truncate" {
            if name == "indent" { try checkDefined(value) }
            let text = try textArgument(value, name)
            return .text(try name == "indent" ? indented(text, arguments) : truncated(text, arguments))
        }
        let text = try string(value)
        try chargeText(text.utf8.count)
        switch name {
        case "trim":
            let chars = try optionalText(try arguments.bound(["chars"], required: 0, in: name)[0])
            return .text(text.stripped(.both, of: chars))
        case "replace":
            let values = try arguments.bound(["old", "new", "count"], required: 2, in: name)
            var limit = -1
            if let count = values[2] {
                if case .none = count {} else { limit = try integerArgument(count, name) }
            }
            return .text(try replaced(text, try string(values[0]!), try string(values[1]!), limit))
        case "center":
            let width = try integerArgument(try arguments.bound(["width"], required: 0, in: name)[0], name, default: 80)
            return .text(try centered(text, width: width))
        case "format": return .text(try formatted(text, arguments))
        default: break
        }
        try expectNone(arguments, name)
        if name == "upper" || name == "lower" || name == "title" || name == "capitalize" { try chargeCase(text) }
        switch name {
        case "upper": return .text(text.uppercased)
        case "lower": return .text(text.lowercased)
        case "title": return .text(text.wordsTitled)
        case "capitalize": return .text(text.capitalized)
        case "wordcount": return .int(text.wordCount)
        case "e", "escape", "forceescape": return .text(try escaped(text))
        default: return .text(text)
        }
    }

    private func escaped(_ text: Text) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): out += "&amp;".utf8
            case UInt8(ascii: "<"): out += "&lt;".utf8
            case UInt8(ascii: ">"): out += "&gt;".utf8
            case UInt8(ascii: "\""): out += "&#34;".utf8
            case UInt8(ascii: "'"): out += "&#39;".utf8
            default: out.append(byte)
            }
        }
        try chargeText(out.count)
        return Text(out)
    }

    private func indented(_ text: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
        let values = try arguments.bound(["width", "first", "blank"], required: 0, in: "indent")
        let indent: Text
        switch values[0] {
        case nil: indent = "    "
        case .some(.text(let text)): indent = text
        case .some(let value): indent = try repeated(" ", try integerArgument(value, "indent"))
        }
        let isFirst = values[1]?.isTrue ?? false
        let isBlank = values[2]?.isTrue ?? false
        var out: [UInt8] = isFirst ? indent.utf8 : []
        // The newline added at the end makes a last empty line count as one, as jinja2 does it.
        for (index, line) in Text(text.utf8 + [0x0A]).lines().enumerated() {
            try chargeText(line.utf8.count + indent.utf8.count + 1)
            if index > 0 {
                out.append(0x0A)
                if isBlank || !line.isEmpty { out += indent.utf8 }
            }
            out += line.utf8
        }
        return Text(out)
    }

    private func truncated(_ text: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
        let values = try arguments.bound(["length", "killwords", "end", "leeway"], required: 0, in: "truncate")
        let length = try integerArgument(values[0], "truncate", default: 255)
        let end = try textArgument(values[2], "truncate", default: "...")
        var leeway = 5
        if let value = values[3] {
            if case .none = value {} else { leeway = try integerArgument(value, "truncate") }
        }
        guard length >= end.length, leeway >= 0 else { throw failure("truncate needs a length not below its end's, and a leeway not below 0") }
        try chargeText(text.utf8.count)
        let (longest, overflow) = length.addingReportingOverflow(leeway)
        let scalars = text.scalars
        if overflow || scalars.count <= longest { return text }
        let cut = Text(scalars[..<(length - end.length)])
        let kept = values[1]?.isTrue == true ? cut : cut.splitFromEnd(" ", limit: 1)[0]
        return Text(kept.utf8 + end.utf8)
    }

    private func applyNumberFilter(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        switch name {
        case "abs":
            try expectNone(arguments, name)
            if case .double(let number) = value { return .double(number.magnitude) }
            guard let integer = value.integer, integer != .min else { throw failure("abs needs a number, found \(value.typeName)") }
            return .int(abs(integer))
        case "int":
            let values = try arguments.bound(["default", "base"], required: 0, in: name)
            let base = try integerArgument(values[1], name, default: 10)
            return try integer(from: value, base: base) ?? values[0] ?? .int(0)
        case "float":
            let values = try arguments.bound(["default"], required: 0, in: name)
            try checkDefined(value)
            if let number = value.number { return .double(number) }
            if case .text(let text) = value, let number = text.float { return .double(number) }
            return values[0] ?? .double(0)
        default: return try rounded(value, arguments)
        }
    }

    /// Python's `int(value)`, then `int(float(value))`; nil when both refuse.
    private func integer(from value: Value, base: Int) throws(TemplateError) -> Value? {
        try checkDefined(value)
        if let integer = value.integer { return .int(integer) }
        var number: Double?
        if case .double(let double) = value {
            guard !double.isInfinite else { throw failure("infinity is no integer") }
            number = double
        }
        if case .text(let text) = value {
            if let integer = try integer(of: text, base: base) { return .int(integer) }
            number = text.float
        }
        guard let number, number.isFinite else { return nil }
        guard let integer = Int(exactly: number.rounded(.towardZero)) else { throw failure("the integer does not fit 64 bits") }
        return .int(integer)
    }

    private func integer(of text: Text, base: Int) throws(TemplateError) -> Int? {
        guard base == 0 || (2...36).contains(base) else { return nil }
        var digits = text.stripped(.both, of: nil).lowercased.utf8[...]
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative || digits.first == UInt8(ascii: "+") { digits.removeFirst() }
        var radix = base
        let marks: [UInt8: Int] = [UInt8(ascii: "b"): 2, UInt8(ascii: "o"): 8, UInt8(ascii: "x"): 16]
        var canUnderscore = false
        if digits.count > 1, digits.first == UInt8(ascii: "0"), let marked = marks[digits[digits.startIndex + 1]],
            base == 0 || base == marked
        {
            radix = marked
            digits = digits.dropFirst(2)
            canUnderscore = true
        } else if base == 0 {
            radix = 10
            if digits.first == UInt8(ascii: "0"), digits.contains(where: { $0 != UInt8(ascii: "0") && $0 != UInt8(ascii: "_") }) { return nil }
        }
        var plain: [UInt8] = []
        for digit in digits {
            if digit == UInt8(ascii: "_") {
                guard canUnderscore else { return nil }
                canUnderscore = false
            } else {
                plain.append(digit)
                canUnderscore = true
            }
        }
        guard !plain.isEmpty, digits.last != UInt8(ascii: "_"), plain.allSatisfy({ Self.digitValue($0) < radix }) else { return nil }
        guard let value = Int((isNegative ? "-" : "") + String(decoding: plain, as: UTF8.self), radix: radix) else {
            throw failure("the integer \(text.string) does not fit 64 bits")
        }
        return value
    }

    private static func digitValue(_ byte: UInt8) -> Int {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(byte - UInt8(ascii: "a")) + 10
        default: .max
        }
    }

    private func rounded(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["precision", "method"], required: 0, in: "round")
        let precision = try integerArgument(values[0], "round", default: 0)
        let method = try textArgument(values[1], "round", default: "common")
        guard let number = value.number else { throw failure("round needs a number, found \(value.typeName)") }
        guard (-30...300).contains(precision) else { throw failure("round's precision \(precision) is out of reach") }
        switch method {
        case "common":
            if let integer = value.integer { return try roundedInteger(integer, precision) }
            guard number.isFinite else { return .double(number) }
            return .double(
                precision >= 0 ? Jinja.fixed(number, decimals: precision).flatMap(Double.init) ?? number : Jinja.roundedToPower(number, -precision))
        case "ceil", "floor":
            var power = 1.0
            for _ in 0..<abs(precision) { power *= 10 }
            if precision < 0 { power = 1 / power }
            let scaled = number * power
            guard scaled.isFinite else { throw failure("\(value.typeName) is too large to round") }
            return .double((method == "ceil" ? scaled.rounded(.up) : scaled.rounded(.down)) / power)
        default: throw failure("round's method is common, ceil or floor")
        }
    }

    /// To tens, hundreds, …: the even neighbour at a tie.
    private func roundedInteger(_ value: Int, _ precision: Int) throws(TemplateError) -> Value {
        if precision >= 0 { return .int(value) }
        if precision < -18 { return .int(0) }
        var unit = 1
        for _ in 0..<(-precision) { unit *= 10 }
        let remainder = ((value % unit) + unit) % unit
        let low = value.subtractingReportingOverflow(remainder)
        let up = remainder > unit / 2 || (remainder == unit / 2 && (low.partialValue / unit) % 2 != 0)
        let result = up ? low.partialValue.addingReportingOverflow(unit) : low
        guard !low.overflow, !result.overflow else { throw failure("the rounded integer does not fit 64 bits") }
        return .int(result.partialValue)
    }
}

extension Jinja.Text {
    /// Runs of letters, digits and underscores.
    var wordCount: Int {
        var count = 0
        var inWord = false
        for scalar in scalars {
            let isWord = scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
            if isWord, !inWord { count += 1 }
            inWord = isWord
        }
        return count
    }

    /// The number that Python's `float` reads here.
    var float: Double? {
        let bytes = stripped(.both, of: nil).utf8
        var plain: [UInt8] = []
        for (index, byte) in bytes.enumerated() {
            if byte == UInt8(ascii: "_") {
                guard index > 0, index + 1 < bytes.count, Self.isDigit(bytes[index - 1]), Self.isDigit(bytes[index + 1]) else { return nil }
            } else {
                plain.append(byte)
            }
        }
        let text = String(decoding: plain, as: UTF8.self).lowercased()
        let unsigned = text.hasPrefix("-") || text.hasPrefix("+") ? String(text.dropFirst()) : text
        switch unsigned {
        case "inf", "infinity": return text.hasPrefix("-") ? -.infinity : .infinity
        case "nan": return .nan
        default:
            guard let first = plain.isEmpty ? nil : unsigned.utf8.first, Self.isDigit(first) || first == UInt8(ascii: ".") else { return nil }
            guard unsigned.utf8.allSatisfy({ Self.isDigit($0) || ".e+-".utf8.contains($0) }) else { return nil }
            return Double(Self.withZeros(text))
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

    /// `1.` and `.5` with the zeros that Swift's reader wants.
    private static func withZeros(_ text: String) -> String {
        let parts = text.split(separator: "e", maxSplits: 1, omittingEmptySubsequences: false)
        var mantissa = String(parts[0])
        if mantissa.hasSuffix("."), mantissa != ".", mantissa != "-.", mantissa != "+." { mantissa += "0" }
        return parts.count > 1 ? mantissa + "e" + parts[1] : mantissa
    }
}
