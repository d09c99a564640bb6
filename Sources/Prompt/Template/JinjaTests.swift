// The tests behind `is`.
extension Jinja.Interpreter {
    static let testNames: Set<String> = [
        "defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping",
        "sequence", "iterable", "callable", "sameas", "escaped", "in", "odd", "even", "divisibleby", "lower", "upper",
        "filter", "test", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan",
        "<=", "le",
    ]

    func applyTest(_ name: String, to value: Value, _ arguments: CallArguments) throws(TemplateError) -> Bool {
        if let comparison = Self.comparison(name) {
            let other = try arguments.unnamed(1...1, in: name)[0]
            return try compare(comparison, value, other)
        }
        switch name {
        case "sameas":
            return isSame(value, try arguments.unnamed(1...1, in: name)[0])
        case "divisibleby":
            let number = try arguments.bound(["num"], required: 1, in: name)[0]!
            return try isZero(try arithmetic(.modulo, value, number))
        case "odd", "even":
            _ = try arguments.unnamed(0...0, in: name)
            let remainder = try arithmetic(.modulo, value, .int(2))
            return try name == "odd" ? equal(remainder, .int(1)) : isZero(remainder)
        case "filter", "test":
            guard case .text(let wanted) = value else { return false }
            return name == "filter" ? Self.filterNames.contains(wanted.string) : Self.testNames.contains(wanted.string)
        default:
            guard Self.testNames.contains(name) else { throw TemplateError(.unsupported, "the test \(name) is not known") }
            _ = try arguments.unnamed(0...0, in: name)
            return try applyTypeTest(name, value)
        }
    }

    private static func comparison(_ name: String) -> Jinja.Comparison? {
        switch name {
        case "==", "eq", "equalto": .equal
        case "!=", "ne": .notEqual
        case ">", "gt", "greaterthan": .greater
        case ">=", "ge": .greaterOrEqual
        case "<", "lt", "lessthan": .less
        case "<=", "le": .lessOrEqual
        case "in": .isIn
        default: nil
        }
    }

    private func isZero(_ value: Value) throws(TemplateError) -> Bool { try equal(value, .int(0)) }

    private func applyTypeTest(_ name: String, _ value: Value) throws(TemplateError) -> Bool {
        switch (name, value) {
        case ("defined", _): return !value.isUndefined
        case ("undefined", _): return value.isUndefined
        case ("none", .none), ("boolean", .bool), ("true", .bool(true)), ("false", .bool(false)): return true
        case ("integer", .int), ("float", .double), ("string", .text), ("mapping", .dictionary): return true
        case ("number", .int), ("number", .double), ("number", .bool): return true
        case ("sequence", .undefined), ("sequence", .text), ("sequence", .list), ("sequence", .tuple),
            ("sequence", .dictionary), ("sequence", .range):
            return true
        case ("iterable", .undefined), ("iterable", .text), ("iterable", .list), ("iterable", .tuple),
            ("iterable", .dictionary), ("iterable", .range), ("iterable", .view), ("iterable", .iterator), ("iterable", .loop):
            return true
        case ("callable", .undefined), ("callable", .macro), ("callable", .function), ("callable", .method),
            ("callable", .joiner), ("callable", .loop):
            return true
        case ("lower", _), ("upper", _):
            let text = try string(value)
            try chargeReading(text.utf8.count)
            return name == "lower" ? text.isLowercase : text.isUppercase
        default: return false
        }
    }

    /// Python's `is`. Values have no address here: equal constants of one type are the same, containers when they
    /// are one object.
    private func isSame(_ a: Value, _ b: Value) -> Bool {
        switch (a, b) {
        case (.none, .none): true
        case (.bool(let x), .bool(let y)): x == y
        case (.int(let x), .int(let y)): x == y
        case (.double(let x), .double(let y)): x == y
        case (.text(let x), .text(let y)): x == y
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)): x === y
        case (.dictionary(let x), .dictionary(let y)): x === y
        case (.namespace(let x), .namespace(let y)): x === y
        case (.macro(let x), .macro(let y)): x === y
        case (.undefined(let x), .undefined(let y)): x === y
        default: false
        }
    }
}
