import ClusterCore
import Wire
import ZeroMQ

/// What a stage does while it waits for a lone stream's next step: it sends itself the step that it had last and takes it apart, over a connection
/// like those that bring steps. While it computed, the layers' weights drove out of the processor's caches all that a step goes through between the
/// kernel and the decoder; after a rehearsal it is there again when the step comes.
///
/// libzmq's thread can't be called to do nothing, and a step is received mostly on that thread and in the kernel: only a message warms them.
struct Rehearsal: ~Copyable {
    /// From one to the next: other threads use the processor meanwhile, with the token before.
    static let intervalNanoseconds: Int64 = 500_000
    /// What a step that decodes brings along: one row of the widest model. A prompt's rows, which may be more, are not sent over and over.
    static let rowsBytesMax = Limits.hiddenMax * 4
    /// Not received yet. More than one waits only where the processor is taken by others.
    static let waitingMax = 2

    private let key: PeerKey
    /// `nil` before the first, and for good where it could not be made.
    private var socket: Socket?
    private var isImpossible = false
    private var frame: StepFrame?
    private var rowsBytes = 0
    private var rows: ActivationBuffer?
    /// So many came back and were gone through.
    private(set) var count: UInt64 = 0

    /// `key`: this worker's own.
    init(key: PeerKey) {
        self.key = key
        socket = nil
    }

    /// What the next rehearsals are like. `rowsBytes`: what came with it from the stage before.
    mutating func computes(_ frame: StepFrame, rowsBytes: Int) {
        guard rowsBytes <= Self.rowsBytesMax else { return }
        self.frame = frame
        self.rowsBytes = rowsBytes
    }

    /// Sends it to `endpoint`, where this worker's data socket listens and admits its own key. Nothing depends on whether it can.
    mutating func send(to endpoint: String, _ context: Context, _ own: CurveKeyPair) {
        guard let frame, !isImpossible else { return }
        var message = Message(copying: WireCodec.encode(frame))
        if rowsBytes > 0 {
            let rows = rowsToSend()
            message.append(Frame(adopting: rows.rows) { _ in withExtendedLifetime(rows) {} })
        }
        do {
            if socket == nil { socket = try Self.connect(to: endpoint, context, own) }
            _ = try socket?.send(&message)
        } catch {
            isImpossible = true
            socket = nil
        }
    }

    /// Whether `message` of `sender` is one, and takes it apart and has `machine` rehearse as if it were a step.
    mutating func receives(_ message: borrowing Message, from sender: PeerKey, at arrived: Instant, by machine: borrowing Worker) -> Bool {
        guard sender == key else { return false }
        guard message.withBytes(of: 0, WireCodec.kindBetweenWorkers) == .step,
            let frame = try? message.withBytes(of: 0, WireCodec.decodeStepFrame)
        else { return true }
        if message.count == 2 { _ = ActivationBuffer(rowsOf: message) }
        _ = machine.rehearsal(after: frame, at: arrived)
        count += 1
        return true
    }

    private mutating func rowsToSend() -> ActivationBuffer {
        if let rows, rows.count == rowsBytes { return rows }
        let made = ActivationBuffer(byteCount: rowsBytes)
        made.rows.initializeMemory(as: UInt8.self, repeating: 0)
        rows = made
        return made
    }

    private static func connect(to endpoint: String, _ context: Context, _ own: CurveKeyPair) throws(ZeroMQError) -> Socket {
        var options = SocketOptions(.curveClient(own, server: own.publicKey))
        options.sendHighWaterMark = waitingMax
        let socket = try Socket(context, .push, options)
        try socket.connect(endpoint)
        return socket
    }
}

extension ActivationBuffer {
    /// Of a message's second part. Copied, because libzmq's memory is not aligned as the kernels ask.
    convenience init(rowsOf message: borrowing Message) {
        self.init(byteCount: message.withBytes(of: 1) { $0.count })
        message.withBytes(of: 1) { rows.copyMemory(from: $0) }
    }
}
