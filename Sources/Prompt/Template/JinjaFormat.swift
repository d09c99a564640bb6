#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

extension Jinja {
    /// `value` with `decimals` digits after the point, rounded from its exact binary value; nil if C cannot.
    static func fixed(_ value: Double, decimals: Int) -> String? { printed("%.*f", [decimals, value]) }

    /// C's printf: exact where Swift's own printing has no such form.
    static func printed(_ format: String, _ arguments: [any CVarArg]) -> String? {
        var buffer = [CChar](repeating: 0, count: 1024)
        let count = withVaList(arguments) { vsnprintf(&buffer, buffer.count, format, $0) }
        guard count >= 0, count < buffer.count else { return nil }
        return String(decoding: buffer[..<Int(count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func roundedToPower(_ value: Double, _ power: Int) -> Double {
        var unit = 1.0
        for _ in 0..<power { unit *= 10 }
        return (value / unit).rounded(.toNearestOrEven) * unit
    }

    /// What stands between `%` and the letter, and in braces after the colon.
    fileprivate struct Specification {
        var left = false
        var plus = false
        var blank = false
        var alternate = false
        var zero = false
        var width = 0
        var precision: Int?
        var letter: UInt8 = UInt8(ascii: "s")
        // Only in braces.
        var fill: Text = " "
        var align: UInt8?
        var grouping: UInt8?
    }
}

// Python's `format % values`.
extension Jinja.Interpreter {
    private static let widthMax = 10_000

    func formatted(_ format: Text, _ values: Value) throws(TemplateError) -> Text {
        switch values {
        case .tuple(let list): return try formatted(format, list.items, nil)
        case .dictionary(let dictionary): return try formatted(format, [values], dictionary, mayRest: true)
        // Python takes all that has items for a dictionary, and a dictionary need not be used up.
        case .list, .range, .undefined: return try formatted(format, [values], nil, mayRest: true)
        default: return try formatted(format, [values], nil)
        }
    }

    func formatted(_ format: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
        if arguments.named.isEmpty { return try formatted(format, arguments.positional, nil) }
        guard arguments.positional.isEmpty else { throw failure("format takes positional or named arguments, not both") }
        let named = try dictionary(arguments.named.map { (.string($0.name), $0.value) })
        return try formatted(format, [.dictionary(named)], named, mayRest: true)
    }

    private func formatted(
        _ format: Text, _ values: [Value], _ named: Jinja.Dictionary?, mayRest: Bool = false
    ) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        var rest = format.utf8[...]
        var unused = values[...]
        try chargeText(format.utf8.count)
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                out.append(byte)
                continue
            }
            var value: Value?
            if rest.first == UInt8(ascii: "(") {
                guard let named, let end = rest.firstIndex(of: UInt8(ascii: ")")) else { throw failure("% with a name needs a dictionary") }
                let name = Text(rest[(rest.startIndex + 1)..<end])
                rest = rest[(end + 1)...]
                guard let found = named.value(name) else { throw failure("% finds no key \(name.string)") }
                value = found
            }
            let specification = try percentSpecification(&rest, &unused)
            if specification.letter == UInt8(ascii: "%") {
                out.append(UInt8(ascii: "%"))
                continue
            }
            guard let value = value ?? unused.popFirst() else { throw failure("% has more places than values") }
            out += try percentText(value, specification).utf8
        }
        guard unused.isEmpty || mayRest else { throw failure("% has more values than places") }
        return Text(out)
    }

    private func percentSpecification(
        _ rest: inout ArraySlice<UInt8>, _ unused: inout ArraySlice<Value>
    ) throws(TemplateError) -> Jinja.Specification {
        var specification = Jinja.Specification()
        flags: while let byte = rest.first {
            switch byte {
            case UInt8(ascii: "-"): specification.left = true
            case UInt8(ascii: "+"): specification.plus = true
            case UInt8(ascii: " "): specification.blank = true
            case UInt8(ascii: "#"): specification.alternate = true
            case UInt8(ascii: "0"): specification.zero = true
            default: break flags
            }
            rest.removeFirst()
        }
        specification.width = try number(&rest, &unused) ?? 0
        if specification.width < 0 {
            specification.left = true
            specification.width = -specification.width
        }
        if rest.first == UInt8(ascii: ".") {
            rest.removeFirst()
            specification.precision = max(0, try number(&rest, &unused) ?? 0)
        }
        while let byte = rest.first, "hlL".utf8.contains(byte) { rest.removeFirst() }
        guard let letter = rest.popFirst() else { throw failure("% stands at the end of a format") }
        specification.letter = letter
        return specification
    }

    private func number(_ rest: inout ArraySlice<UInt8>, _ unused: inout ArraySlice<Value>) throws(TemplateError) -> Int? {
        if rest.first == UInt8(ascii: "*") {
            rest.removeFirst()
            guard let value = unused.popFirst() else { throw failure("% has more places than values") }
            let width = try integerArgument(value, "%")
            guard (-Self.widthMax...Self.widthMax).contains(width) else { throw failure("a format's width is at most \(Self.widthMax)") }
            return width
        }
        var width: Int?
        while let byte = rest.first, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
            width = (width ?? 0) * 10 + Int(byte - UInt8(ascii: "0"))
            guard width! <= Self.widthMax else { throw failure("a format's width is at most \(Self.widthMax)") }
            rest.removeFirst()
        }
        return width
    }

