import ClusterCore
import Dispatch
import Logging
import Synchronization

@testable import Gateway

/// A coordinator by script on the other side of a real `GatewayLink` machine, without a network: what the machine sends is
/// answered by the script, and tests can say what else the coordinator says. Its clock stands still, so no deadline comes.
final class ScriptedCluster: Sendable {
    /// What the coordinator answers to a submission.
    typealias Script = @Sendable (GenerationRequest) -> [FromCoordinator]

    private struct State {
        var driver: LinkDriver?
        var submitted: [GenerationRequest] = []
        var cancelled: [RequestID] = []
        var status: StatusReport?
        var hasEnded = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "scripted cluster")
    private let welcome: GatewayWelcome?
    private let header: [UInt8]
    private let script: Script

    /// - Parameter welcome: `nil` for a coordinator that never answers.
    init(welcome: GatewayWelcome? = TinyModel.welcome(), header: [UInt8] = TinyModel.header(), script: @escaping Script) {
        self.welcome = welcome
        self.header = header
        self.script = script
    }

    var submitted: [GenerationRequest] { state.withLock { $0.submitted } }
    var cancelled: [RequestID] { state.withLock { $0.cancelled } }
    /// Submissions that were neither cancelled nor answered to their end are not told apart here: tests know their scripts.
    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    var owner: LinkOwner {
        LinkOwner(
            post: { command in
                self.queue.async { self.step { $0.perform(command, at: Self.now) } }
                return true
            },
            start: { link in
                self.queue.async {
                    let driver = LinkDriver(link: link, session: 7, name: "test", requestsOpenMax: 1024, logger: Logger(label: "test"))
                    self.state.withLock { $0.driver = driver }
                    self.step { $0.start(at: Self.now) }
                }
            },
            join: {
                await withCheckedContinuation { continuation in
                    let hasEnded = self.state.withLock { state in
                        if !state.hasEnded { state.waiting.append(continuation) }
                        return state.hasEnded
                    }
                    if hasEnded { continuation.resume() }
                }
            })
    }

    /// From now on the coordinator answers questions for its status.
    func answerStatus(_ report: StatusReport) { state.withLock { $0.status = report } }

    /// The coordinator says something of its own accord.
    func say(_ message: FromCoordinator) { queue.async { self.hear(message) } }

    /// The coordinator gives one choice of a request these tokens.
    func tokens(_ text: String, of request: GenerationRequest, choice: UInt32 = 0, at firstIndex: Int) {
        tokens(TinyModel.tokens(text), of: request, choice: choice, at: firstIndex)
    }

    func tokens(_ tokens: [TokenID], of request: GenerationRequest, choice: UInt32 = 0, at firstIndex: Int) {
        let tokens = tokens.map { EmittedToken(token: $0) }
        say(.tokens(TokenBatch(request: request.id, choice: choice, firstIndex: firstIndex, tokens: tokens)))
    }

    private static let now = Instant(nanoseconds: 1_000_000_000)

    private func hear(_ message: FromCoordinator) {
        let isWelcome = if case .gatewayWelcome = message { true } else { false }
        step { $0.received(message, header: isWelcome ? header : nil, at: Self.now) }
    }

    private func step(_ act: (inout LinkDriver) -> [LinkDriver.Action]) {
        let actions = state.withLock { state in
            guard state.driver != nil else { return [LinkDriver.Action]() }
            return act(&state.driver!)
        }
        for action in actions { perform(action) }
    }

    private func perform(_ action: LinkDriver.Action) {
        switch action {
        case .send(.gatewayHello): if let welcome { hear(.gatewayWelcome(welcome)) }
        case .send(.submit(let request)):
            state.withLock { $0.submitted.append(request) }
            for message in script(request) { hear(message) }
        case .send(.cancel(let id)): state.withLock { $0.cancelled.append(id) }
        case .send(.statusQuery): if let status = state.withLock({ $0.status }) { hear(.status(status)) }
        case .send, .reconnect: break
        case .ended:
            let waiting = state.withLock { state in
                defer { state.waiting = [] }
                state.hasEnded = true
                return state.waiting
            }
            for continuation in waiting { continuation.resume() }
        }
    }
}

extension GenerationRequest {
    /// Script: this text to every choice, a message a token, and an end.
    func says(_ text: String, ending reason: FinishReason = .stop) -> [FromCoordinator] {
        let tokens = TinyModel.tokens(text).map { EmittedToken(token: $0) } + (reason == .stop ? [EmittedToken(token: TinyModel.turnEnd)] : [])
        return answers(tokens, ending: reason)
    }

    func answers(_ tokens: [EmittedToken], ending reason: FinishReason) -> [FromCoordinator] {
        (0..<UInt32(choices)).flatMap { choice in
            tokens.enumerated().map { index, token in
                FromCoordinator.tokens(TokenBatch(request: id, choice: choice, firstIndex: index, tokens: [token]))
            } + [.finished(id, choice: choice, tokenCount: tokens.count, reason)]
        }
    }
}
