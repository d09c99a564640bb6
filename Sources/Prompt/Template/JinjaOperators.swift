#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

// Arithmetic, with Python's meaning; what leaves 64 bits is an error instead of a longer number.
extension Jinja.Interpreter {
    func arithmetic(_ op: Jinja.BinaryOperator, _ a: Value, _ b: Value) throws(TemplateError) -> Value {
        try checkDefined(a)
        if op == .modulo, case .text(let format) = a { return .text(try formatted(format, b)) }
        try checkDefined(b)
        if let x = a.integer, let y = b.integer { return try integerArithmetic(op, x, y) }
        if let x = a.number, let y = b.number { return .double(try floatArithmetic(op, x, y)) }
        switch (op, a, b) {
        case (.add, .text(let x), .text(let y)):
            try chargeText(x.utf8.count + y.utf8.count)
            return .text(Text(x.utf8 + y.utf8))
        case (.add, .list(let x), .list(let y)): return .list(try list(x.items + y.items))
        case (.add, .tuple(let x), .tuple(let y)): return .tuple(try list(x.items + y.items))
        case (.multiply, .text(let text), _) where b.integer != nil: return .text(try repeated(text, b.integer!))
        case (.multiply, _, .text(let text)) where a.integer != nil: return .text(try repeated(text, a.integer!))
        case (.multiply, .list(let x), _) where b.integer != nil: return .list(try list(try repeated(x, b.integer!)))
        case (.multiply, _, .list(let x)) where a.integer != nil: return .list(try list(try repeated(x, a.integer!)))
        case (.multiply, .tuple(let x), _) where b.integer != nil: return .tuple(try list(try repeated(x, b.integer!)))
        case (.multiply, _, .tuple(let x)) where a.integer != nil: return .tuple(try list(try repeated(x, a.integer!)))
        default: throw failure("the operator \(op) does not work on \(a.typeName) and \(b.typeName)")
        }
    }

    func checkDefined(_ value: Value) throws(TemplateError) {
        if case .undefined(let undefined) = value { throw TemplateError(.undefined, undefined.message) }
    }

    private func integerArithmetic(_ op: Jinja.BinaryOperator, _ x: Int, _ y: Int) throws(TemplateError) -> Value {
        let result: (partialValue: Int, overflow: Bool)
        switch op {
        case .add: result = x.addingReportingOverflow(y)
        case .subtract: result = x.subtractingReportingOverflow(y)
        case .multiply: result = x.multipliedReportingOverflow(by: y)
        case .divide: return .double(try floatArithmetic(.divide, Double(x), Double(y)))
        case .floorDivide, .modulo:
            guard y != 0 else { throw failure("division by zero") }
            if y == -1 {
                result = op == .modulo ? (0, false) : 0.subtractingReportingOverflow(x)
                break
            }
            let (quotient, remainder) = x.quotientAndRemainder(dividingBy: y)
            let isLow = remainder != 0 && (remainder < 0) != (y < 0)
            result = (op == .modulo ? (isLow ? remainder + y : remainder) : (isLow ? quotient - 1 : quotient), false)
        case .power:
            if y < 0 { return .double(try floatArithmetic(.power, Double(x), Double(y))) }
            result = power(x, y)
        }
        guard !result.overflow else { throw failure("the integer result of \(op) does not fit 64 bits") }
        return .int(result.partialValue)
    }

    private func power(_ base: Int, _ exponent: Int) -> (partialValue: Int, overflow: Bool) {
        if base == 0 || base == 1 { return (exponent == 0 ? 1 : base, false) }
        if base == -1 { return (exponent % 2 == 0 ? 1 : -1, false) }
        var value = 1
        // |base| ≥ 2, so 64 turns overflow.
        for _ in 0..<exponent {
            let (next, overflow) = value.multipliedReportingOverflow(by: base)
            if overflow { return (0, true) }
            value = next
        }
        return (value, false)
    }

