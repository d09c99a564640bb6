import Testing

@testable import Prompt

/// Templates are untrusted: whatever their text, reading and rendering end in text or in a `TemplateError`.
@Suite struct TemplateMutationTests {
    private static let limits = {
        var limits = TemplateLimits()
        limits.stepsMax = 20_000
        limits.loopTurnsMax = 2_000
        limits.textBytesMax = 1 << 20
        limits.outputBytesMax = 1 << 18
        return limits
    }()

    private func sources() throws -> [[UInt8]] {
        var sources: [[UInt8]] = []
        for name in ["chatml", "qwen25", "llama31", "mistral-v3", "granite30", "phi3", "smollm2", "parts"] {
            sources.append(Array(try TemplateFixture.text("\(name).jinja").utf8))
        }
        for file in ["snippets.json", "random.json"] {
            for snippet in try TemplateFixture.json(file)["cases"]?.items ?? [] { sources.append(Array(snippet["source"]!.string!.utf8)) }
        }
        return sources
    }

    private func variables() throws -> [(String, TemplateValue)] {
        let golden = try TemplateFixture.json("layouts.json")
        let messages = golden["conversations"]!["tool-answered"]!
        return try TemplateFixture.json("snippets.json")["variables"]!.entries
            + [("messages", messages), ("tools", golden["tools"]!), ("add_generation_prompt", true), ("bos_token", "<s>"), ("eos_token", "</s>")]
    }

    /// Whether the template could be read and rendered. The output never passes its limit.
    private func survives(_ source: [UInt8], _ variables: [(String, TemplateValue)]) -> Bool {
        do {
            let template = try ChatTemplate(source: String(decoding: source, as: UTF8.self), limits: Self.limits)
            let text = try template.render(variables: variables, now: TemplateFixture.clock)
            #expect(text.utf8.count <= Self.limits.outputBytesMax)
            return true
        } catch {
            #expect(!error.message.isEmpty || error.code == .raised)
            return false
        }
    }

    @Test func damagedTemplatesNeverTrapOrHang() throws {
        let seed: UInt64 = 0x5EED_2
        print("TemplateMutationTests seed \(seed)")
        var random = TemplateRandom(seed: seed)
        let sources = try sources()
        let variables = try variables()
        var rendered = 0
        for _ in 0..<8_000 {
            var source = sources.randomElement(using: &random)!
            random.damage(&source)
            if survives(source, variables) { rendered += 1 }
        }
        // Damage that always broke the template would test only the parser, damage that never did nothing at all.
        #expect(rendered > 800 && rendered < 7_200, "\(rendered) of 8000 rendered")
    }

    private static let words = [
        "{%", "%}", "{{", "}}", "{#", "#}", "{%-", "-%}", "{%+", "{{-", "-}}", "if", "elif", "else", "endif", "for", "in", "endfor",
        "set", "endset", "macro", "endmacro", "call", "endcall", "filter", "endfilter", "with", "endwith", "raw", "endraw", "break",
        "continue", "generation", "endgeneration", "recursive", "not", "and", "or", "is", "x", "y", "l", "d", "s", "n", "loop",
        "loop.index", "loop(", "namespace(", "ns", ".a", "range(", "range(999)", "m(", "caller()", "(", ")", "[", "]", "{", "}", "|",
        ",", ":", "::", "=", "==", "<", "+", "-", "*", "**", "/", "//", "%", "~", ".", "1", "9223372036854775807", "-1", "0", "2.5",
        "1e308", "'a'", "\"b\"", "'", "\"", "\\", "none", "true", "tojson", "join", "map('upper')", "sort", "upper", "length", "list",
        "replace('', 'aa')", "indent(9)", "batch(2)", "format(1)", "round(2)", "int", "defined", "eq", "odd", " ", "\n", "é", "\u{2028}",
        "'%999d'", "'{:999}'", ".split()", ".strip('a')", ".items()", ".format(", ".center(999)", "raise_exception(", "strftime_now('%c')",
    ]

    @Test func tokenSoupNeverTrapsOrHangs() throws {
        let seed: UInt64 = 0x5EED_3
        print("TemplateMutationTests seed \(seed)")
        var random = TemplateRandom(seed: seed)
        let variables = try variables()
        for _ in 0..<6_000 {
            var source = ""
            let isTag = Bool.random(using: &random)
            if isTag { source = "{{ " }
            for _ in 0..<Int.random(in: 1...14, using: &random) {
                source += Self.words.randomElement(using: &random)! + (Bool.random(using: &random) ? " " : "")
            }
            if isTag { source += " }}" }
            _ = survives(Array(source.utf8), variables)
        }
    }
}
