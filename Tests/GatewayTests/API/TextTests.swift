import ClusterCore
import Prompt
import Testing

@testable import Gateway

@Suite struct TextTests {
    @Test func jsonIsEscapedAndBalanced() throws {
        let nasty = "a\"\\/\n\r\t\u{0}\u{1F}é😀\u{2028}"
        let text = JSONWriter.text { writer in
            writer.object {
                $0.member(nasty, nasty)
                $0.member("list") { $0.array([1, -2]) { $0.int($1) } }
                $0.member("empty") { $0.object { _ in } }
                $0.member("none", orNull: nil)
                $0.member("flag", true)
                $0.member("low") { $0.logprob(-.infinity) }
            }
        }
        #expect(
            try TemplateValue(json: text)
                == .object(
                    TemplateObject([
                        (nasty, .string(nasty)), ("list", [1, -2]), ("empty", .object(TemplateObject())), ("none", .null), ("flag", true),
                        ("low", -9999.0),
                    ])))
        #expect(String(decoding: text, as: UTF8.self).contains("\\u0000\\u001f"))
    }

    @Test func everyFailureHasAStatus() {
        for code in FailureCode.allCases {
            let error = APIError(Failure(code, "told"), limits: GatewayLimits())
            #expect((400..<600).contains(error.status))
            #expect(error.message == "told" && !error.type.isEmpty && !error.code.isEmpty)
            #expect((error.retryAfterSeconds != nil) == (error.status == 429))
        }
    }

    @Test func histogramsCountUpToAndWithTheirBounds() {
        var histogram = Histogram([1, 2.5])
        for value in [0, 1, 1.5, 2.5, 3] { histogram.observe(value) }
        var text = PrometheusText()
        text.histogram("h", "Help.", [("model", "a\"b\\c\nd")], histogram)
        let labels = #"model="a\"b\\c\nd""#
        #expect(
            String(decoding: text.bytes, as: UTF8.self) == """
                # HELP h Help.
                # TYPE h histogram
                h_bucket{\(labels),le="1.0"} 2
                h_bucket{\(labels),le="2.5"} 4
                h_bucket{\(labels),le="+Inf"} 5
                h_sum{\(labels)} 8.0
                h_count{\(labels)} 5

                """)
    }

    @Test func routesKeepModelNamesWhole() {
        #expect(Route(path: "/v1/models/a/b") == .model("a/b"))
        #expect(Route(path: "/v1/models/a%2Fb%20%C3%A9") == .model("a/b é"))
        #expect(Route(path: "/v1/models/a%FF") == .model("a%FF"))
        #expect(Route(path: "/v1/models/") == .unknown)
        #expect(Route(path: "/v1/models/x").label == "/v1/models/{model}")
        #expect(Route(path: "/anything/else").label == "none")
    }

    @Test func keyFilesAreCheckedLineByLine() throws {
        let digest = String(repeating: "0", count: 64)
        #expect(throws: GatewayError.self) { try APIKeys(text: "", path: "keys") }
        #expect(throws: GatewayError.self) { try APIKeys(text: "alice", path: "keys") }
        #expect(throws: GatewayError.self) { try APIKeys(text: "alice \(digest)0", path: "keys") }
        #expect(throws: GatewayError.self) { try APIKeys(text: "alice \(digest) more", path: "keys") }
        let keys = try APIKeys(text: "\n# people\nalice \(digest) # first\r\nbob \(digest)\r\n", path: "keys")
        #expect(keys.client(authorization: "Bearer x") == nil)
        #expect(keys.client(authorization: nil) == nil)
    }
}
