import Testing

@testable import ClusterCore

@Suite struct CoordinatorLinkTests {
    private static func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    private static func joined() -> CoordinatorLink {
        var link = CoordinatorLink(heartbeatIntervalMs: 250, timeoutMs: 1_400, backoffMinMs: 100, backoffMaxMs: 1_000)
        _ = link.start(at: at(0))
        link.welcomed(at: at(0))
        return link
    }

    /// When the coordinator is given up, asked whenever something is due.
    private static func givenUp(_ link: inout CoordinatorLink) -> Instant? {
        for _ in 0..<100 {
            guard let due = link.deadline else { return nil }
            let actions = link.tick(at: due)
            if actions.contains(.reconnect) { return due }
            #expect(actions == [.heartbeat])
        }
        return nil
    }

    @Test func silenceThatWasListenedToIsSilence() {
        var link = Self.joined()
        #expect(Self.givenUp(&link) == Self.at(1_400))
    }

    /// It was stopped for five seconds: the coordinator's words are in the socket, and it may have spoken all the while.
    @Test func ownSilenceIsNotTheCoordinators() {
        var link = Self.joined()
        #expect(link.tick(at: Self.at(250)) == [.heartbeat])
        link.heard(at: Self.at(260))
        // Due at 500.
        #expect(link.tick(at: Self.at(5_500)) == [.heartbeat])
        #expect(link.isJoined)
        // The 240 ms before it stood still count.
        #expect(Self.givenUp(&link) == Self.at(5_260 + 1_400))
    }

    @Test func aLittleLateIsNotStandingStill() {
        var link = Self.joined()
        for milliseconds in stride(from: UInt64(400), to: 1_400, by: 400) { #expect(link.tick(at: Self.at(milliseconds)) == [.heartbeat]) }
        #expect(link.tick(at: Self.at(1_600)).contains(.reconnect))
    }
}
