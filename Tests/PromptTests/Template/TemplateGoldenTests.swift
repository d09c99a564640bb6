import Testing

@testable import Prompt

/// Equality with Python's jinja2, byte for byte.
@Suite struct TemplateGoldenTests {
    @Test(arguments: ["chatml", "qwen25", "llama31", "mistral-v3", "mistral-nemo", "granite30", "phi3", "smollm2", "parts"])
    func layoutsEqualJinja2(layout: String) throws {
        let golden = try TemplateFixture.json("layouts.json")
        let template = try ChatTemplate(source: try TemplateFixture.text("\(layout).jinja"))
        let cases = (golden["cases"]?.items ?? []).filter { $0["layout"]?.string == layout }
        #expect(cases.count >= 25)
        for expected in cases {
            let conversation = try #require(expected["conversation"]?.string)
            let messages = try #require(golden["conversations"]?[conversation])
            let found = TemplateFixture.Outcome { () throws(TemplateError) in
                try template.render(
                    messages: messages, tools: expected["tools"] == true ? golden["tools"] : nil, documents: nil,
                    addGenerationPrompt: expected["prompt"] == true, bosToken: "<s>", eosToken: "</s>",
                    extra: expected["extra"]?.entries ?? [], now: TemplateFixture.clock)
            }
            #expect(found == TemplateFixture.Outcome(expected), "\(layout), \(conversation)")
        }
    }

    @Test(arguments: [("snippets.json", 400), ("random.json", 600)])
    func snippetsEqualJinja2(file: String, casesMin: Int) throws {
        let golden = try TemplateFixture.json(file)
        let variables = try #require(golden["variables"]?.entries)
        let cases = golden["cases"]?.items ?? []
        #expect(cases.count >= casesMin)
        for expected in cases {
            let source = try #require(expected["source"]?.string)
            let found = TemplateFixture.Outcome { () throws(TemplateError) in
                try ChatTemplate(source: source).render(variables: variables, now: TemplateFixture.clock)
            }
            #expect(found == TemplateFixture.Outcome(expected), "\(source)")
        }
    }
}
