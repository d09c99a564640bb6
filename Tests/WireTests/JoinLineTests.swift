import ClusterCore
import Testing

@testable import Wire

@Suite struct JoinLineTests {
    private static func line(_ endpoint: String = "tcp://10.0.0.7:7300") throws -> JoinLine {
        try JoinLine(endpoint: endpoint, serverKey: PeerKey(bytes: (0..<32).map { UInt8($0) })!, tokenSecret: (0..<32).map { UInt8(255 - $0) })
    }

    @Test(arguments: ["tcp://10.0.0.7:7300", "tcp://box-1.example:1", "tcp://[2001:db8::1]:65535", "tcp://[fe80::1%eth0]:7300"])
    func printsAndParses(_ endpoint: String) throws {
        let line = try Self.line(endpoint)
        #expect(try JoinLine(parsing: line.text) == line)
        #expect(try JoinLine(parsing: " \t\(line.text)\r\n") == line)
        #expect(!line.description.contains("fffefdfc"))
        // Nothing that a shell would touch.
        let safe = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.-_[]%")
        #expect(line.text.allSatisfy(safe.contains))
    }

    /// The form is a promise: lines are pasted into other releases.
    @Test func form() throws {
        let text = try Self.line().text
        #expect(text.hasPrefix("staffel1:tcp://10.0.0.7:7300:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f:fffefdfc"))
        // CRC-32's own check value.
        #expect(JoinLine.check("123456789") == "cbf43926")
    }

    @Test func everyCutAndEveryTypoIsSeen() throws {
        let text = try Self.line().text
        for count in 0..<text.count { #expect(throws: WireError.self) { try JoinLine(parsing: String(text.prefix(count))) } }
        var bytes = Array(text.utf8)
        for index in bytes.indices {
            let kept = bytes[index]
            bytes[index] = kept == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
            let changed = String(decoding: bytes, as: UTF8.self)
            #expect(throws: WireError.self, "at \(index)") { try JoinLine(parsing: changed) }
            bytes[index] = kept
        }
    }

    @Test(arguments: ["", "hello", "staffel2:tcp://a:1:b:c:d", "staffel1:", "staffel1:::::::", "staffel1:tcp://a:1"])
    func othersAreRefused(_ text: String) {
        #expect(throws: WireError.self) { try JoinLine(parsing: text) }
    }

    @Test(arguments: [
        "", "tcp://*:7300", "tcp://host", "tcp://host:0", "tcp://host:65536", "tcp://host:", "tcp://:1", "http://host:1", "tcp://ho st:1",
        "tcp://$(id):1", "tcp://[::1:1", "tcp://a;b:1", "inproc://x"
    ])
    func badEndpoints(_ endpoint: String) {
        #expect(throws: WireError.self) { try Self.line(endpoint) }
        #expect(!Endpoint.isConnectable(endpoint))
    }

    @Test func badTokens() {
        for count in [0, 31, 33] {
            #expect(throws: WireError.self) {
                try JoinLine(
                    endpoint: "tcp://a:1", serverKey: PeerKey(bytes: [UInt8](repeating: 0, count: 32))!,
                    tokenSecret: [UInt8](repeating: 0, count: count))
            }
        }
    }
}
