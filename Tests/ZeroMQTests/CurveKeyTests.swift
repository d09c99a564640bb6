import Glibc
import Testing

@testable import ZeroMQ

@Suite struct CurveKeyTests {
    @Test func pairsMatchAndTextsRoundTrip() throws {
        let keys = try CurveKeyPair.generate()
        #expect(try CurveKeyPair(secretKey: keys.secretKey) == keys)
        #expect(try CurvePublicKey(z85: keys.publicKey.z85) == keys.publicKey)
        #expect(try CurvePublicKey(bytes: keys.publicKey.bytes) == keys.publicKey)
        #expect(try CurveKeyPair.generate() != keys)
        #expect(!"\(keys.secretKey) \(keys)".contains(keys.secretKey.z85))
        var dumped = ""
        dump(keys.secretKey.description, to: &dumped)
        #expect(!dumped.contains(keys.secretKey.z85))
    }

    /// The server key that RFC 26's and libzmq's examples use; its bytes by the rule of RFC 32, worked out apart from libzmq.
    @Test func knownText() throws {
        let text = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
        let bytes: [UInt8] = [
            0x54, 0xFC, 0xBA, 0x24, 0xE9, 0x32, 0x49, 0x96, 0x93, 0x16, 0xFB, 0x61, 0x7C, 0x87, 0x2B, 0xB0,
            0xC1, 0xD1, 0xFF, 0x14, 0x80, 0x04, 0x27, 0xC5, 0x94, 0xCB, 0xFA, 0xCF, 0x1B, 0xC2, 0xD6, 0x52,
        ]
        #expect(try CurveSecretKey(z85: text).bytes == bytes)
        #expect(try CurveSecretKey(bytes: bytes).z85 == text)
    }

    @Test(arguments: ["", "short", String(repeating: "a", count: 41), String(repeating: "\\", count: 40), String(repeating: "#", count: 40), String(repeating: "é", count: 20)])
    func badTexts(_ text: String) {
        #expect(zeroMQError { _ = try CurvePublicKey(z85: text) }?.code == .keyInvalid)
    }

    @Test func badBytes() {
        for count in [0, 31, 33] { #expect(zeroMQError { _ = try CurvePublicKey(bytes: [UInt8](repeating: 1, count: count)) }?.code == .keyInvalid) }
    }
}

@Suite struct CurveKeyFileTests {
    @Test func createsOnceAndLoads() throws {
        try withFolder { folder in
            let file = CurveKeyFile(path: folder + "/key")
            let keys = try file.createIfMissing()
            #expect(try file.load() == keys)
            #expect(try file.createIfMissing() == keys)
            var status = stat()
            #expect(stat(file.path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            // Nothing of the way there is left.
            #expect(entries(folder) == ["key"])
        }
    }

    @Test(arguments: [0o644, 0o640, 0o660, 0o700, 0o400] as [mode_t])
    func otherModesAreRefused(_ mode: mode_t) throws {
        try withFolder { folder in
            let file = CurveKeyFile(path: folder + "/key")
            _ = try file.createIfMissing()
            chmod(file.path, mode)
            let error = zeroMQError { _ = try file.load() }
            #expect(error?.code == .keyFileUnusable)
            #expect(error?.message.contains("chmod 600") == true)
            #expect(zeroMQError { _ = try file.createIfMissing() }?.code == .keyFileUnusable)
        }
    }

    @Test(arguments: ["", "short\n", String(repeating: "a", count: 41), String(repeating: "a", count: 4_000), String(repeating: "~", count: 40)])
    func otherContentsAreRefused(_ content: String) throws {
        try withFolder { folder in
            let path = folder + "/key"
            let descriptor = open(path, O_CREAT | O_WRONLY, 0o600)
            _ = write(descriptor, content, content.utf8.count)
            close(descriptor)
            #expect(zeroMQError { _ = try CurveKeyFile(path: path).load() }?.code == .keyFileUnusable)
        }
    }

    @Test func linksFoldersAndMissingFilesAreRefused() throws {
        try withFolder { folder in
            _ = try CurveKeyFile(path: folder + "/key").createIfMissing()
            symlink(folder + "/key", folder + "/link")
            for name in ["link", "missing", ".", "missing/key"] {
                #expect(zeroMQError { _ = try CurveKeyFile(path: folder + "/" + name).load() }?.code == .keyFileUnusable, "\(name)")
            }
            #expect(zeroMQError { _ = try CurveKeyFile(path: folder + "/missing/key").createIfMissing() }?.code == .keyFileUnusable)
        }
    }

    @Test(.enabled(if: geteuid() == 0, "needs to give a file away"))
    func otherOwnersAreRefused() throws {
        try withFolder { folder in
            let file = CurveKeyFile(path: folder + "/key")
            _ = try file.createIfMissing()
            chown(file.path, 12_345, 12_345)
            #expect(zeroMQError { _ = try file.load() }?.message.contains("12345") == true)
        }
    }

    @Test func racingProcessesAgree() async throws {
        let folder = try makeFolder()
        defer { remove(folder) }
        let keys = try await withThrowingTaskGroup(of: CurveKeyPair.self) { group in
            for _ in 0..<16 { group.addTask { try CurveKeyFile(path: folder + "/key").createIfMissing() } }
            return try await group.reduce(into: Set<CurveKeyPair>()) { $0.insert($1) }
        }
        #expect(keys.count == 1)
        #expect(entries(folder) == ["key"])
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = try makeFolder()
        defer { remove(folder) }
        try body(folder)
    }

    private func makeFolder() throws -> String {
        var template = Array("/tmp/staffel-keys-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        return String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private func entries(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private func remove(_ path: String) {
        for name in entries(path) { unlink(path + "/" + name) }
        rmdir(path)
    }
}
