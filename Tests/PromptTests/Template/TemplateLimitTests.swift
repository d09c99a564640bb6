import Testing

@testable import Prompt

/// Everything a template can make grow has a limit; reaching it is an error of its own code.
@Suite struct TemplateLimitTests {
    private func code(_ source: String, limits: TemplateLimits = .standard) -> TemplateError.Code? {
        do {
            _ = try ChatTemplate(source: source, limits: limits).render(variables: [], now: TemplateFixture.clock)
            return nil
        } catch {
            return error.code
        }
    }

    @Test(arguments: [
        // Time.
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
        "{% for i in range(99999) %}{% if range(99999)|list == range(99999)|list %}{% endif %}{% endfor %}",
        "{% set s = 'ab' * 999999 %}{% for i in range(99999) %}{% if 'zz' in s %}{% endif %}{% endfor %}",
        "{% for i in range(99999) if range(99999)|list|length < 0 %}{% endfor %}",
        // Memory.
        "{{ 'x' * 9223372036854775807 }}", "{{ 'xx' * 9223372036854775807 }}", "{{ 'x' * 999999999 }}", "{{ [1] * 999999999 }}",
        "{{ [1, 2] * 9223372036854775807 }}", "{{ range(9223372036854775807) }}", "{{ range(-9223372036854775807, 9223372036854775807) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s.replace('x', 'xxxx') %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s.replace('', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s.join(ns.s ~ 'ab') %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s[0:] }}",
        "{{ 'a'.center(9223372036854775807) }}", "{{ 'a'.ljust(999999999) }}", "{{ 'a'|indent(9223372036854775807) }}",
        "{{ [[1]]|tojson(indent=999999999) }}", "{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}{% endset %}",
        // Depth.
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(l={}) %}{% for i in range(9999) %}{% set ns.l = {'a': ns.l} %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l]|map('list') %}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
    ])
    func growthEndsInALimit(source: String) {
        // A tenth of the standard time and memory, so that the debug build is done soon; what holds here holds there.
        var limits = TemplateLimits()
        limits.stepsMax /= 10
        limits.textBytesMax /= 10
        limits.loopTurnsMax /= 10
        #expect(code(source, limits: limits) == .limit)
    }

    @Test(arguments: [
        ("", "(", "1", ")"), ("", "[", "1", "]"), ("", "{'a':", "1", "}"), ("", "not ", "1", ""), ("", "-", "1", ""), ("", "+", "1", ""),
        ("", "1 if 1 else ", "1", ""), ("", "a[", "1", "]"), ("", "a(", "1", ")"), ("", "1|d(", "1", ")"), ("", "1 is eq(", "1", ")"),
        ("a", "", "", ".b"), ("a", "", "", "|d"), ("a", "", "", "()"), ("a", "", "", "[0]"), ("1", "", "", " if 1"), ("1", "", "", " is eq 1"),
    ])
    func nestedExpressionsEndInALimit(first: String, open: String, middle: String, close: String) {
        let source = "{{ " + first + String(repeating: open, count: 9_000) + middle + String(repeating: close, count: 9_000) + " }}"
        #expect(code(source) == .limit)
    }

    @Test func nestedBlocksEndInAnError() {
        for open in ["{% if 1 %}", "{% for i in [1] %}", "{% set x %}", "{% macro m() %}", "{% with %}", "{% filter upper %}", "{% generation %}"] {
            #expect(code(String(repeating: open, count: 10_000)) == .limit)
        }
    }

    @Test func longFlatTemplatesAreNoTrouble() {
        #expect(code("{{ 1" + String(repeating: " + 1", count: 20_000) + " }}") == nil)
        #expect(code("{{ 'a'" + String(repeating: " ~ 'a'", count: 20_000) + " }}") == nil)
        #expect(code("{% if 0 %}" + String(repeating: "{% elif 0 %}", count: 10_000) + "{% endif %}") == nil)
        #expect(code(String(repeating: "{{ 1 }}", count: 20_000)) == nil)
        #expect(code(String(repeating: "{", count: 100_000)) == .limit || code(String(repeating: "{", count: 100_000)) == .syntax)
    }

    @Test func theDeepestAllowedValuesAndCallsWork() throws {
        let levels = TemplateLimits.standard.valueDepthMax - 2
        let text = String(repeating: "[", count: levels) + String(repeating: "]", count: levels)
        let value = try TemplateValue(json: Array(text.utf8))
        let rendered = try ChatTemplate(source: "{{ v }}{{ v|tojson }}{{ v == v }}").render(variables: [("v", value)], now: TemplateFixture.clock)
        #expect(rendered == text + text + "True")
    }

    @Test(arguments: [
        "{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}", "{{ 9223372036854775807 * 2 }}", "{{ 2 ** 64 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}", "{{ -(-9223372036854775807 - 1) }}", "{{ (-9223372036854775807 - 1)|abs }}",
        "{{ '99999999999999999999'|int }}", "{{ 1e300|int }}", "{{ [9223372036854775807, 1]|sum }}", "{{ 10.0 ** 999 }}",
    ])
    func integersThatDoNotFitAreErrors(source: String) {
        #expect(code(source) == .evaluation)
    }

    @Test func extremesOfIndicesAndSlicesDoNotTrap() {
        let extremes = ["9223372036854775807", "-9223372036854775807", "(-9223372036854775807 - 1)", "0", "1", "-1", ""]
        for from in extremes {
            for to in extremes {
                for step in extremes where step != "0" {
                    for base in ["[1, 2, 3]", "'abc'", "'éü'", "range(5)", "range(9223372036854775800, 9223372036854775807)", "()"] {
                        let code = code("{{ \(base)[\(from):\(to):\(step)]|list|length }}")
                        #expect(code == nil || code == .evaluation, "\(base)[\(from):\(to):\(step)]")
                    }
                }
            }
            if !from.isEmpty { #expect(code("{{ [1][\(from)] }}{{ 'a'[\(from)] }}{{ range(3)[\(from)] }}{{ 'a'.center(\(from) // 4294967296 // 4294967296) }}") == nil) }
        }
        #expect(code("{{ -7 % (-9223372036854775807 - 1) }}{{ (-9223372036854775807 - 1) % -1 }}") == nil)
    }

    @Test func theSourceIsBounded() {
        #expect(code(String(repeating: "x", count: TemplateLimits.standard.sourceBytesMax + 1)) == .limit)
    }

    @Test func limitsAreTheCallers() throws {
        var limits = TemplateLimits()
        limits.outputBytesMax = 3
        let template = try ChatTemplate(source: "{{ s }}", limits: limits)
        #expect(try template.render(variables: [("s", "abc")], now: TemplateFixture.clock) == "abc")
        #expect { try template.render(variables: [("s", "abcd")], now: TemplateFixture.clock) } throws: { ($0 as? TemplateError)?.code == .limit }
    }
}
