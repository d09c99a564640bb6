import Prompt

/// Typed access to the members of one JSON object; every refusal names the member at fault. `null` counts as absent.
struct Fields {
    let object: TemplateObject
    /// Stands before member names in errors: empty, or such as `messages[2].`.
    let prefix: String

    init(_ object: TemplateObject, prefix: String = "") {
        self.object = object
        self.prefix = prefix
    }

    /// The object that `value` has to be; `path` names it.
    init(_ value: TemplateValue, path: String) throws(APIError) {
        guard case .object(let object) = value else {
            throw .wrongType(path, wanted: "an object", found: value.kindForPeople)
        }
        self.init(object, prefix: path + ".")
    }

    func path(_ key: String) -> String { prefix + key }

    /// `nil` for absent and `null`.
    func value(_ key: String) -> TemplateValue? {
        switch object[key] {
        case nil, .null?, .undefined?: nil
        case let value?: value
        }
    }

    func string(_ key: String) throws(APIError) -> String? {
        guard let value = value(key) else { return nil }
        guard case .string(let string) = value else { throw wrongType(key, "a string", value) }
        return string
    }

    func bool(_ key: String, default fallback: Bool = false) throws(APIError) -> Bool {
        guard let value = value(key) else { return fallback }
        guard case .bool(let flag) = value else { throw wrongType(key, "true or false", value) }
        return flag
    }

    /// Numbers without a fraction count as integers, however they are written.
    func int(_ key: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = value(key) else { return nil }
        guard let number = value.asInt else { throw wrongType(key, "an integer", value) }
        guard range.contains(number) else { throw outOfRange(key, "\(range.lowerBound)...\(range.upperBound)", "\(number)") }
        return number
    }

    func float(_ key: String, in range: ClosedRange<Double>) throws(APIError) -> Float? {
        guard let number = try number(key) else { return nil }
        guard range.contains(number) else { throw outOfRange(key, "\(range.lowerBound)...\(range.upperBound)", "\(number)") }
        return Float(number)
    }

    /// In (0, `upper`]. What is too small for a `Float` is out of range too.
    func float(_ key: String, above0UpTo upper: Double) throws(APIError) -> Float? {
        guard let number = try number(key) else { return nil }
        guard Float(number) > 0, number <= upper else { throw outOfRange(key, "more than 0 and at most \(upper)", "\(number)") }
        return Float(number)
    }

    func array(_ key: String, max: Int) throws(APIError) -> [TemplateValue]? {
        guard let value = value(key) else { return nil }
        guard case .array(let items) = value else { throw wrongType(key, "an array", value) }
        guard items.count <= max else {
            throw .invalid(path(key), "'\(path(key))' has \(items.count) entries, but at most \(max) are taken.", code: "array_too_long")
        }
        return items
    }

    func object(_ key: String) throws(APIError) -> TemplateObject? {
        guard let value = value(key) else { return nil }
        guard case .object(let object) = value else { throw wrongType(key, "an object", value) }
        return object
    }

    /// Refuses a member that would change the answer if it were obeyed.
    func refuse(_ key: String, _ message: String) throws(APIError) {
        if value(key) != nil { throw .unsupported(path(key), message) }
    }

    func wrongType(_ key: String, _ wanted: String, _ found: TemplateValue) -> APIError {
        .wrongType(path(key), wanted: wanted, found: found.kindForPeople)
    }

    private func number(_ key: String) throws(APIError) -> Double? {
        guard let value = value(key) else { return nil }
        switch value {
        case .int(let number): return Double(number)
        case .double(let number): return number
        default: throw wrongType(key, "a number", value)
        }
    }

    private func outOfRange(_ key: String, _ range: String, _ found: String) -> APIError {
        .invalid(path(key), "'\(path(key))' must be \(range), but is \(found).", code: "out_of_range")
    }
}

extension TemplateValue {
    /// The number, if it is one without a fraction.
    var asInt: Int? {
        switch self {
        case .int(let number): number
        case .double(let number): Int(exactly: number)
        default: nil
        }
    }

    /// What a person calls this kind of value.
    var kindForPeople: String {
        switch self {
        case .undefined, .null: "null"
        case .bool: "a boolean"
        case .int: "an integer"
        case .double: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}
