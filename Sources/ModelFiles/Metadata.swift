/// The key-value section of a GGUF file, in file order, every value in the type that the file gives it.
///
/// The typed getters return nil where the key is absent and throw where it holds another type, so that a caller
/// can neither mistake a damaged value for a missing one nor read a number with the wrong sign.
package struct Metadata: Sendable {
    package private(set) var keys: [String] = []
    private var values: [String: MetadataValue] = [:]

    /// Metadata from nothing, for a writer or a test.
    package init() {}

    /// Metadata from the head of a GGUF file (`GGUFFile.headerBytes`): magic, version, counts and all pairs; what
    /// follows the pairs is not looked at. This is how a process without the model file learns its vocabulary.
    package init(ggufHeaderBytes bytes: [UInt8]) throws(ModelFileError) {
        let storage = FileBytes(copying: bytes, name: "the header bytes")
        self = try Metadata(ggufHeaderBytes: storage.bytes, name: storage.name)
        withExtendedLifetime(storage) {}
    }

    /// The same from memory that outlives the call; `name` stands for the file in error messages.
    package init(
        ggufHeaderBytes bytes: UnsafeRawBufferPointer, name: String = "the header bytes"
    ) throws(ModelFileError) {
        var reader = ByteReader(bytes: bytes, name: name)
        let head = try GGUFHeaderReader.readHead(&reader)
        self = try GGUFHeaderReader.readMetadata(&reader, count: head.metadataCount)
    }

    package subscript(_ key: String) -> MetadataValue? { values[key] }

    /// Adds a pair at the end, or replaces the value of a key that is there.
    package mutating func set(_ key: String, _ value: MetadataValue) {
        if values.updateValue(value, forKey: key) == nil { keys.append(key) }
    }

    package mutating func remove(_ key: String) {
        if values.removeValue(forKey: key) != nil { keys.removeAll { $0 == key } }
    }

    // MARK: Typed getters

    package func string(_ key: String) throws(ModelFileError) -> String? {
        guard let value = values[key] else { return nil }
        guard case .string(let string) = value else { throw wrongType(key, value, wanted: "a string") }
        return string
    }

    /// Any of the integer types.
    package func int(_ key: String) throws(ModelFileError) -> Int? {
        guard let value = values[key] else { return nil }
        switch value {
        case .uint8(let number): return Int(number)
        case .int8(let number): return Int(number)
        case .uint16(let number): return Int(number)
        case .int16(let number): return Int(number)
        case .uint32(let number): return Int(number)
        case .int32(let number): return Int(number)
        case .int64(let number): return Int(number)
        case .uint64(let number):
            guard let exact = Int(exactly: number) else { throw tooLarge(key, number) }
            return exact
        default: throw wrongType(key, value, wanted: "an integer")
        }
    }

    /// Either of the float types; a float32 is widened exactly.
    package func double(_ key: String) throws(ModelFileError) -> Double? {
        guard let value = values[key] else { return nil }
        switch value {
        case .float32(let number): return Double(number)
        case .float64(let number): return number
        default: throw wrongType(key, value, wanted: "a floating-point number")
        }
    }

    package func bool(_ key: String) throws(ModelFileError) -> Bool? {
        guard let value = values[key] else { return nil }
        guard case .bool(let flag) = value else { throw wrongType(key, value, wanted: "a bool") }
        return flag
    }

    /// An array of strings as it is stored: byte-exact and without an allocation for each.
    package func stringArray(_ key: String) throws(ModelFileError) -> StringArray? {
        guard let value = values[key] else { return nil }
        guard case .array(.string(let strings)) = value else { throw wrongType(key, value, wanted: "an array of strings") }
        return strings
    }

    package func strings(_ key: String) throws(ModelFileError) -> [String]? {
        guard let strings = try stringArray(key) else { return nil }
        return Array(strings)
    }

    /// An array of any of the integer types.
    package func ints(_ key: String) throws(ModelFileError) -> [Int]? {
        guard let value = values[key] else { return nil }
        guard case .array(let array) = value else { throw wrongType(key, value, wanted: "an array of integers") }
        switch array {
        case .uint8(let numbers): return numbers.map { Int($0) }
        case .int8(let numbers): return numbers.map { Int($0) }
        case .uint16(let numbers): return numbers.map { Int($0) }
        case .int16(let numbers): return numbers.map { Int($0) }
        case .uint32(let numbers): return numbers.map { Int($0) }
        case .int32(let numbers): return numbers.map { Int($0) }
        case .int64(let numbers): return numbers.map { Int($0) }
        case .uint64(let numbers):
            if let large = numbers.first(where: { Int(exactly: $0) == nil }) { throw tooLarge(key, large) }
            return numbers.map { Int($0) }
        default: throw wrongType(key, value, wanted: "an array of integers")
        }
    }

    /// An array of either of the float types.
    package func doubles(_ key: String) throws(ModelFileError) -> [Double]? {
        guard let value = values[key] else { return nil }
        switch value {
        case .array(.float32(let numbers)): return numbers.map { Double($0) }
        case .array(.float64(let numbers)): return numbers
        default: throw wrongType(key, value, wanted: "an array of floating-point numbers")
        }
    }

    // MARK: Errors

    private func wrongType(_ key: String, _ value: MetadataValue, wanted: String) -> ModelFileError {
        let found: String
        if case .array(let array) = value {
            found = "an array of \(array.count) × \(array.elementType)"
        } else {
            found = "\(value.type)"
        }
        return ModelFileError(
            .wrongMetadataType,
            "The metadata key '\(key)' should hold \(wanted), but holds \(found). Convert the model again with a current converter."
        )
    }

    private func tooLarge(_ key: String, _ number: UInt64) -> ModelFileError {
        ModelFileError(
            .invalidValue,
            "The metadata key '\(key)' holds \(number), more than any count can be. The file is damaged; fetch it again."
        )
    }
}
