import Testing

@testable import Node

@Suite struct AdvertisedEndpointTests {
    private func check(_ listen: String, _ advertise: String?) throws {
        try AdvertisedEndpoint.check(listen: listen, advertise: advertise, option: "--advertise")
    }

    @Test(arguments: ["tcp://0.0.0.0:7300", "tcp://[::]:7300", "tcp://*:7300", "tcp://[0:0:0:0:0:0:0:0]:0", "tcp://[::0]:1", "tcp://0:7300"])
    func aWildcardNeedsAnAddressToHandOut(listen: String) throws {
        let error = try #require(throws: NodeError.self) { try check(listen, nil) }
        #expect(error.code == .addressNeeded)
        #expect(error.message.contains("--advertise") && error.message.contains(listen))
        try check(listen, "tcp://box-1:7300")
        #expect(throws: NodeError.self) { try check("tcp://10.0.0.1:7300", listen) }
    }

    @Test(arguments: [
        "tcp://127.0.0.1:0", "tcp://10.0.0.10:7300", "tcp://[::1]:7300", "tcp://[fe80::1%eth0]:7300", "tcp://localhost:7300", "tcp://[1::]:80",
    ])
    func oneAddressNeedsNone(listen: String) throws {
        try check(listen, nil)
    }

    @Test(arguments: ["tcp://10.0.0.1:0", "10.0.0.1:7300", "tcp://10.0.0.1", "ipc:///tmp/a", ""])
    func nobodyCanConnectToThese(advertise: String) {
        #expect(throws: NodeError.self) { try check("tcp://0.0.0.0:7300", advertise) }
    }
}