    private func floatArithmetic(_ op: Jinja.BinaryOperator, _ x: Double, _ y: Double) throws(TemplateError) -> Double {
        switch op {
        case .add: return x + y
        case .subtract: return x - y
        case .multiply: return x * y
        case .divide:
            guard y != 0 else { throw failure("division by zero") }
            return x / y
        case .floorDivide:
            guard y != 0 else { throw failure("division by zero") }
            let remainder = floatRemainder(x, y)
            let quotient = (x - remainder) / y
            if quotient == 0 { return (x / y).sign == .minus ? -0.0 : 0 }
            let floor = quotient.rounded(.down)
            return quotient - floor > 0.5 ? floor + 1 : floor
        case .modulo:
            guard y != 0 else { throw failure("division by zero") }
            return floatRemainder(x, y)
        case .power:
            guard x != 0 || y >= 0 else { throw failure("zero cannot be raised to a negative power") }
            guard x >= 0 || y == y.rounded() || !y.isFinite else { throw failure("the result of ** is no real number") }
            let result = pow(x, y)
            guard result.isFinite || !x.isFinite || !y.isFinite else { throw failure("the result of ** is too large") }
            return result
        }
    }

    /// Python's `%`: the sign of the divisor.
    private func floatRemainder(_ x: Double, _ y: Double) -> Double {
        let remainder = x.truncatingRemainder(dividingBy: y)
        if remainder == 0 { return y.sign == .minus ? -0.0 : 0 }
        return (remainder < 0) != (y < 0) ? remainder + y : remainder
    }

    func repeated(_ text: Text, _ count: Int) throws(TemplateError) -> Text {
        guard count > 0, !text.isEmpty else { return "" }
        let (bytes, overflow) = text.utf8.count.multipliedReportingOverflow(by: count)
        try chargeText(overflow ? limits.textBytesMax : bytes)
        if overflow { throw TemplateError(.limit, "a repeated text is longer than textBytesMax = \(limits.textBytesMax)") }
        var out: [UInt8] = []
        out.reserveCapacity(bytes)
        for _ in 0..<count { out += text.utf8 }
        return Text(out)
    }

    private func repeated(_ list: Jinja.List, _ count: Int) throws(TemplateError) -> [Value] {
        guard count > 0, !list.items.isEmpty else { return [] }
        let (items, overflow) = list.items.count.multipliedReportingOverflow(by: count)
        guard !overflow, items <= limits.sequenceItemsMax else {
            throw TemplateError(.limit, "a repeated list is longer than sequenceItemsMax = \(limits.sequenceItemsMax)")
        }
        var out: [Value] = []
        for _ in 0..<count { out += list.items }
        return out
    }

    func negate(_ value: Value) throws(TemplateError) -> Value {
        try checkDefined(value)
        if case .double(let number) = value { return .double(-number) }
        guard let integer = value.integer else { throw failure("the operator - does not work on \(value.typeName)") }
        return try integerArithmetic(.subtract, 0, integer)
    }

    func plus(_ value: Value) throws(TemplateError) -> Value {
        try checkDefined(value)
        if case .double = value { return value }
        guard let integer = value.integer else { throw failure("the operator + does not work on \(value.typeName)") }
        return .int(integer)
    }
}

// Comparison.
extension Jinja.Interpreter {
    func compare(_ comparison: Jinja.Comparison, _ a: Value, _ b: Value) throws(TemplateError) -> Bool {
        switch comparison {
        case .equal: try equal(a, b)
        case .notEqual: try !equal(a, b)
        case .less: try ordered(a, b) < 0
        case .lessOrEqual: try ordered(a, b, orEqual: true) <= 0
        case .greater: try ordered(b, a) < 0
        case .greaterOrEqual: try ordered(b, a, orEqual: true) <= 0
        case .isIn: try contains(b, a)
        case .isNotIn: try !contains(b, a)
        }
    }

