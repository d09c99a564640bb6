/// What a JSON text says, with the order of keys kept: the files of a Hugging Face folder, and, by other rules (`JSONRules`), what comes over HTTP.
package enum JSONValue: Sendable {
    case null
    case bool(Bool)
    /// A number without point and exponent.
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// nil for a number with a point.
    package var int: Int? { if case .int(let value) = self { value } else { nil } }
    /// Of either kind of number.
    package var double: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    package var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
    package var isNull: Bool { if case .null = self { true } else { false } }

    /// What kind of value it is, for messages.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .int(let value): "the integer \(value)"
        case .double(let value): "the number \(value)"
        case .string(let value): value.utf8.count <= 64 ? "'\(value)'" : "a text of \(value.utf8.count) bytes"
        case .array(let values): "an array of \(values.count)"
        case .object(let object): "an object of \(object.members.count) members"
        }
    }

    /// Reads one JSON text by the rules of model files. Throws `invalidJSON`, `duplicateKey`, `nestedTooDeep` or `limitExceeded`, with the byte
    /// where it stopped; `name` stands for the file.
    package init(json: UnsafeRawBufferPointer, name: String) throws(ModelFileError) {
        do throws(JSONFault) {
            self = try JSONReader.value(of: json, .modelFiles)
        } catch {
            throw error.inModelFile(name)
        }
    }

    package init(json: [UInt8], name: String) throws(ModelFileError) {
        let storage = FileBytes(copying: json, name: name)
        self = try JSONValue(json: storage.bytes, name: name)
        withExtendedLifetime(storage) {}
    }
}

/// Keys and values in the order of the text; no key appears twice. Keys are compared by their bytes: Swift's `==` takes é and e with a combining
/// accent for equal, a vocabulary does not.
package struct JSONObject: Sendable {
    package internal(set) var members: [(key: String, value: JSONValue)] = []

    package init() {}

    package init(_ members: [(key: String, value: JSONValue)]) { self.members = members }

    package var keys: [String] { members.map(\.key) }

    package subscript(_ key: String) -> JSONValue? {
        members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }
}

extension JSONFault {
    fileprivate func inModelFile(_ name: String) -> ModelFileError {
        switch kind {
        case .damaged: ModelFileError(.invalidJSON, "\(name) is not JSON: at byte \(at) \(found). The file is damaged; fetch it again.")
        case .tooDeep: ModelFileError(.nestedTooDeep, "\(name) \(found). The file is damaged; fetch it again.")
        case .tooMany: ModelFileError(.limitExceeded, "\(name) \(found). The file is damaged or no model's; fetch it again.")
        case .repeatedKey: ModelFileError(.duplicateKey, "\(name): \(found). The file is damaged; fetch it again.")
        }
    }
}
