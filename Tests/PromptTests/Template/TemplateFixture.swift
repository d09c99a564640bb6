import Foundation
import Testing

@testable import Prompt

/// The golden files that `ops/golden/make-templates.py` writes.
enum TemplateFixture {
    /// The moment of the golden files: Friday, 26 July 2024, 09:05:03, at a place two hours east of UTC.
    static let clock = TemplateClock(secondsSinceEpoch: 1_721_977_503, utcOffsetSeconds: 7200)

    static func text(_ name: String) throws -> String {
        String(decoding: try bytes(name), as: UTF8.self)
    }

    static func json(_ name: String) throws -> TemplateValue {
        try TemplateValue(json: try bytes(name))
    }

    private static func bytes(_ name: String) throws -> [UInt8] {
        let file = try #require(Bundle.module.resourceURL).appendingPathComponent("Fixtures/templates/\(name)")
        return Array(try Data(contentsOf: file))
    }

    /// What a rendering came to, in the words of the golden files.
    enum Outcome: Equatable, CustomStringConvertible {
        case text([UInt8])
        case error(code: String, message: String?)

        init(_ golden: TemplateValue) {
            if let text = golden["text"]?.string {
                self = .text(Array(text.utf8))
            } else {
                self = .error(code: golden["error"]?.string ?? "", message: golden["message"]?.string)
            }
        }

        init(_ render: () throws(TemplateError) -> String) {
            do {
                self = .text(Array(try render().utf8))
            } catch {
                self = .error(code: error.code.rawValue, message: error.code == .raised ? error.message : nil)
            }
        }

        var description: String {
            switch self {
            case .text(let bytes): String(decoding: bytes, as: UTF8.self).debugDescription
            case .error(let code, let message): "\(code) \(message ?? "")"
            }
        }
    }
}

// Reading golden values.
extension TemplateValue {
    subscript(key: String) -> TemplateValue? {
        if case .object(let object) = self { return object[key] }
        return nil
    }

    var string: String? {
        if case .string(let text) = self { return text }
        return nil
    }

    var items: [TemplateValue] {
        if case .array(let items) = self { return items }
        return []
    }

    var entries: [(String, TemplateValue)] {
        if case .object(let object) = self { return object.entries.map { ($0.key, $0.value) } }
        return []
    }
}
