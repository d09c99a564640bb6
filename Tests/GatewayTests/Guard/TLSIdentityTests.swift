import Foundation
import Logging
import NIOSSL
import Testing

@testable import Gateway

@Suite struct TLSIdentityTests {
    private let certificate = NSTemporaryDirectory() + "gateway-certificate-\(UUID().uuidString)"
    private let key = NSTemporaryDirectory() + "gateway-key-\(UUID().uuidString)"
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func write(_ certificateText: String, _ keyText: String, mode: mode_t = 0o600) throws {
        try Data(certificateText.utf8).write(to: URL(fileURLWithPath: certificate))
        try Data(keyText.utf8).write(to: URL(fileURLWithPath: key))
        #expect(chmod(key, mode) == 0)
    }

    private func identity() throws -> TLSIdentity { try TLSIdentity(certificatePath: certificate, keyPath: key, logger: logger) }

    private func remove() {
        unlink(certificate)
        unlink(key)
    }

    @Test func aNewCertificateCountsWhenItsKeyIsThereToo() throws {
        defer { remove() }
        try write(Self.certificate1, Self.key1)
        let identity = try identity()
        let first = identity.context
        #expect(!identity.refresh() && identity.context === first)
        // Half of the change.
        try write(Self.certificate2, Self.key1)
        #expect(identity.refresh() && identity.context === first)
        try write(Self.certificate2, Self.key2)
        #expect(identity.refresh() && identity.context !== first)
    }

    @Test func whatIsUnusableIsRefusedAtTheStart() throws {
        defer { remove() }
        func refusal() -> GatewayError? { #expect(throws: GatewayError.self) { _ = try identity() } }
        #expect(refusal()?.code == .tls, "no files")
        try write(Self.certificate1, Self.key1, mode: 0o640)
        #expect(refusal()?.message.contains("chmod 600") == true)
        try write(Self.certificate1, Self.key2)
        #expect(refusal()?.message.contains("of one certificate") == true)
        try write("no certificate", Self.key1)
        #expect(refusal()?.code == .tls)
        try write(Self.certificate1, "no key")
        #expect(refusal()?.code == .tls)
    }

    // Made with openssl for this test: nobody trusts them.
    private static let certificate1 = """
        -----BEGIN CERTIFICATE-----
        MIIBijCCAS+gAwIBAgIUOK0ZH3UNsNxsxuqifdJmnHAoyNgwCgYIKoZIzj0EAwIw
        GTEXMBUGA1UEAwwOc3RhZmZlbCB0ZXN0IDEwIBcNMjYxMTIxMTMzNTEwWhgPMjEy
        NjEwMjgxMzM1MTBaMBkxFzAVBgNVBAMMDnN0YWZmZWwgdGVzdCAxMFkwEwYHKoZI
        zj0CAQYIKoZIzj0DAQcDQgAE6XGgb4YxQLuaUhqow1+RKjY8tPh0yB76Ksaqea6r
        hWJGA3d8ZD3KIvifG3dWNGXA/XPy3vft063VrIhyP9yrMKNTMFEwHQYDVR0OBBYE
        FAD7WtDvaKjtTITHQ1n/oCWAZ79OMB8GA1UdIwQYMBaAFAD7WtDvaKjtTITHQ1n/
        oCWAZ79OMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAPWZgarY
        lpb40X9UEdWqzS2wNlVC9gvHwX858Hy5Sq9aAiEA/wLlgo4mSIQBepDiQjNfKkSs
        IVB9mJtAcjLDahOiKfI=
        -----END CERTIFICATE-----
        """
    private static let key1 = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0USdogOtw0vy9Hzg
        JIjAzIK9TzbaIND2Hv8ltDV3d8ChRANCAATpcaBvhjFAu5pSGqjDX5EqNjy0+HTI
        Hvoqxqp5rquFYkYDd3xkPcoi+J8bd1Y0ZcD9c/Le9+3TrdWsiHI/3Ksw
        -----END PRIVATE KEY-----
        """
    private static let certificate2 = """
        -----BEGIN CERTIFICATE-----
        MIIBiTCCAS+gAwIBAgIUNqZh4/9ydHxfXAKb/ffiB11vA/IwCgYIKoZIzj0EAwIw
        GTEXMBUGA1UEAwwOc3RhZmZlbCB0ZXN0IDIwIBcNMjYxMTIxMTMzNTEwWhgPMjEy
        NjEwMjgxMzM1MTBaMBkxFzAVBgNVBAMMDnN0YWZmZWwgdGVzdCAyMFkwEwYHKoZI
        zj0CAQYIKoZIzj0DAQcDQgAEIPQD1fBjQMMN41fA1hRTUEtbb+1nlgoPvzi0uWvc
        94uc/hhVla9E+GsaOPM94ufk2dgJ5WbEbRER7qnlo2lSQ6NTMFEwHQYDVR0OBBYE
        FC4Li7EamFVlYYv73eoqA+XjsFetMB8GA1UdIwQYMBaAFC4Li7EamFVlYYv73eoq
        A+XjsFetMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgHSzN59S5
        LlYjc4GjXXLRaaJg+b4JQUiofEmotLSkUnkCIQDKsc84evOhHLbqffKrm2xA5k3w
        gtHqz9wFMB1pPqyPQA==
        -----END CERTIFICATE-----
        """
    private static let key2 = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgIGHOV6Wjmwh71KnF
        gIRn88wGPxZVCiQS8TY4Xgr6ZcmhRANCAAQg9APV8GNAww3jV8DWFFNQS1tv7WeW
        Cg+/OLS5a9z3i5z+GFWVr0T4axo48z3i5+TZ2AnlZsRtERHuqeWjaVJD
        -----END PRIVATE KEY-----
        """
}
