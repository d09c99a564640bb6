import Testing

@testable import Prompt

@Suite struct StopStringTests {
    @Test("text before the stop comes out, the rest does not")
    func stops() throws {
        var stops = try StopStrings(["\n\n", "END"])
        #expect(stops.append("one\n") == "one")
        #expect(stops.append("two E") == "\ntwo ")
        #expect(stops.append("NE") == "EN")
        #expect(!stops.isStopped)
        #expect(stops.append("ND and more") == "")
        #expect(stops.stoppedBy == "END")
        #expect(stops.append("more") == "")
        #expect(stops.finish() == "")
    }

    @Test("the stop string itself where it is wanted")
    func included() throws {
        var stops = try StopStrings(["</s>"], includeStop: true)
        #expect(stops.append("a</") + stops.append("s>b") == "a</s>")
        #expect(stops.isStopped)
    }

    @Test("what is held back comes out at the end")
    func heldText() throws {
        var stops = try StopStrings(["日本語"])
        #expect(stops.append("私の日本") == "私の")
        #expect(stops.finish() == "日本")
        #expect(!stops.isStopped)
    }

    @Test("no stop strings hold nothing back")
    func none() throws {
        var stops = try StopStrings([])
        #expect(stops.append("text") == "text")
        #expect(stops.finish() == "")
    }

    @Test("the string that is complete first counts; of several the longest")
    func precedence() throws {
        var first = try StopStrings(["abcd", "bc"])
        #expect(first.append("xabcd") == "xa")
        #expect(first.stoppedBy == "bc")
        var longest = try StopStrings(["c", "abc", "bc"])
        #expect(longest.append("xabc") == "x")
        #expect(longest.stoppedBy == "abc")
    }

    @Test("bytes are compared, not canonical equivalents")
    func canonical() throws {
        var stops = try StopStrings(["\u{E9}"])
        #expect(stops.append("e\u{301}") + stops.finish() == "e\u{301}")
        #expect(!stops.isStopped)
    }

    @Test("any cut of any text gives what a plain search gives")
    func randomCuts() throws {
        var random = SeededRandom(seed: 11)
        let alphabet = ["a", "b", "é", "👍"]
        func randomText(_ lengths: ClosedRange<Int>) -> String {
            (0..<Int.random(in: lengths, using: &random)).map { _ in alphabet.randomElement(using: &random)! }.joined()
        }
        for _ in 0..<3000 {
            let strings = (0..<Int.random(in: 1...4, using: &random)).map { _ in randomText(1...4) }
            let pieces = (0..<Int.random(in: 1...8, using: &random)).map { _ in randomText(0...5) }
            let includeStop = Bool.random(using: &random)
            var stops = try StopStrings(strings, includeStop: includeStop)
            var found = pieces.map { stops.append($0) }.joined()
            found += stops.finish()
            let expected = search(pieces.joined(), strings, includeStop)
            #expect(found == expected.text, "\(strings) in \(pieces)")
            #expect(stops.stoppedBy == expected.stop, "\(strings) in \(pieces)")
        }
    }

    private func search(_ text: String, _ strings: [String], _ includeStop: Bool) -> (text: String, stop: String?) {
        let characters = Array(text.unicodeScalars)
        for end in 0...characters.count {
            let head = String(String.UnicodeScalarView(characters[..<end]))
            let stops = strings.filter { Array(head.utf8).suffix($0.utf8.count).elementsEqual($0.utf8) }
            guard let stop = stops.max(by: { $0.utf8.count < $1.utf8.count }) else { continue }
            return (includeStop ? head : String(decoding: Array(head.utf8).dropLast(stop.utf8.count), as: UTF8.self), stop)
        }
        return (text, nil)
    }

    @Test("limits are errors")
    func limits() {
        for strings in [
            [""], ["a", ""], Array(repeating: "a", count: StopStrings.countMax + 1),
            [String(repeating: "a", count: StopStrings.stringBytesMax + 1)],
        ] {
            let error = #expect(throws: PromptError.self) { try StopStrings(strings) }
            #expect(error?.code == .invalidStopStrings)
        }
        #expect(throws: Never.self) { try StopStrings(Array(repeating: "a", count: StopStrings.countMax)) }
    }
}
