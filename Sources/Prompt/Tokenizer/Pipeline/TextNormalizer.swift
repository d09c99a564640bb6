import Foundation
import ModelFiles

/// What is done to a text before it is cut: the normalizers of `tokenizer.json`, in order.
struct TextNormalizer: Sendable {
    enum Step: Sendable {
        case form(NormalizationForm)
        case prepend([UInt8])
        case replace([UInt8], with: [UInt8])
        case replacePattern(SearchPattern, with: [UInt8])
        case lowercase
        case strip(left: Bool, right: Bool)
        /// The control and space characters of neural machine translation's own cleaning.
        case nmt
        case precompiled(PrecompiledMap)
    }

    enum NormalizationForm: Sendable { case nfc, nfd, nfkc, nfkd }

    private(set) var steps: [Step] = []

    init() {}

    init(json: JSONValue) throws(PromptError) { try add(json) }

    var isEmpty: Bool { steps.isEmpty }

    private mutating func add(_ value: JSONValue) throws(PromptError) {
        guard !value.isNull else { return }
        let (type, object) = try TokenizerJSON.part(value, "normalizer")
        func flag(_ key: String) throws(PromptError) -> Bool {
            guard let flag = object[key]?.bool else { throw TokenizerJSON.invalid("has a normalizer \(type) without '\(key)'") }
            return flag
        }
        switch type {
        case "Sequence":
            guard let list = object["normalizers"]?.array else { throw TokenizerJSON.invalid("has a sequence of normalizers without a list") }
            for entry in list { try add(entry) }
        case "NFC": steps.append(.form(.nfc))
        case "NFD": steps.append(.form(.nfd))
        case "NFKC": steps.append(.form(.nfkc))
        case "NFKD": steps.append(.form(.nfkd))
        case "Lowercase": steps.append(.lowercase)
        case "Strip": steps.append(.strip(left: try flag("strip_left"), right: try flag("strip_right")))
        case "Nmt": steps.append(.nmt)
        case "Prepend":
            guard let text = object["prepend"]?.string else { throw TokenizerJSON.invalid("has a Prepend without 'prepend'") }
            steps.append(.prepend(Array(text.utf8)))
        case "Replace": try addReplace(object)
        case "Precompiled":
            guard let text = object["precompiled_charsmap"]?.string, let data = Data(base64Encoded: text) else {
                throw TokenizerJSON.invalid("has a Precompiled normalizer without a character map")
            }
            steps.append(.precompiled(try PrecompiledMap(Array(data))))
        default: throw TokenizerJSON.unsupported("has a normalizer of the type '\(type)'")
        }
    }

    private mutating func addReplace(_ object: JSONObject) throws(PromptError) {
        guard let content = object["content"]?.string, let pattern = object["pattern"]?.object else {
            throw TokenizerJSON.invalid("has a Replace without 'pattern' or 'content'")
        }
        if let text = pattern["String"]?.string {
            steps.append(.replace(Array(text.utf8), with: Array(content.utf8)))
        } else if let expression = pattern["Regex"]?.string {
            steps.append(.replacePattern(try SearchPattern(expression: expression), with: Array(content.utf8)))
        } else {
            throw TokenizerJSON.invalid("has a Replace whose pattern is neither a text nor an expression")
        }
    }

    /// - Parameters:
    ///   - text: valid UTF-8.
    ///   - isContinued: whether it goes on after bytes that are not UTF-8, so that nothing belongs in front of it.
    func normalized(_ text: [UInt8], isContinued: Bool = false) -> [UInt8] {
        steps.reduce(text) { text, step in
            if isContinued, case .prepend = step { return text }
            return step.applied(to: text)
        }
    }
}

extension TextNormalizer.Step {
    func applied(to text: [UInt8]) -> [UInt8] {
        switch self {
        case .form(let form): return form.applied(to: text)
        case .prepend(let prefix): return text.isEmpty ? text : prefix + text
        case .replace(let old, let new): return Self.replacing(old, with: new, in: text)
        case .replacePattern(let pattern, let new): return Self.replacing(pattern, with: new, in: text)
        case .lowercase: return Self.mapped(text) { $0.properties.lowercaseMapping.utf8 }
        case .strip(let left, let right): return Self.stripped(text, left: left, right: right)
        case .nmt: return Self.mapped(text, Self.nmt)
        case .precompiled(let map): return map.normalizedByCluster(text)
        }
    }

    private static func replacing(_ old: [UInt8], with new: [UInt8], in text: [UInt8]) -> [UInt8] {
        guard let first = old.first else { return text }
        var result: [UInt8] = []
        result.reserveCapacity(text.count + 16)
        var index = 0
        while index < text.count {
            if text[index] == first, text.count - index >= old.count, text[index..<index + old.count].elementsEqual(old) {
                result += new
                index += old.count
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }

    private static func replacing(_ pattern: SearchPattern, with new: [UInt8], in text: [UInt8]) -> [UInt8] {
        text.withUnsafeBufferPointer { text in
            var result: [UInt8] = []
            var done = 0
            for match in pattern.matches(in: text) {
                result += text[done..<match.lowerBound]
                result += new
                done = match.upperBound
            }
            return result + text[done...]
        }
    }

    /// Each character by itself, as the reference maps them.
    private static func mapped(_ text: [UInt8], _ map: (Unicode.Scalar) -> String.UTF8View) -> [UInt8] {
        String(decoding: text, as: UTF8.self).unicodeScalars.flatMap(map)
    }

    private static func stripped(_ text: [UInt8], left: Bool, right: Bool) -> [UInt8] {
        let scalars = String(decoding: text, as: UTF8.self).unicodeScalars
        var kept = scalars[...]
        if left { kept = kept.drop { $0.properties.isWhitespace } }
        if right { while let last = kept.last, last.properties.isWhitespace { kept.removeLast() } }
        return Array(String(Substring(kept)).utf8)
    }

    private static func nmt(_ scalar: Unicode.Scalar) -> String.UTF8View {
        switch scalar.value {
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: "".utf8
        case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: " ".utf8
        default: String(scalar).utf8
        }
    }
}

extension TextNormalizer.NormalizationForm {
    func applied(to text: [UInt8]) -> [UInt8] {
        // ASCII is in every form.
        if text.allSatisfy({ $0 < 0x80 }) { return text }
        let string = String(decoding: text, as: UTF8.self)
        let result: String
        switch self {
        case .nfc: result = string.precomposedStringWithCanonicalMapping
        case .nfd: result = string.decomposedStringWithCanonicalMapping
        case .nfkc: result = string.precomposedStringWithCompatibilityMapping
        case .nfkd: result = string.decomposedStringWithCompatibilityMapping
        }
        return Array(result.utf8)
    }
}
