import Foundation
import Logging
import Testing

@testable import Gateway

@Suite struct KeyRingTests {
    private let path = NSTemporaryDirectory() + "gateway-ring-\(UUID().uuidString)"
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func isAdmitted(_ key: String, _ ring: KeyRing) -> String? { ring.client(authorization: "Bearer \(key)")?.name }

    @Test func keysAreMadeShownOnceAndTakenAway() throws {
        defer { unlink(path) }
        let file = APIKeyFile(path: path)
        #expect(throws: GatewayError.self) { _ = try file.list() }
        let first = try file.add(name: "alice", settings: ["weight=2", "requests-per-minute=60"])
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(first.hasPrefix(APIKeyFile.keyPrefix) && first.utf8.count == APIKeyFile.keyPrefix.utf8.count + 64)
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(!text.contains(first) && !text.contains(first.dropFirst(APIKeyFile.keyPrefix.count)), "only its hash is kept")

        let ring = try KeyRing(path: path, logger: logger)
        #expect(isAdmitted(first, ring) == "alice" && ring.client(authorization: "Bearer \(first)")?.requestsPerMinuteMax == 60)
        #expect(!ring.refresh())

        // The next key of the same client, and another client; comments stay.
        try Data((text + "# people").utf8).write(to: URL(fileURLWithPath: path))
        chmod(path, 0o600)
        let second = try file.add(name: "alice", settings: ["weight=2", "requests-per-minute=60"])
        let bob = try file.add(name: "bob", settings: [])
        #expect(isAdmitted(second, ring) == nil)
        #expect(ring.refresh() && isAdmitted(second, ring) == "alice" && isAdmitted(first, ring) == "alice" && isAdmitted(bob, ring) == "bob")
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains("# people"))

        let lines = try file.list()
        #expect(lines.count == 3 && lines[0].hasPrefix("alice  ") && lines[0].hasSuffix("weight=2  requests-per-minute=60"))
        let digits = try #require(lines[0].split(separator: " ").dropFirst().first.map(String.init))
        #expect(try file.remove(digits) == 1)
        #expect(ring.refresh() && isAdmitted(first, ring) == nil && isAdmitted(second, ring) == "alice")
        #expect(try file.remove("nobody") == 0 && !ring.refresh())
        #expect(try file.remove("alice") == 1 && file.remove("bob") == 1)
        #expect(ring.refresh() && isAdmitted(second, ring) == nil && isAdmitted(bob, ring) == nil, "a file without keys admits nobody")
    }

    @Test func whatNoGatewayTakesIsNotWritten() throws {
        defer { unlink(path) }
        let file = APIKeyFile(path: path)
        for (name, settings) in [("", []), ("a b", []), ("a#b", []), ("a", ["weight=0"]), ("a", ["wieght=1"])] as [(String, [String])] {
            #expect(throws: GatewayError.self) { _ = try file.add(name: name, settings: settings) }
        }
        #expect(!FileManager.default.fileExists(atPath: path))
        _ = try file.add(name: "a", settings: ["weight=2"])
        #expect(throws: GatewayError.self) { _ = try file.add(name: "a", settings: ["weight=3"]) }
        #expect(try file.list().count == 1)
    }

    @Test func aFileThatWasSpoiltChangesNothing() throws {
        defer { unlink(path) }
        let file = APIKeyFile(path: path)
        let key = try file.add(name: "alice", settings: [])
        let ring = try KeyRing(path: path, logger: logger)
        let good = try Data(contentsOf: URL(fileURLWithPath: path))
        for spoilt in [Data("alice nonsense\n".utf8), Data([0xFF, 0xFE])] {
            try spoilt.write(to: URL(fileURLWithPath: path))
            chmod(path, 0o600)
            #expect(ring.refresh() && isAdmitted(key, ring) == "alice")
            #expect(!ring.refresh(), "said once")
        }
        try good.write(to: URL(fileURLWithPath: path))
        chmod(path, 0o644)
        #expect(ring.refresh() && isAdmitted(key, ring) == "alice")
        unlink(path)
        #expect(ring.refresh() && isAdmitted(key, ring) == "alice")
    }
}
