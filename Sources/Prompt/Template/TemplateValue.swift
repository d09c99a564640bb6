/// A value handed to a template: what JSON can say, with the order of keys kept, because templates print objects.
package indirect enum TemplateValue: Sendable {
    /// Not given: prints nothing, tests as false and as not `defined`.
    case undefined
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([TemplateValue])
    case object(TemplateObject)
}

/// String keys and values in the order of their first appearance; a key given twice keeps its place and takes the
/// later value, as Python's dict does.
package struct TemplateObject: Sendable {
    package private(set) var entries: [(key: String, value: TemplateValue)] = []

    package init() {}

    package init(_ entries: [(String, TemplateValue)]) {
        var places: [[UInt8]: Int] = [:]
        for (key, value) in entries { append(key, value, &places) }
    }

    /// Of keys that are distinct already.
    init(distinct entries: [(key: String, value: TemplateValue)]) { self.entries = entries }

    package subscript(key: String) -> TemplateValue? {
        get { entries.first { sameBytes($0.key, key) }?.value }
        set {
            let place = entries.firstIndex { sameBytes($0.key, key) }
            switch (place, newValue) {
            case (let place?, let value?): entries[place].value = value
            case (let place?, nil): entries.remove(at: place)
            case (nil, let value?): entries.append((key, value))
            case (nil, nil): break
            }
        }
    }

    /// Appends in constant time; `places` remembers the keys so far while an object is being built.
    mutating func append(_ key: String, _ value: TemplateValue, _ places: inout [[UInt8]: Int]) {
        let bytes = Array(key.utf8)
        if let place = places[bytes] {
            entries[place].value = value
        } else {
            places[bytes] = entries.count
            entries.append((key, value))
        }
    }
}

/// Swift's `==` takes é and e + combining accent for equal; Python, JSON and tokenizers do not.
private func sameBytes(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

extension TemplateValue: Equatable {
    package static func == (a: TemplateValue, b: TemplateValue) -> Bool {
        switch (a, b) {
        case (.undefined, .undefined), (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.int(let a), .int(let b)): a == b
        case (.double(let a), .double(let b)): a == b
        case (.string(let a), .string(let b)): sameBytes(a, b)
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)): a == b
        default: false
        }
    }
}

extension TemplateObject: Equatable {
    /// Equal keys, values and order: two objects that print differently are not equal.
    package static func == (a: TemplateObject, b: TemplateObject) -> Bool {
        a.entries.count == b.entries.count
            && zip(a.entries, b.entries).allSatisfy { sameBytes($0.key, $1.key) && $0.value == $1.value }
    }
}

extension TemplateValue: ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral,
    ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(arrayLiteral elements: TemplateValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, TemplateValue)...) { self = .object(TemplateObject(elements)) }
    package init(integerLiteral value: Int) { self = .int(value) }
    package init(floatLiteral value: Double) { self = .double(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
}
