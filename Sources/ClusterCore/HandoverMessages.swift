// What is said while layers move from worker to worker: orders and reports through the coordinator, keys and values from worker to worker.

/// What the coordinator tells a worker that takes part in a hand-over. `epoch` is the one that the new plan will have.
package enum HandoverOrder: Hashable, Sendable {
    /// Bring the slice of the assignment into memory beside what serves, and keep room for the keys and values that `sources` will send.
    /// Answered by `prepared` or `failed`.
    case prepare(StageAssignment, sources: [StagePeer])
    /// Send keys and values. Answered by `sent` when all have arrived, or by `failed`.
    case send(KVOrder)
    /// Serve the prepared slice under the new epoch from the next step on. Answered by `switched` or `failed`.
    case adopt(Epoch)
    /// Forget what was prepared: the old plan goes on.
    case abandon(Epoch)

    package var epoch: Epoch {
        switch self {
        case .prepare(let assignment, _): assignment.epoch
        case .send(let order): order.epoch
        case .adopt(let epoch), .abandon(let epoch): epoch
        }
    }
}

/// Blocks that a worker sends to others, all of them to each target.
package struct KVOrder: Hashable, Sendable {
    package var epoch: Epoch
    /// Counts the orders of a hand-over, from 1.
    package var round: Int
    /// Ascending.
    package var blocks: [BlockID]
    /// At least one.
    package var targets: [KVTarget]
    /// Of one block of one layer, so that frames can be cut to a size.
    package var blockBytes: Int

    package init(epoch: Epoch, round: Int, blocks: [BlockID], targets: [KVTarget], blockBytes: Int) {
        self.epoch = epoch
        self.round = round
        self.blocks = blocks
        self.targets = targets
        self.blockBytes = blockBytes
    }
}

/// Who gets the keys and values of which layers.
package struct KVTarget: Hashable, Sendable {
    package var peer: StagePeer
    package var layers: Range<Int>

    package init(peer: StagePeer, layers: Range<Int>) {
        self.peer = peer
        self.layers = layers
    }
}

/// What a worker tells the coordinator of a hand-over.
package enum HandoverReport: Hashable, Sendable {
    case prepared(Epoch)
    /// So many bytes of keys and values were taken by their receivers, since the hand-over began: a sign of life.
    case progress(Epoch, bytesSent: UInt64)
    /// All of a round has arrived.
    case sent(Epoch, round: Int, bytesSent: UInt64)
    case switched(Epoch)
    case failed(Epoch, Failure)

    package var epoch: Epoch {
        switch self {
        case .prepared(let epoch), .progress(let epoch, _), .sent(let epoch, _, _), .switched(let epoch), .failed(let epoch, _): epoch
        }
    }
}

/// From worker to worker, over their data sockets.
package enum TransferFrame: Hashable, Sendable {
    /// The bytes of the blocks travel beside it as a payload part.
    case blocks(KVFrame)
    /// The receiver has put a frame's blocks where they belong: the sender may go on.
    case receipt(KVReceipt)
}

/// Keys and values of some blocks in some layers. The payload has them block by block, each layer by layer, bit for bit as they lie in memory.
package struct KVFrame: Hashable, Sendable {
    package var epoch: Epoch
    /// Counts the frames from one worker to another in a hand-over, from 1: a gap shows that one was lost.
    package var number: UInt64
    /// Never empty.
    package var layers: Range<Int>
    /// At least one, at most `Limits.kvFrameBlocksMax`.
    package var blocks: [BlockID]

    package init(epoch: Epoch, number: UInt64, layers: Range<Int>, blocks: [BlockID]) {
        self.epoch = epoch
        self.number = number
        self.layers = layers
        self.blocks = blocks
    }
}

package struct KVReceipt: Hashable, Sendable {
    package var epoch: Epoch
    package var number: UInt64

    package init(epoch: Epoch, number: UInt64) {
        self.epoch = epoch
        self.number = number
    }
}

/// What a person asks of one worker.
package struct DrainRequest: Hashable, Sendable {
    /// The worker's name, or the first digits of its key.
    package var worker: String
    /// Take it back into service instead.
    package var isUndone: Bool

    package init(worker: String, isUndone: Bool = false) {
        self.worker = worker
        self.isUndone = isUndone
    }
}

/// How far a worker's leaving has come.
package struct DrainStatus: Hashable, Sendable {
    package enum State: UInt8, Hashable, Sendable {
        /// No worker of that name is there.
        case unknown = 1
        /// Its layers are being taken over.
        case moving = 2
        /// It holds no layers and gets none.
        case drained = 3
        /// Nobody can take its layers over; it serves on.
        case refused = 4
        /// It is back in service.
        case serving = 5
    }

    package var state: State
    /// One sentence for a person.
    package var detail: String

    package init(_ state: State, _ detail: String) {
        self.state = state
        self.detail = detail
    }
}
