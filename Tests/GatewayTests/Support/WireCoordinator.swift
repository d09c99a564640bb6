import ClusterCore
import Foundation
import Synchronization
import Wire
import ZeroMQ

/// A coordinator on a real socket: CURVE, access list, frames. It knows one answer to everything.
final class WireCoordinator: Sendable {
    private struct State {
        var heard: [ToCoordinator] = []
        var isEnding = false
        var hasEnded = false
    }

    let keys: CurveKeyPair
    let endpoint: String
    private let state = Mutex(State())
    /// In the headers of what it says.
    private let major: UInt32

    /// - Parameters:
    ///   - admitted: the one key that may connect.
    ///   - answer: what is said to each submission.
    init(
        admitting admitted: CurvePublicKey, major: UInt32 = ProtocolVersion.current.major,
        answer: @escaping @Sendable (GenerationRequest) -> [FromCoordinator]
    ) async throws {
        let keys = try CurveKeyPair.generate()
        self.keys = keys
        self.major = major
        let bound = Slot<Result<String, any Error>>()
        let isBound = DispatchSemaphore(value: 0)
        let runner = Slot<WireCoordinator>()
        Thread.detachNewThread {
            do {
                let context = try Context()
                var list = try AccessList(context, domain: "test")
                list.admit(admitted)
                let socket = try Socket(context, .router, SocketOptions(.curveServer(keys, domain: "test")))
                bound.value = .success(try socket.bind("tcp://127.0.0.1:*"))
                isBound.signal()
                while runner.value == nil { usleep(1_000) }
                try runner.value!.run(socket, &list, answer)
            } catch {
                bound.value = .failure(error)
                isBound.signal()
            }
        }
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                isBound.wait()
                continuation.resume()
            }
        }
        endpoint = try bound.value!.get()
        runner.value = self
    }

    var heard: [ToCoordinator] { state.withLock { $0.heard } }
    var hasEnded: Bool { state.withLock { $0.hasEnded } }
    func end() { state.withLock { $0.isEnding = true } }

    private func run(_ socket: borrowing Socket, _ list: inout AccessList, _ answer: (GenerationRequest) -> [FromCoordinator]) throws {
        var poller = Poller()
        while !state.withLock({ $0.isEnding }) {
            poller.removeAll()
            _ = poller.watch(socket)
            _ = poller.watch(list.socket)
            _ = try poller.wait(milliseconds: 5)
            try list.answerPending()
            while var message = try socket.receive() {
                let peer = message.removeFirst().bytes
                let said = try message.withBytes(of: 0) { try WireCodec.decodeToCoordinator($0) }
                state.withLock { $0.heard.append(said) }
                for reply in replies(to: said, answer) { try send(reply, to: peer, socket) }
            }
        }
        state.withLock { $0.hasEnded = true }
    }

    private func replies(to said: ToCoordinator, _ answer: (GenerationRequest) -> [FromCoordinator]) -> [FromCoordinator] {
        switch said {
        case .gatewayHello: [.gatewayWelcome(TinyModel.welcome())]
        case .heartbeat(let heartbeat): [.heartbeatReply(heartbeat)]
        case .submit(let request): answer(request)
        default: []
        }
    }

    private func send(_ reply: FromCoordinator, to peer: [UInt8], _ socket: borrowing Socket) throws {
        var message = Message()
        message.append(copying: peer)
        var frame = WireCodec.encode(reply)
        frame[4] = UInt8(major)
        message.append(copying: frame)
        if case .gatewayWelcome = reply { message.append(copying: TinyModel.header()) }
        _ = try socket.send(message)
    }
}
