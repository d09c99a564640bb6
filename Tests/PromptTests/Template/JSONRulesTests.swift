import ModelFiles
import Testing

@testable import Prompt

/// One reader of JSON by two sets of rules: those of model files, which Python writes, and those of requests.
@Suite struct JSONRulesTests {
    private func file(_ text: String) -> Result<JSONValue, ModelFileError> {
        Result { () throws(ModelFileError) in try JSONValue(json: Array(text.utf8), name: "x.json") }
    }

    private func request(_ text: String) -> Result<TemplateValue, TemplateError> {
        Result { () throws(TemplateError) in try TemplateValue(json: Array(text.utf8)) }
    }

    @Test func integersAreExact() throws {
        for number in [Int.min, -1, 0, 9_007_199_254_740_993, Int.max] {
            #expect(try file("\(number)").get().int == number && request("\(number)").get() == .int(number))
        }
        #expect(try file("9223372036854775808").get().double == 0x1p63 && file("9223372036854775808").get().int == nil)
        #expect(throws: TemplateError.self) { try request("9223372036854775808").get() }
        #expect(try file("1e3").get().int == nil && request("1e3").get() == .double(1000))
    }

    @Test(arguments: ["NaN", "Infinity", "-Infinity"]) func pythonsNumbersAreForFiles(word: String) throws {
        #expect(try file(word).get().double?.isFinite == false)
        #expect(throws: TemplateError.self) { try request(word).get() }
    }

    @Test func repeatedKeys() throws {
        let text = #"{"b": 1, "a": {"x": 1, "x": 2}, "b": 3, "c": 4, "b": 5}"#
        #expect(try request(text).get() == ["b": 5, "a": ["x": 2], "c": 4])
        guard case .failure(let error) = file(text) else { throw TestFailure() }
        #expect(error.code == .duplicateKey && error.message.contains("'x'"))
        #expect(try file("{\"\u{E9}\": 1, \"e\u{301}\": 2}").get().object?.members.count == 2)
    }

    @Test func membersKeepTheirOrder() throws {
        let keys = (0..<500).map { "k\(($0 * 37) % 500)" }
        let text = "{" + keys.map { "\"\($0)\": 0" }.joined(separator: ",") + "}"
        #expect(try file(text).get().object?.keys == keys)
        guard case .object(let object) = try request(text).get() else { throw TestFailure() }
        #expect(object.entries.map(\.key) == keys)
    }

    @Test func depthAndCountAreBounded() throws {
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        #expect(throws: Never.self) { try file(nested(96)).get() }
        guard case .failure(let error) = file(nested(97)) else { throw TestFailure() }
        #expect(error.code == .nestedTooDeep && error.message == "x.json nests more than 96 JSON arrays and objects. The file is damaged; fetch it again.")
        guard case .failure(let deep) = request(nested(97)) else { throw TestFailure() }
        #expect(deep.code == .limit && deep.message.contains("96"))
        var rules = JSONRules(depthMax: 4)
        rules.valuesMax = 3
        for (text, isTaken) in [("[1,2]", true), ("[1,2,3]", false), (#"{"a":1,"b":{}}"#, true), (#"{"a":1,"b":{"c":0}}"#, false)] {
            let isRead = Array(text.utf8).withUnsafeBytes { text in (try? JSONReader.value(of: text, rules)) != nil }
            #expect(isRead == isTaken, "\(text)")
        }
    }

    /// What both take means the same; files take whatever requests take, but for keys that are repeated.
    @Test func bothReadTheSame() throws {
        let seed: UInt64 = 0x15_0A
        print("JSONRulesTests seed \(seed)")
        var random = TemplateRandom(seed: seed)
        let whole = try TemplateFixture.json("snippets.json")["variables"]!.json
        for _ in 0..<1_500 {
            var bytes = Array(whole.prefix(400))
            random.damage(&bytes)
            let (file, request) = (try? JSONValue(json: bytes, name: "x"), try? TemplateValue(json: bytes))
            if let request, let file { #expect(Self.same(file, request)) }
        }
    }

    private static func same(_ a: JSONValue, _ b: TemplateValue) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.int(let a), .int(let b)): a == b
        case (.double(let a), .double(let b)): a == b
        case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
        case (.array(let a), .array(let b)): a.count == b.count && zip(a, b).allSatisfy(same)
        case (.object(let a), .object(let b)):
            a.members.count == b.entries.count && zip(a.members, b.entries).allSatisfy { $0.key == $1.key && same($0.value, $1.value) }
        default: false
        }
    }

    private struct TestFailure: Error {}
}
