import Testing

@testable import Prompt

@Suite struct TemplateJSONTests {
    private func read(_ text: String) throws(TemplateError) -> TemplateValue { try TemplateValue(json: Array(text.utf8)) }

    @Test func readsEveryKindOfValue() throws {
        let value = try read(#" {"b": [1, -2, 3.0, 1e2, true, false, null, ""], "a": {"x": {}}, "b2": []} "#)
        let expected: TemplateValue = ["b": [1, -2, 3.0, 100.0, true, false, nil, ""], "a": ["x": [:]], "b2": []]
        #expect(value == expected)
        #expect(value.entries.map(\.0) == ["b", "a", "b2"])
    }

    @Test func aRepeatedKeyKeepsItsPlaceAndTakesTheLaterValue() throws {
        #expect(try read(#"{"a": 1, "b": 2, "a": 3}"#) == ["a": 3, "b": 2])
    }

    @Test func readsEscapes() throws {
        #expect(try read(#""\"\\\/\b\f\n\r\t\u00e9\u4e16\ud83d\ude00""#) == .string("\"\\/\u{8}\u{C}\n\r\té世😀"))
    }

    @Test func keysAreBytesNotCharacters() throws {
        let value = try read("{\"\u{E9}\": 1, \"e\u{301}\": 2}")
        #expect(value.entries.count == 2)
        #expect(value["\u{E9}"] == 1)
        #expect(value["e\u{301}"] == 2)
        #expect(TemplateValue.string("\u{E9}") != .string("e\u{301}"))
    }

    @Test(arguments: [
        "", " ", "{", "[", "[1", "[1,", "[1,]", "[,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "{1:2}", "tru", "nul",
        "01", "+1", "1.", ".5", "1e", "1e+", "-", "--1", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
        "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\n\"", "1 2", "[1] x", "'a'", "NaN", "Infinity", "9223372036854775808",
    ])
    func refusesDamagedText(text: String) {
        #expect { try read(text) } throws: { ($0 as? TemplateError)?.code == .json }
    }

    @Test func refusesBytesThatAreNoUTF8() {
        #expect { try TemplateValue(json: [0x22, 0xFF, 0x22]) } throws: { ($0 as? TemplateError)?.code == .json }
        #expect { try TemplateValue(json: [0x22, 0xED, 0xA0, 0x80, 0x22]) } throws: { ($0 as? TemplateError)?.code == .json }
    }

    @Test func nestingIsBounded() throws {
        let depth = TemplateLimits.standard.valueDepthMax
        _ = try read(String(repeating: "[", count: depth) + String(repeating: "]", count: depth))
        for open in ["[", "{\"a\":"] {
            #expect { try read(String(repeating: open, count: 1_000_000)) } throws: { ($0 as? TemplateError)?.code == .limit }
        }
    }

    @Test func writesWhatItReads() throws {
        for file in ["layouts.json", "snippets.json", "random.json"] {
            let value = try TemplateFixture.json(file)
            #expect(try TemplateValue(json: value.json) == value)
        }
        #expect(String(decoding: try read(#"{"a": [1, 2.5, null], "é": "\u0007/"}"#).json, as: UTF8.self) == #"{"a": [1, 2.5, null], "é": "\u0007/"}"#)
    }

    /// Seed printed; each text is a valid one with a few bytes changed, cut or doubled.
    @Test func damagedTextNeverTraps() throws {
        let seed: UInt64 = 0x5EED_1
        print("TemplateJSONTests seed \(seed)")
        var random = TemplateRandom(seed: seed)
        let whole = try TemplateFixture.json("snippets.json")["variables"]!.json
        for _ in 0..<5_000 {
            let start = Int.random(in: 0..<whole.count, using: &random)
            var bytes = Array(whole[start..<min(whole.count, start + 120)])
            if Bool.random(using: &random) { bytes = Array(whole.prefix(300)) }
            random.damage(&bytes)
            _ = try? TemplateValue(json: bytes)
        }
    }
}
