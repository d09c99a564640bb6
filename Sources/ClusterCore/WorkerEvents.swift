/// Names activation bytes that the Node keeps for a machine. Opaque here; the machine says when the bytes may go
/// (`.compute`, `.forward` and `.discard` each hand them back).
package struct PayloadHandle: Hashable, Sendable {
    package let value: UInt64
    package init(_ value: UInt64) { self.value = value }
}

/// What the stage thread made of one step.
package struct StepOutcome: Hashable, Sendable {
    /// Sequences with a NaN or infinity first seen in this stage.
    package var poisoned: [PoisonedSequence]
    /// Only on the last stage: as in `StepResult`.
    package var tokens: [SampledToken]
    package var computeNanoseconds: UInt64
    /// When computing began, on the clock that `Worker.handle` is told; `nil` where nobody measured it.
    package var startedAt: Instant?
    /// As in `StageTiming`.
    package var readBytes: UInt64
    /// As in `StageTiming`.
    package var streamedBytes: UInt64 = 0
    package var streamWaitNanoseconds: UInt64 = 0
    package var streamReadNanoseconds: UInt64 = 0
    /// On the last stage, the token that it foretold the first; `nil`: none.
    package var foretold: TokenID?
    /// On the first stage, so many layers were computed before the step came, and that took so much of `computeNanoseconds`. `startedAt` is after it.
    package var layersBegun = 0
    package var begunNanoseconds: UInt64 = 0

    package init(
        poisoned: [PoisonedSequence] = [], tokens: [SampledToken] = [], computeNanoseconds: UInt64, startedAt: Instant? = nil,
        readBytes: UInt64 = 0
    ) {
        self.poisoned = poisoned
        self.tokens = tokens
        self.computeNanoseconds = computeNanoseconds
        self.startedAt = startedAt
        self.readBytes = readBytes
    }
}

extension Worker {
    package enum Event: Hashable, Sendable {
        /// The socket to the coordinator exists. First event of all.
        case start
        case received(FromCoordinator)
        /// From the data socket. The payload's size is checked against rows × hidden × boundary by the stage thread, not here.
        case activation(StepFrame, payload: PayloadHandle, from: PeerKey)
        /// From the data socket: the last stage's (`Step.followUp`).
        case followUp(Step, from: PeerKey)
        case loadProgressed(Epoch, bytesDone: UInt64, bytesTotal: UInt64)
        /// The stage thread holds the slice of this epoch's assignment, with empty KV memory but for the layers that it kept.
        case loaded(Epoch, kept: Range<Int> = 0..<0)
        case loadFailed(Epoch, Failure)
        /// The stage thread finished a step. `payload` holds the outgoing activations; `nil` on the last stage.
        case stepComputed(Epoch, StepNumber, StepOutcome, payload: PayloadHandle?)
        /// The stage thread could not compute a step.
        case stepFailed(Epoch, StepNumber, Failure)
        /// A frame that `Wire` refused; the key is missing where the transport cannot tell it.
        case malformedFrame(from: PeerKey?)
        /// What `.loadAhead` asked for is in memory; no layers: it can't be.
        case loadedAhead(Range<Int>)
        /// A load needs a model file that is not here; said again until it is.
        case weightsWanted(ModelDigest)
        /// A number that grows while the stage thread gets on with what it does, be it in the middle of a step; told before each heartbeat.
        case workDone(UInt64)
        case deadline
        /// Beside what serves, the slice of this epoch's `.prepare` is in memory, with room for keys and values.
        case prepared(Epoch)
        /// What was asked for this epoch's hand-over could not be done.
        case handoverFailed(Epoch, Failure)
        /// From the data socket. Keys and values have a payload, receipts none.
        case transfer(TransferFrame, payload: PayloadHandle?, from: PeerKey)
        /// The bytes of a `.readBlocks`.
        case blocksRead(KVFrame, payload: PayloadHandle, bytes: Int)
        /// A `.writeBlocks` is done.
        case blocksWritten(KVFrame, from: PeerKey)
        /// The stage thread serves what `.adopt` named.
        case switched(Epoch)
        /// End, but have others take the layers over first, for so many milliseconds at most. A second time: end at once.
        case leave(withinMs: UInt64)
        /// End on purpose: `.leaving` is sent, then `.ended(nil)`.
        case shutdown
    }

    package enum Effect: Hashable, Sendable {
        case send(ToCoordinator)
        /// For the stage thread, behind whatever it is doing: hold this slice, forget all sequences and KV contents, then answer
        /// `.loaded` or `.loadFailed` with the assignment's epoch. If the same layers of the same model lie in memory already, only the KV
        /// memory is made anew, and that of layers whose contents the assignment wants kept (`StageAssignment.keeping`) stays. A later `.load`
        /// or `.unload` makes an unfinished one moot.
        case load(StageAssignment)
        /// Beside everything else and in no hurry: bring the slice's weights into memory, so that a `.load` or `.prepare` of it finds them.
        /// Answered by `.loadedAhead`. Any other command that loads or unloads ends it.
        case loadAhead(StageAssignment)
        /// For the stage thread: free weights and KV.
        case unload
        /// Replace the outgoing data socket; `nil`: close it.
        case connectDownstream(StagePeer?)
        /// Only this key may push activations from now on; `nil`: nobody.
        case admitUpstream(PeerKey?)
        /// For the stage thread. Never more than one is open. `payload` is `nil` on the first stage, which embeds tokens; otherwise it is handed
        /// back with this effect.
        case compute(StepFrame, payload: PayloadHandle?)
        /// Push to the next stage; the payload is handed back with this effect.
        case forward(StepFrame, payload: PayloadHandle)
        /// Push to the first stage.
        case followUp(Step)
        /// Load the slice beside what the stage thread holds and goes on computing with; weights and KV memory that both have are not made twice.
        /// Answered by `.prepared` or `.handoverFailed`; progress as for `.load`. Only one at a time.
        case prepare(StageAssignment)
        /// What `.prepare` made or makes is not needed.
        case dropPrepared
        /// For the stage thread, between two steps: copy these blocks of the stage that serves.
        case readBlocks(KVFrame)
        /// For the stage thread, between two steps: put these bytes into the KV memory that was prepared, where the frame says. Their size is checked
        /// there. The payload is handed back with this effect.
        case writeBlocks(KVFrame, payload: PayloadHandle, from: PeerKey)
        /// For the stage thread: from now on the stage is what was prepared, with the KV contents that the layers kept and got, and no sequence.
        /// What only the old stage had may be freed once `.switched` was reported.
        case adopt(StageAssignment)
        /// Only these keys may push too, besides the one of `.admitUpstream`.
        case admitPeers([PeerKey])
        /// To another worker's data socket, over a connection that is made when there is none. The payload is handed back with this effect.
        case transfer(TransferFrame, payload: PayloadHandle?, to: StagePeer)
        /// The connections made for that are not needed any more.
        case closeTransfers
        /// The payload's bytes are not needed.
        case discard(PayloadHandle)
        /// For whoever said `.weightsWanted`.
        case offerWeights(WeightsOffer)
        /// Only these may ask for weights that are here, from now on.
        case admitFetchers([PeerKey])
        /// Throw the coordinator socket away and make a new one.
        case reconnect
        case log(LogEntry)
        /// Nothing comes after this. With a failure, the process ends with exit code 1.
        case ended(Failure?)
    }
}
