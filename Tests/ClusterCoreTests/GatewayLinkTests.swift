import Testing

@testable import ClusterCore

@Suite struct GatewayLinkTests {
    private static let id = RequestID(high: 0, low: 1)

    private func handle(_ link: inout GatewayLink, _ event: GatewayLink.Event, ms: UInt64 = 0) -> [GatewayLink.Effect] {
        var effects: [GatewayLink.Effect] = []
        link.handle(event, at: Instant(nanoseconds: ms * 1_000_000), into: &effects)
        return effects.filter { if case .log = $0 { false } else { true } }
    }

    private func welcome(session: UInt64 = 1, _ state: ClusterHealth.State = .serving) -> FromCoordinator {
        .gatewayWelcome(
            GatewayWelcome(
                version: .current, coordinatorSession: session, modelName: "m", modelDigest: ToyModel().profile.digest, contextTokens: 9,
                parameterCount: 0,
                modelBytes: 0, health: ClusterHealth(state: state, detail: "d")))
    }

    private func joined() -> GatewayLink {
        var link = GatewayLink(configuration: GatewayLinkConfiguration(session: 1, name: "g"))
        _ = handle(&link, .start)
        _ = handle(&link, .received(welcome()))
        return link
    }

    private func request(choices: Int = 1, resumed: [[TokenID]] = []) -> GenerationRequest {
        GenerationRequest(id: Self.id, prompt: [1, 2], sampling: SamplingParameters(), choices: choices, resumed: resumed)
    }

    private func tokens(_ first: Int, _ ids: TokenID..., choice: UInt32 = 0) -> GatewayLink.Event {
        .received(.tokens(TokenBatch(request: Self.id, choice: choice, firstIndex: first, tokens: ids.map { EmittedToken(token: $0) })))
    }

    private func delivery(_ ids: TokenID..., choice: UInt32 = 0) -> GatewayLink.Effect {
        .deliver(Self.id, .tokens(choice: choice, ids.map { EmittedToken(token: $0) }))
    }

    @Test func tokensArriveOnceAndInOrder() {
        var link = joined()
        #expect(handle(&link, .submit(request())) == [.send(.submit(request()))])
        #expect(handle(&link, tokens(0, 5, 6)) == [delivery(5, 6)])
        #expect(handle(&link, tokens(1, 6, 7)) == [delivery(7)])
        #expect(handle(&link, tokens(0, 5)) == [])
        #expect(handle(&link, .received(.finished(Self.id, choice: 0, tokenCount: 3, .stop))) == [.deliver(Self.id, .finished(choice: 0, .stop))])
        #expect(link.openCount == 0)
    }

    @Test func aStatusIsTakenWhenItWasAskedFor() {
        let report = Coordinator(
            configuration: CoordinatorConfiguration(session: 1, model: ToyModel().profile, modelPath: "/m", expectedWorkers: 1),
            at: Instant(nanoseconds: 0)
        ).status(at: Instant(nanoseconds: 1))
        var link = joined()
        #expect(handle(&link, .received(.status(report))) == [], "nobody asked")
        #expect(link.metrics.dropped.total == 1)
        #expect(handle(&link, .statusWanted) == [.send(.statusQuery)])
        #expect(handle(&link, .received(.status(report))) == [.status(report)])
        #expect(handle(&link, .received(.status(report))) == [])
        var apart = GatewayLink(configuration: GatewayLinkConfiguration(session: 1, name: "g"))
        #expect(handle(&apart, .statusWanted) == [], "there is nobody to ask")
    }

