/// Typed look-ups in a JSON object that name the member in their errors. null is as good as absent: Python writes it for "not set".
struct HFMembers {
    let object: JSONObject
    /// For messages: "config.json", or a member of it.
    let file: String

    var keys: [String] { object.keys }
    /// Whether the member is there, be it null.
    func has(_ key: String) -> Bool { object[key] != nil }
    func isNull(_ key: String) -> Bool { object[key]?.isNull ?? true }

    func optionalInt(_ key: String) throws(ModelFileError) -> Int? {
        guard let value = value(key) else { return nil }
        // Python writes 4096.0 where somebody divided.
        guard let int = value.int ?? value.double.flatMap({ Int(exactly: $0) }) else { throw wrongType(key, value, "an integer") }
        return int
    }

    func optionalDouble(_ key: String) throws(ModelFileError) -> Double? {
        guard let value = value(key) else { return nil }
        guard let double = value.double else { throw wrongType(key, value, "a number") }
        return double
    }

    func optionalBool(_ key: String) throws(ModelFileError) -> Bool? {
        guard let value = value(key) else { return nil }
        guard let bool = value.bool else { throw wrongType(key, value, "true or false") }
        return bool
    }

    func optionalString(_ key: String) throws(ModelFileError) -> String? {
        guard let value = value(key) else { return nil }
        guard let string = value.string else { throw wrongType(key, value, "a text") }
        return string
    }

    func optionalStrings(_ key: String) throws(ModelFileError) -> [String]? {
        guard let value = value(key) else { return nil }
        let strings = value.array?.compactMap(\.string)
        guard let strings, strings.count == value.array?.count else { throw wrongType(key, value, "an array of texts") }
        return strings
    }

    func optionalFloats(_ key: String) throws(ModelFileError) -> [Float]? {
        guard let value = value(key) else { return nil }
        let numbers = value.array?.compactMap(\.double)
        guard let numbers, numbers.count == value.array?.count else { throw wrongType(key, value, "an array of numbers") }
        return numbers.map { Float($0) }
    }

    func optionalMembers(_ key: String) throws(ModelFileError) -> HFMembers? {
        guard let value = value(key) else { return nil }
        guard let object = value.object else { throw wrongType(key, value, "an object") }
        return HFMembers(object: object, file: "\(file): \(key)")
    }

    func int(_ key: String) throws(ModelFileError) -> Int {
        guard let value = try optionalInt(key) else { throw missing(key) }
        return value
    }

    func double(_ key: String) throws(ModelFileError) -> Double {
        guard let value = try optionalDouble(key) else { throw missing(key) }
        return value
    }

    func string(_ key: String) throws(ModelFileError) -> String {
        guard let value = try optionalString(key) else { throw missing(key) }
        return value
    }

    private func value(_ key: String) -> JSONValue? {
        guard let value = object[key], !value.isNull else { return nil }
        return value
    }

    // MARK: Errors

    func missing(_ key: String) -> ModelFileError {
        ModelFileError(.missingKey, "\(file) lacks the member '\(key)'. It is incomplete; fetch the model's folder again.")
    }

    func unsupported(_ key: String, _ what: String) -> ModelFileError {
        ModelFileError(.unsupportedFeature, "\(file): '\(key)' \(what). This version cannot serve the model.")
    }

    func contradiction(_ key: String, _ what: String) -> ModelFileError {
        ModelFileError(.contradiction, "\(file): '\(key)' \(what). The folder is damaged or was put together wrongly.")
    }

    private func wrongType(_ key: String, _ found: JSONValue, _ wanted: String) -> ModelFileError {
        ModelFileError(.wrongMetadataType, "\(file): '\(key)' should be \(wanted), but is \(found.kind). The folder is damaged; fetch it again.")
    }
}
