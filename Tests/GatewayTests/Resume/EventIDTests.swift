import ClusterCore
import Testing

@testable import Gateway

@Suite struct EventIDTests {
    private func random(_ numbers: inout SystemRandomNumberGenerator, choices: Int) -> EventID {
        let answer = RequestID(high: numbers.next(), low: numbers.next())
        return EventID(
            answer: answer, run: Bool.random() ? answer : RequestID(high: numbers.next(), low: numbers.next()), created: Int.random(in: 0...1 << 40),
            seed: numbers.next(), model: numbers.next(), request: numbers.next(),
            delivered: (0..<choices).map { _ in Int.random(in: 0...(Bool.random() ? 3 : EventID.eventsMax)) }, hasUsage: Bool.random())
    }

    @Test func whatIsWrittenIsRead() throws {
        var numbers = SystemRandomNumberGenerator()
        for choices in [1, 1, 2, 3, 17, Limits.choicesMax] {
            let id = random(&numbers, choices: choices)
            let text = id.text
            #expect(text.utf8.count <= EventID.bytesMax)
            #expect(text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "it has to pass through a header")
            #expect(try EventID(text) == id, "\(text)")
        }
    }

    /// Other releases have to read it: a change needs another prefix.
    @Test func theTextIsExactlyThis() throws {
        let id = EventID(
            answer: RequestID(high: 1, low: 2), run: RequestID(high: 1, low: 2), created: 1_700_000_000, seed: 3, model: 4, request: 5,
            delivered: [6, 300])
        #expect(id.text == "s1.AAAAAAAAAAABAAAAAAAAAAKA4s-qBgAAAAAAAAADAAAABAAAAAAAAAAFAgasArcPjzY")
        #expect(try EventID(id.text) == id)
    }

    @Test func nothingElseIsTaken() throws {
        var numbers = SystemRandomNumberGenerator()
        func code(_ text: String) -> String? { (#expect(throws: APIError.self) { try EventID(text) })?.code }
        let ofLater = "s2." + random(&numbers, choices: 1).text.dropFirst(3)
        for foreign in ["", "1", "s1.", "s1.AAAA", ofLater, "s1." + String(repeating: "A", count: 4_000), "s1.Ä", "\u{0}"] {
            #expect(code(foreign) == "invalid_last_event_id", "\(foreign)")
        }
        for _ in 0..<2_000 {
            let text = Array(random(&numbers, choices: 2).text.utf8)
            var damaged = text
            switch Int.random(in: 0..<4) {
            case 0: damaged.removeLast(Int.random(in: 1...text.count))
            case 1: damaged.insert(UInt8.random(in: 33..<127), at: Int.random(in: 0...text.count))
            case 2: damaged.swapAt(Int.random(in: 0..<text.count), Int.random(in: 0..<text.count))
            default: damaged[Int.random(in: 0..<text.count)] = UInt8.random(in: 33..<127)
            }
            guard damaged != text else { continue }
            let words = String(decoding: damaged, as: UTF8.self)
            #expect(code(words) == "invalid_last_event_id", "\(words)")
        }
    }

    @Test func base64IsReadBackAndOnlyThat() {
        for count in 0..<40 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
            #expect(Base64URL.bytes(Base64URL.text(bytes)) == bytes)
        }
        #expect(Base64URL.text([0xFB, 0xEF, 0xFF]) == "--__")
        // The last bits of two of them belong to no byte.
        for wrong in ["A", "AB", "AAB", "AA==", "A+", "a b"] { #expect(Base64URL.bytes(wrong) == nil, "\(wrong)") }
    }
}
