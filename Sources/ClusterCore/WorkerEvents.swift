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

    package init(
        poisoned: [PoisonedSequence] = [], tokens: [SampledToken] = [], computeNanoseconds: UInt64, startedAt: Instant? = nil
    ) {
        self.poisoned = poisoned
        self.tokens = tokens
        self.computeNanoseconds = computeNanoseconds
        self.startedAt = startedAt
    }
}

extension Worker {
    package enum Event: Hashable, Sendable {
        /// The socket to the coordinator exists. First event of all.
        case start
        case received(FromCoordinator)
        /// From the data socket. The payload's size is checked against rows × hidden × boundary by the stage thread, not here.
        case activation(StepFrame, payload: PayloadHandle, from: PeerKey)
        case loadProgressed(Epoch, bytesDone: UInt64, bytesTotal: UInt64)
        /// The stage thread holds the slice of this epoch's assignment, with empty KV memory.
        case loaded(Epoch)
        case loadFailed(Epoch, Failure)
        /// The stage thread finished a step. `payload` holds the outgoing activations; `nil` on the last stage.
        case stepComputed(Epoch, StepNumber, StepOutcome, payload: PayloadHandle?)
        /// The stage thread could not compute a step.
        case stepFailed(Epoch, StepNumber, Failure)
        /// A frame that `Wire` refused; the key is missing where the transport cannot tell it.
        case malformedFrame(from: PeerKey?)
        /// A load needs a model file that is not here; said again until it is.
        case weightsWanted(ModelDigest)
        case deadline
        /// End on purpose: `.leaving` is sent, then `.ended(nil)`.
        case shutdown
    }

    package enum Effect: Hashable, Sendable {
        case send(ToCoordinator)
        /// For the stage thread, behind whatever it is doing: hold this slice, forget all sequences and KV contents, then answer
        /// `.loaded` or `.loadFailed` with the assignment's epoch. If the same layers of the same model lie in memory already, only the KV
        /// memory is made anew. A later `.load` or `.unload` makes an unfinished one moot.
        case load(StageAssignment)
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