    private func percentText(_ value: Value, _ specification: Jinja.Specification) throws(TemplateError) -> Text {
        switch specification.letter {
        case UInt8(ascii: "s"), UInt8(ascii: "r"):
            let text = specification.letter == UInt8(ascii: "s") ? try string(value) : try repr(value)
            return try aligned(cut(text, specification.precision), specification, left: specification.left)
        case UInt8(ascii: "c"):
            if case .text(let text) = value, text.length == 1 { return try aligned(text, specification, left: specification.left) }
            guard let code = value.integer, let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init) else {
                throw failure("%c needs one character")
            }
            return try aligned(Text(scalar), specification, left: specification.left)
        case UInt8(ascii: "d"), UInt8(ascii: "i"), UInt8(ascii: "u"):
            try checkDefined(value)
            var integer = value.integer
            if case .double(let number) = value { integer = Int(exactly: number.rounded(.towardZero)) }
            guard let integer else { throw failure("%d needs a number, found \(value.typeName)") }
            return try numberText(String(integer.magnitude), isNegative: integer < 0, specification)
        case UInt8(ascii: "x"), UInt8(ascii: "X"), UInt8(ascii: "o"):
            let integer = try integerArgument(value, "%\(Character(Unicode.Scalar(specification.letter)))")
            return try numberText(radixText(integer.magnitude, specification), isNegative: integer < 0, specification)
        case UInt8(ascii: "f"), UInt8(ascii: "F"), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "g"), UInt8(ascii: "G"):
            try checkDefined(value)
            guard let number = value.number else { throw failure("% needs a number, found \(value.typeName)") }
            let digits = try floatText(number.magnitude, specification)
            return try numberText(digits, isNegative: number.sign == .minus && !number.isNaN, specification)
        default: throw TemplateError(.unsupported, "the format letter \(Character(Unicode.Scalar(specification.letter))) is not known")
        }
    }

    private func radixText(_ magnitude: UInt, _ specification: Jinja.Specification) -> String {
        let radix = specification.letter | 0x20 == UInt8(ascii: "x") ? 16 : specification.letter == UInt8(ascii: "o") ? 8 : 2
        let digits = String(magnitude, radix: radix, uppercase: specification.letter == UInt8(ascii: "X"))
        return specification.alternate ? "0\(Character(Unicode.Scalar(specification.letter)))" + digits : digits
    }

    private func floatText(_ magnitude: Double, _ specification: Jinja.Specification) throws(TemplateError) -> String {
        let isUpper = specification.letter < UInt8(ascii: "a")
        if !magnitude.isFinite { return magnitude.isNaN ? (isUpper ? "NAN" : "nan") : (isUpper ? "INF" : "inf") }
        let format = "%" + (specification.alternate ? "#" : "") + ".*" + String(Character(Unicode.Scalar(specification.letter)))
        let precision = specification.precision ?? 6
        guard precision <= 600, let text = Jinja.printed(format, [precision, magnitude]) else {
            throw failure("a format's precision is at most 600")
        }
        return text
    }

    private func numberText(_ digits: String, isNegative: Bool, _ specification: Jinja.Specification) throws(TemplateError) -> Text {
        let sign = isNegative ? "-" : specification.plus ? "+" : specification.blank ? " " : ""
        var digits = digits
        if let precision = specification.precision, "diuxXo".utf8.contains(specification.letter), digits.utf8.count < precision {
            digits = String(repeating: "0", count: precision - digits.utf8.count) + digits
        }
        let length = sign.utf8.count + digits.utf8.count
        if specification.zero, !specification.left, length < specification.width, digits.utf8.first.map({ $0 < 0x3A }) ?? false {
            digits = String(repeating: "0", count: specification.width - length) + digits
        }
        return try aligned(Text(sign + digits), specification, left: specification.left)
    }

    private func cut(_ text: Text, _ length: Int?) throws(TemplateError) -> Text {
        guard let length, text.length > length else { return text }
        try chargeText(text.utf8.count)
        return Text(text.scalars.prefix(length))
    }

    private func aligned(_ text: Text, _ specification: Jinja.Specification, left: Bool) throws(TemplateError) -> Text {
        try chargeText(text.utf8.count)
        let missing = specification.width - text.length
        guard missing > 0 else { return text }
        let align = specification.align ?? UInt8(ascii: left ? "<" : ">")
        let before = align == UInt8(ascii: "<") ? 0 : align == UInt8(ascii: "^") ? missing / 2 : missing
        return Text((try repeated(specification.fill, before)).utf8 + text.utf8 + (try repeated(specification.fill, missing - before)).utf8)
    }
}