    @Test func aGapIsAskedForOnce() {
        var link = joined()
        _ = handle(&link, .submit(request()))
        _ = handle(&link, tokens(0, 5))
        #expect(handle(&link, tokens(3, 8)) == [.send(.submit(request(resumed: [[5]])))])
        #expect(handle(&link, tokens(4, 9)) == [])
        #expect(handle(&link, tokens(1, 6, 7, 8, 9)) == [delivery(6, 7, 8, 9)])
        #expect(
            handle(&link, .received(.finished(Self.id, choice: 0, tokenCount: 7, .length))) == [.send(.submit(request(resumed: [[5, 6, 7, 8, 9]])))])
        #expect(link.openCount == 1)
    }

    @Test func anotherCoordinatorGetsTheRequestWithItsTokens() {
        var link = joined()
        _ = handle(&link, .submit(request(choices: 2)))
        _ = handle(&link, tokens(0, 5, choice: 1))
        let effects = handle(&link, .received(.refused(Failure(.helloExpected, ""))), ms: 10)
        guard case .send(.gatewayHello) = effects.first else {
            Issue.record("it says hello")
            return
        }
        let again = handle(&link, .received(welcome(session: 2)), ms: 20)
        #expect(again.last == .send(.submit(request(choices: 2, resumed: [[], [5]]))))
    }

    @Test func oneChoiceIsCancelledAndAgainAtAnotherCoordinator() {
        var link = joined()
        _ = handle(&link, .submit(request(choices: 2)))
        _ = handle(&link, tokens(0, 5, choice: 1))
        #expect(
            handle(&link, .cancelChoice(Self.id, 1)) == [.send(.cancelChoice(Self.id, 1)), .deliver(Self.id, .finished(choice: 1, .stop))])
        #expect(handle(&link, .cancelChoice(Self.id, 1)) == [], "it has ended")
        #expect(handle(&link, tokens(1, 6, choice: 1)) == [], "nobody wants these any more")
        _ = handle(&link, .received(.refused(Failure(.helloExpected, ""))), ms: 10)
        let again = handle(&link, .received(welcome(session: 2)), ms: 20)
        #expect(again.suffix(2) == [.send(.submit(request(choices: 2, resumed: [[], [5]]))), .send(.cancelChoice(Self.id, 1))])
        _ = handle(&link, .received(.finished(Self.id, choice: 0, tokenCount: 0, .stop)), ms: 30)
        #expect(link.openCount == 0)
    }

    @Test func clientsAreToldOfPauses() {
        var link = joined()
        _ = handle(&link, .submit(request()))
        let recovering = ClusterHealth(state: .recovering, detail: "r")
        #expect(handle(&link, .received(.health(recovering))) == [.health(recovering), .deliver(Self.id, .paused("r"))])
        #expect(handle(&link, .received(.health(recovering))) == [])
        let serving = ClusterHealth(state: .serving, detail: "s")
        #expect(handle(&link, .received(.health(serving))) == [.health(serving), .deliver(Self.id, .resumed)])
    }

    @Test func aQuietRequestIsSubmittedAgain() {
        var link = joined()
        _ = handle(&link, .submit(request()))
        for ms in stride(from: UInt64(250), through: 14_750, by: 250) {
            _ = handle(&link, .received(.heartbeatReply(Heartbeat(epoch: Epoch(0), lastStep: StepNumber(0), stepsQueued: 0))), ms: ms)
        }
        #expect(handle(&link, .deadline, ms: 15_000).contains(.send(.submit(request()))))
    }

    @Test func withoutACoordinatorRequestsFailInTime() {
        var configuration = GatewayLinkConfiguration(session: 1, name: "g")
        configuration.coordinatorWaitMs = 5_000
        var link = GatewayLink(configuration: configuration)
        _ = handle(&link, .start)
        #expect(handle(&link, .submit(request()), ms: 100) == [.send(.gatewayHello(GatewayHello(version: .current, session: 1, name: "g")))])
        var failure: Failure?
        while failure == nil, let due = link.nextDeadline, due.nanoseconds < 60_000_000_000 {
            for case .deliver(_, .failed(let why)) in handle(&link, .deadline, ms: (due.nanoseconds + 999_999) / 1_000_000) { failure = why }
        }
        #expect(failure?.code == .notReady && link.openCount == 0)
    }

    @Test func tokensForWhoLeftAreAnsweredWithACancel() {
        var link = joined()
        _ = handle(&link, .submit(request()))
        #expect(handle(&link, .cancel(Self.id)) == [.send(.cancel(Self.id))])
        #expect(handle(&link, tokens(0, 5)) == [.send(.cancel(Self.id))])
    }

    @Test func theEndAnswersEveryone() {
        var link = joined()
        _ = handle(&link, .submit(request()))
        let effects = handle(&link, .shutdown)
        guard case .deliver(_, .failed(let failure)) = effects.dropFirst().first else {
            Issue.record("the request fails")
            return
        }
        #expect(effects.first == .send(.leaving) && failure.code == .shuttingDown && effects.last == .ended(nil))
        guard case .deliver(_, .failed) = handle(&link, .submit(request())).first else {
            Issue.record("a late request fails")
            return
        }
    }

    @Test func thereIsALimit() {
        var configuration = GatewayLinkConfiguration(session: 1, name: "g")
        configuration.requestsOpenMax = 1
        var link = GatewayLink(configuration: configuration)
        _ = handle(&link, .submit(request()))
        let second = GenerationRequest(id: RequestID(high: 0, low: 2), prompt: [1], sampling: SamplingParameters())
        guard case .deliver(second.id, .failed(let failure)) = handle(&link, .submit(second)).first else {
            Issue.record("it fails")
            return
        }
        #expect(failure.code == .queueFull)
    }
}