    func equal(_ a: Value, _ b: Value) throws(TemplateError) -> Bool {
        switch (a, b) {
        case (.text(let x), .text(let y)):
            try chargeReading(min(x.utf8.count, y.utf8.count))
            return x.utf8 == y.utf8
        case (.none, .none), (.undefined, .undefined): return true
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)): return try equalItems(x.items, y.items)
        case (.dictionary(let x), .dictionary(let y)): return try equalEntries(x, y)
        case (.range(let x), .range(let y)):
            return x.count == y.count && (x.count == 0 || (x.start == y.start && (x.count == 1 || x.step == y.step)))
        case (.view(let x), .view(let y)): return x === y
        case (.iterator(let x), .iterator(let y)): return x === y
        case (.namespace(let x), .namespace(let y)): return x === y
        case (.macro(let x), .macro(let y)): return x === y
        case (.loop(let x), .loop(let y)): return x === y
        case (.cycler(let x), .cycler(let y)): return x === y
        case (.joiner(let x), .joiner(let y)): return x === y
        case (.function(let x), .function(let y)): return x == y
        default:
            if let x = a.integer, let y = b.integer { return x == y }
            if case .double(let x) = a, let y = b.integer { return compareExactly(x, y) == 0 }
            if let x = a.integer, case .double(let y) = b { return compareExactly(y, x) == 0 }
            if case .double(let x) = a, case .double(let y) = b { return x == y }
            return false
        }
    }

    /// -1, 0, 1 or nil for not a number: without rounding the integer to a float.
    private func compareExactly(_ x: Double, _ y: Int) -> Int? {
        if x.isNaN { return nil }
        if x >= 0x1p63 { return 1 }
        if x < -0x1p63 { return -1 }
        let whole = x.rounded(.down)
        let integer = Int(whole)
        if integer != y { return integer < y ? -1 : 1 }
        return x > whole ? 1 : 0
    }

    private func equalItems(_ a: [Value], _ b: [Value]) throws(TemplateError) -> Bool {
        guard a.count == b.count else { return false }
        for (x, y) in zip(a, b) {
            try step()
            guard try equal(x, y) else { return false }
        }
        return true
    }

    private func equalEntries(_ a: Jinja.Dictionary, _ b: Jinja.Dictionary) throws(TemplateError) -> Bool {
        guard a.entries.count == b.entries.count else { return false }
        for entry in a.entries {
            guard let other = try value(of: entry.key, in: b), try equal(entry.value, other) else { return false }
        }
        return true
    }

    /// Negative when `a` stands before `b`; positive stands for every other case but equality, not-a-number included.
    func ordered(_ a: Value, _ b: Value, orEqual: Bool = false) throws(TemplateError) -> Int {
        try checkDefined(a)
        try checkDefined(b)
        if let x = a.integer, let y = b.integer { return x < y ? -1 : x == y ? 0 : 1 }
        if case .double(let x) = a, let y = b.integer { return compareExactly(x, y) ?? 1 }
        if let x = a.integer, case .double(let y) = b { return compareExactly(y, x).map { -$0 } ?? 1 }
        switch (a, b) {
        case (.double(let x), .double(let y)): return x < y ? -1 : x == y ? 0 : 1
        case (.text(let x), .text(let y)):
            try chargeReading(min(x.utf8.count, y.utf8.count))
            return x < y ? -1 : x == y ? 0 : 1
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
            for (left, right) in zip(x.items, y.items) {
                try step()
                if try !equal(left, right) { return try ordered(left, right, orEqual: orEqual) }
            }
            return x.items.count < y.items.count ? -1 : x.items.count == y.items.count ? 0 : 1
        default: throw failure("\(a.typeName) and \(b.typeName) have no order")
        }
    }

    /// Python's `needle in container`.
    func contains(_ container: Value, _ needle: Value) throws(TemplateError) -> Bool {
        switch container {
        case .text(let text):
            guard case .text(let part) = needle else {
                throw failure("only text can be looked for in text, found \(needle.typeName)")
            }
            try chargeReading(text.utf8.count)
            return text.contains(part)
        case .dictionary(let dictionary):
            try checkHashable(needle)
            return try value(of: needle, in: dictionary) != nil
        default:
            for item in try items(of: container) {
                try step()
                if try equal(item, needle) { return true }
            }
            return false
        }
    }

    func value(of key: Value, in dictionary: Jinja.Dictionary) throws(TemplateError) -> Value? {
        try step(dictionary.entries.count / 8)
        if case .text(let text) = key { return dictionary.value(text) }
        return try place(of: key, in: dictionary.entries).map { dictionary.entries[$0].value }
    }
}
