import Testing

@testable import Prompt

@Suite struct TemplateErrorTests {
    private func failure(_ source: String) -> TemplateError? {
        do {
            let template = try ChatTemplate(source: source)
            _ = try template.render(
                messages: [], tools: nil, documents: nil, addGenerationPrompt: false, bosToken: "", eosToken: "", extra: [],
                now: TemplateFixture.clock)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        ("a\n  {{ 1 $ }}", TemplateError.Code.syntax, 2, 8),
        ("{% if x %}\n{% endfor %}", .syntax, 2, 4),
        ("é{{ 'x }}", .syntax, 1, 6),
        ("\r\n\r\n{% nope %}", .syntax, 3, 4),
        ("a\n{{ x.y }}", .undefined, 2, 1),
        ("a\n\n b{% for i in 5 %}{% endfor %}", .evaluation, 3, 6),
        ("{{ 1 }}\n{{ raise_exception('no') }}", .raised, 2, 1),
        ("{{ 'a'|frobnicate }}", .unsupported, 1, 1),
        ("\n{% include 'x' %}", .unsupported, 2, 4),
    ])
    func aFailureSaysWhere(source: String, code: TemplateError.Code, line: Int, column: Int) throws {
        let error = try #require(failure(source))
        #expect(error.code == code)
        #expect(error.position == TemplateError.Position(line: line, column: column), "\(error)")
    }

    @Test func aRefusalKeepsTheTemplatesWords() {
        #expect(failure("{{ raise_exception('Roles must alternate: ü') }}")?.message == "Roles must alternate: ü")
    }

    @Test func toolsAndDocumentsAreNoneUnlessGiven() throws {
        let template = try ChatTemplate(source: "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ extra }} {{ bos_token }}{{ eos_token }}")
        let text = try template.render(
            messages: [], tools: nil, documents: ["d"], addGenerationPrompt: true, bosToken: "<s>", eosToken: "</s>",
            extra: [("extra", 1), ("eos_token", "mine")], now: TemplateFixture.clock)
        #expect(text == "True False True 1 <s>mine")
    }

    @Test func oneTemplateRendersManyTimesTheSame() throws {
        let template = try ChatTemplate(source: try TemplateFixture.text("mistral-v3.jinja"))
        let messages = try #require(try TemplateFixture.json("layouts.json")["conversations"]?["tool-answered"])
        func render() throws -> String {
            try template.render(
                messages: messages, tools: nil, documents: nil, addGenerationPrompt: true, bosToken: "<s>", eosToken: "</s>", extra: [],
                now: TemplateFixture.clock)
        }
        let first = try render()
        for _ in 0..<20 { #expect(try render() == first) }
    }

    @Test func theCalendarEqualsPythons() throws {
        let golden = try TemplateFixture.json("moments.json")
        let format = try #require(golden["format"])
        let template = try ChatTemplate(source: "{{ strftime_now(format) }}")
        #expect(golden["cases"]!.items.count >= 100)
        for moment in golden["cases"]!.items {
            guard case .int(let seconds)? = moment["seconds"] else { Issue.record("no seconds"); continue }
            // The same moment, told from places on both sides of UTC.
            for offset in [0, 3600 * 5 + 1800, -3600 * 9] {
                let clock = TemplateClock(secondsSinceEpoch: seconds - offset, utcOffsetSeconds: offset)
                #expect(try template.render(variables: [("format", format)], now: clock) == moment["text"]?.string)
            }
        }
        for seconds in [Int.min, Int.max] {
            let clock = TemplateClock(secondsSinceEpoch: seconds, utcOffsetSeconds: seconds)
            #expect(try !template.render(variables: [("format", format)], now: clock).isEmpty)
        }
    }
}