// Python's `format.format(values)`.
extension Jinja.Interpreter {
    func braceFormatted(_ format: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        var rest = format.utf8[...]
        var automatic = 0
        while let byte = rest.popFirst() {
            let isOpening = byte == UInt8(ascii: "{")
            guard isOpening || byte == UInt8(ascii: "}") else {
                out.append(byte)
                continue
            }
            if rest.first == byte {
                out.append(byte)
                rest.removeFirst()
                continue
            }
            guard isOpening, let end = rest.firstIndex(of: UInt8(ascii: "}")) else { throw failure("a format has a single brace") }
            let field = rest[..<end]
            rest = rest[(end + 1)...]
            guard !field.contains(UInt8(ascii: "{")) else { throw TemplateError(.unsupported, "a format nests its fields") }
            out += try fieldText(field, arguments, &automatic).utf8
        }
        try chargeText(out.count)
        return Text(out)
    }

    private func fieldText(
        _ field: ArraySlice<UInt8>, _ arguments: CallArguments, _ automatic: inout Int
    ) throws(TemplateError) -> Text {
        let colon = field.firstIndex(of: UInt8(ascii: ":")) ?? field.endIndex
        var name = field[..<colon]
        var conversion: UInt8?
        if name.count >= 2, name[name.endIndex - 2] == UInt8(ascii: "!") {
            conversion = name.last
            name = name.dropLast(2)
        }
        let text = String(decoding: name, as: UTF8.self)
        let value: Value
        if text.isEmpty || Int(text) != nil {
            let place = Int(text) ?? automatic
            if text.isEmpty { automatic += 1 }
            guard arguments.positional.indices.contains(place) else { throw failure("a format has no value number \(place)") }
            value = arguments.positional[place]
        } else {
            guard text.utf8.allSatisfy({ $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "[") }) else {
                throw TemplateError(.unsupported, "a format looks into its values")
            }
            guard let found = arguments.named.first(where: { $0.name == text })?.value else { throw failure("a format has no value named \(text)") }
            value = found
        }
        let specification = colon < field.endIndex ? field[(colon + 1)...] : []
        switch conversion {
        case nil: return try braceText(value, specification)
        case UInt8(ascii: "r"): return try braceText(.text(try repr(value)), specification)
        case UInt8(ascii: "s"): return try braceText(.text(try string(value)), specification)
        default: throw TemplateError(.unsupported, "a format's conversion is s or r")
        }
    }

    private func braceText(_ value: Value, _ text: ArraySlice<UInt8>) throws(TemplateError) -> Text {
        if text.isEmpty { return try string(value) }
        var specification = Jinja.Specification()
        specification.letter = 0
        var rest = text
        let scalars = Text(text).scalars
        if scalars.count > 1, "<>^=".unicodeScalars.contains(scalars[1]) {
            specification.fill = Text(scalars[0])
            specification.align = UInt8(scalars[1].value)
            rest = rest.dropFirst(specification.fill.utf8.count + 1)
        } else if let first = rest.first, "<>^=".utf8.contains(first) {
            specification.align = first
            rest = rest.dropFirst()
        }
        if let sign = rest.first, "+- ".utf8.contains(sign) {
            specification.plus = sign == UInt8(ascii: "+")
            specification.blank = sign == UInt8(ascii: " ")
            rest = rest.dropFirst()
        }
        if rest.first == UInt8(ascii: "#") { throw TemplateError(.unsupported, "a format's # is not known") }
        if rest.first == UInt8(ascii: "0") { specification.zero = specification.align == nil }
        var none: ArraySlice<Value> = []
        specification.width = try number(&rest, &none) ?? 0
        if rest.first == UInt8(ascii: ",") || rest.first == UInt8(ascii: "_") {
            throw TemplateError(.unsupported, "a format's grouping of digits is not known")
        }
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            specification.precision = try number(&rest, &none)
        }
        if let letter = rest.popFirst() { specification.letter = letter }
        guard rest.isEmpty, specification.align != UInt8(ascii: "=") else { throw TemplateError(.unsupported, "a format that is not known") }
        return try braceText(value, specification)
    }

    private func braceText(_ value: Value, _ given: Jinja.Specification) throws(TemplateError) -> Text {
        var specification = given
        switch value {
        case .text(let text) where given.letter == 0 || given.letter == UInt8(ascii: "s"):
            specification.zero = false
            return try aligned(cut(text, given.precision), specification, left: given.align == nil)
        case .int(let integer) where given.letter == 0 || "dxXo".utf8.contains(given.letter):
            guard given.precision == nil else { throw failure("an integer's format has no precision") }
            if given.letter == 0 { specification.letter = UInt8(ascii: "d") }
            let digits = specification.letter == UInt8(ascii: "d") ? String(integer.magnitude) : radixText(integer.magnitude, specification)
            return try numberText(digits, isNegative: integer < 0, specification)
        case .int, .double:
            guard "feEgG".utf8.contains(given.letter), let number = value.number else {
                throw TemplateError(.unsupported, "a format that is not known for \(value.typeName)")
            }
            return try numberText(try floatText(number.magnitude, given), isNegative: number.sign == .minus, specification)
        default: throw TemplateError(.unsupported, "a format that is not known for \(value.typeName)")
        }
    }
}
