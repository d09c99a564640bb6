import DequeModule

/// A worker's part in one hand-over: what it prepares and receives, what it sends.
///
/// States of what it gets: none (it only gives), preparing, prepared, adopting. Each sender's frames are numbered, so one that was lost shows;
/// each is answered by a receipt once its bytes lie where they belong, and a sender has `Limits.kvFramesOpenMax` frames on their way at
/// most. So neither the link nor the stage thread, which reads and writes blocks between two steps, is ever busy with more than that.
struct WorkerHandover: Sendable {
    enum State: Hashable, Sendable { case none, preparing, prepared, adopting }

    /// Frames from one worker.
    struct Source: Hashable, Sendable {
        let peer: StagePeer
        var lastNumber: UInt64 = 0
    }

    /// Frames to one worker.
    private struct Stream: Hashable, Sendable {
        let peer: StagePeer
        var lastNumber: UInt64 = 0
    }

    private struct Open: Hashable, Sendable {
        var frame: KVFrame
        var to: StagePeer
        var bytes: UInt64 = 0
    }

    let epoch: Epoch
    /// The stage to come; `nil` for a worker that only gives.
    let assignment: StageAssignment?
    var state: State
    var sources: [Source]
    var bytesReported: UInt64 = 0

    private(set) var round = 0
    private var streams: [Stream] = []
    /// What is still to be sent of the round, in order.
    private var pieces: Deque<(frame: KVFrame, to: StagePeer)> = []
    /// Read or travelling, oldest first.
    private var open: [Open] = []
    private(set) var bytesSent: UInt64 = 0
    private var bytesTold: UInt64 = 0

    init(preparing assignment: StageAssignment, sources: [StagePeer]) {
        epoch = assignment.epoch
        self.assignment = assignment
        self.sources = sources.map { Source(peer: $0) }
        state = .preparing
    }

    /// For a worker that only gives.
    init(givingIn epoch: Epoch) {
        self.epoch = epoch
        assignment = nil
        sources = []
        state = .none
    }

    /// Who may connect to this worker's data socket because of it, besides the stage before.
    var peers: [PeerKey] {
        let all = sources.map(\.peer.key) + streams.map(\.peer.key) + (assignment?.upstream.map { [$0] } ?? [])
        return all.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    // MARK: - Giving

    /// A round begins. `false`: the one before it is not over, or it is no round that can come now.
    mutating func begin(_ order: KVOrder) -> Bool {
        guard pieces.isEmpty, open.isEmpty, order.round > round, (1...Limits.kvBlockBytesMax).contains(order.blockBytes) else { return false }
        round = order.round
        for target in order.targets {
            if !streams.contains(where: { $0.peer.key == target.peer.key }) { streams.append(Stream(peer: target.peer)) }
            cut(order, for: target)
        }
        return true
    }

    /// Frames of `Limits.kvFrameBytes` or one block of one layer: whole blocks where they fit, else some layers of one.
    private mutating func cut(_ order: KVOrder, for target: KVTarget) {
        let layersMax = min(target.layers.count, max(1, Limits.kvFrameBytes / order.blockBytes))
        let blocksMax = min(Limits.kvFrameBlocksMax, max(1, Limits.kvFrameBytes / (order.blockBytes * layersMax)))
        for start in stride(from: 0, to: order.blocks.count, by: blocksMax) {
            let blocks = Array(order.blocks[start..<min(start + blocksMax, order.blocks.count)])
            for first in stride(from: target.layers.lowerBound, to: target.layers.upperBound, by: layersMax) {
                let layers = first..<min(first + layersMax, target.layers.upperBound)
                let index = streams.firstIndex { $0.peer.key == target.peer.key }!
                streams[index].lastNumber += 1
                pieces.append((KVFrame(epoch: epoch, number: streams[index].lastNumber, layers: layers, blocks: blocks), target.peer))
            }
        }
    }

    /// The next frame to be read, if one may be.
    mutating func next() -> KVFrame? {
        guard open.count < Limits.kvFramesOpenMax, let piece = pieces.popFirst() else { return nil }
        open.append(Open(frame: piece.frame, to: piece.to))
        return piece.frame
    }

    /// The frame's bytes were read: whom they go to. `nil`: nobody waits for them any more.
    mutating func wasRead(_ frame: KVFrame, bytes: Int) -> StagePeer? {
        guard let index = open.firstIndex(where: { $0.frame == frame && $0.bytes == 0 }) else { return nil }
        open[index].bytes = UInt64(bytes)
        return open[index].to
    }

    /// `false`: no such frame is on its way.
    mutating func received(_ receipt: KVReceipt, from peer: PeerKey) -> Bool {
        guard let index = open.firstIndex(where: { $0.to.key == peer && $0.bytes > 0 }), open[index].frame.number == receipt.number else {
            return false
        }
        bytesSent += open.remove(at: index).bytes
        return true
    }

    var isRoundDone: Bool { round > 0 && pieces.isEmpty && open.isEmpty }

    /// Whether so much was sent since the last time that the coordinator should hear of it.
    mutating func shouldTell() -> Bool {
        guard bytesSent >= bytesTold + Self.tellBytes else { return false }
        bytesTold = bytesSent
        return true
    }

    private static let tellBytes: UInt64 = 16 << 20

    // MARK: - Getting

    enum Arrival: Hashable, Sendable {
        case expected
        case wrong(DropCause)
        /// One before it was lost.
        case gap
    }

    /// A frame of keys and values came.
    mutating func take(_ frame: KVFrame, from peer: PeerKey) -> Arrival {
        guard let assignment, state == .prepared else { return .wrong(.wrongState) }
        guard let index = sources.firstIndex(where: { $0.peer.key == peer }) else { return .wrong(.wrongUpstream) }
        guard !frame.layers.isEmpty, assignment.layers.lowerBound <= frame.layers.lowerBound, frame.layers.upperBound <= assignment.layers.upperBound,
            frame.blocks.allSatisfy({ Int($0.value) < assignment.kvBlocks })
        else { return .wrong(.invalid) }
        guard frame.number > sources[index].lastNumber else { return .wrong(.unknownStep) }
        guard frame.number == sources[index].lastNumber + 1 else { return .gap }
        sources[index].lastNumber = frame.number
        return .expected
    }
}
