/// A set of rows that passes through all stages at once: decode rows of some sequences, prefill chunks of others.
///
/// The whole value travels with the activations, stage to stage, so a stage needs no other word from the coordinator.
package struct Step: Hashable, Sendable {
    package var epoch: Epoch
    package var number: StepNumber
    /// Sequences that a stage has not heard of in this epoch; applied before the rows.
    package var opens: [SequenceOpen]
    /// Sequences whose state a stage forgets; applied first.
    package var closes: [SequenceID]
    /// Blocks whose content a stage copies, one after the other; applied before `opens` and rows.
    package var copies: [BlockCopy]
    /// Rows in order. At most one segment a sequence.
    package var segments: [Segment]
    /// `nil`: every stage computes the rows in all its layers. Else they were computed before and some layers lost what they left.
    package var rebuild: Rebuild?
    /// So many steps the stages may add to this one by themselves, one after the other: see `followUp`. More than 0 only where nothing else is under
    /// way, and then nothing is sent until the last of them is back.
    package var followUps = 0

    package var rowCount: Int { segments.reduce(0) { $0 + $1.tokens.count } }

    package init(
        epoch: Epoch, number: StepNumber, opens: [SequenceOpen] = [], closes: [SequenceID] = [], copies: [BlockCopy] = [], segments: [Segment],
        rebuild: Rebuild? = nil
    ) {
        self.epoch = epoch
        self.number = number
        self.opens = opens
        self.closes = closes
        self.copies = copies
        self.segments = segments
        self.rebuild = rebuild
    }

    /// The step after this one, whose rows gave these tokens, one to each segment.
    ///
    /// The last stage sends it to the first, and tells the coordinator with its result. So a stream that runs alone waits for two hops a token and
    /// not for three, and not for the coordinator.
    func followUp(_ tokens: [SampledToken]) -> Step {
        var step = Step(
            epoch: epoch, number: StepNumber(number.value + 1),
            segments: tokens.map { Segment(sequence: $0.sequence, start: $0.position, tokens: [$0.emitted.token], newBlocks: [], samples: true) })
        step.followUps = followUps - 1
        return step
    }

    /// Whether it has rows only, one of each sequence, for which nothing need be known but what the stages know.
    package var canBeFollowUp: Bool {
        opens.isEmpty && closes.isEmpty && copies.isEmpty && rebuild == nil && !segments.isEmpty
            && segments.allSatisfy { $0.tokens.count == 1 && $0.newBlocks.isEmpty && $0.samples }
    }
}

/// Copy on write: a sequence that shares its past up to the middle of a block gets that block's content in one of its own.
package struct BlockCopy: Hashable, Sendable {
    package var from: BlockID
    package var to: BlockID

    package init(from: BlockID, to: BlockID) {
        self.from = from
        self.to = to
    }
}

/// All that the last stage must know to sample a sequence, and every stage to place its keys and values.
package struct SequenceOpen: Hashable, Sendable {
    package var sequence: SequenceID
    /// Index of the choice in its request: part of the random numbers' counter.
    package var choice: UInt32
    /// Prompt, then what was generated so far. Penalties look at these.
    package var tokens: [TokenID]
    package var promptLength: Int
    /// Positions whose keys and values are in the first blocks already: its first row is this position. Less than `tokens` has.
    package var cached: Int
    package var sampling: SamplingParameters
    /// The model's end tokens plus the request's stop tokens, ascending: what `minTokens` forbids.
    package var endTokens: [TokenID]
    package var topLogprobs: Int?

    package init(
        sequence: SequenceID, choice: UInt32, tokens: [TokenID], promptLength: Int, cached: Int = 0, sampling: SamplingParameters,
        endTokens: [TokenID], topLogprobs: Int?
    ) {
        self.sequence = sequence
        self.choice = choice
        self.tokens = tokens
        self.promptLength = promptLength
        self.cached = cached
        self.sampling = sampling
        self.endTokens = endTokens
        self.topLogprobs = topLogprobs
    }
}

/// Consecutive positions of one sequence.
package struct Segment: Hashable, Sendable {
    package var sequence: SequenceID
    /// Absolute position of `tokens[0]`.
    package var start: Int
    package var tokens: [TokenID]
    /// Blocks that join the end of the sequence's table, before these rows are written.
    package var newBlocks: [BlockID]
    /// Whether the logits of the last known row are sampled.
    package var samples: Bool
    /// So many of `tokens`, the last ones, are guesses of what will be sampled; only a segment that samples has any. The last stage draws a
    /// token of the last known row, then of each guess's row as long as the token before it was that guess. The sequence goes on behind the
    /// last guess that was right: its next segment may start up to so many positions before this one's end.
    package var drafts: Int

    package init(sequence: SequenceID, start: Int, tokens: [TokenID], newBlocks: [BlockID], samples: Bool, drafts: Int = 0) {
        self.sequence = sequence
        self.start = start
        self.tokens = tokens
        self.newBlocks = newBlocks
        self.samples = samples
        self.drafts = drafts
    }
}

/// A step on its way between two stages; the activation bytes travel beside it as a payload part.
package struct StepFrame: Hashable, Sendable {
    package var step: Step
    /// One entry for each stage passed.
    package var timings: [StageTiming]
    /// Sequences with a NaN or infinity in a row, and the layers in which it was first seen.
    package var poisoned: [PoisonedSequence]

    package init(step: Step, timings: [StageTiming] = [], poisoned: [PoisonedSequence] = []) {
        self.step = step
        self.timings = timings
        self.poisoned = poisoned
    }
}

/// What one stage measured of one step, as durations of its own monotonic clock: clocks of two machines are never compared.
/// How they make a timeline: `StepTimeline`.
package struct StageTiming: Hashable, Sendable {
    /// From the frame's arrival, its rows with it, to the start of its computing.
    package var queueNanoseconds: UInt64
    package var computeNanoseconds: UInt64
    /// How long the stage thread had nothing to compute before this step: from the end of the step before it, or of loading. 0 where it was
    /// not measured.
    package var idleNanoseconds: UInt64
    /// From the end of computing until the frame was handed to the socket. 0 where it was not measured.
    package var handOverNanoseconds: UInt64
    /// Weights, keys and values that it had to read, each counted once. 0 where nobody counted.
    package var readBytes: UInt64
    /// Weights that came from disk since the step before, for this one or ahead; 0 where all are in memory.
    package var streamedBytes: UInt64 = 0
    /// Of its computing, the time in which it waited for them.
    package var streamWaitNanoseconds: UInt64 = 0
    /// In which some of them were being read: what the disk gave while it was asked. 0 from a worker that does not say.
    package var streamReadNanoseconds: UInt64 = 0
    /// Of its computing, what was done before the step came, because it was foretold.
    package var begunNanoseconds: UInt64 = 0

    package init(
        queueNanoseconds: UInt64, computeNanoseconds: UInt64, idleNanoseconds: UInt64 = 0, handOverNanoseconds: UInt64 = 0, readBytes: UInt64 = 0
    ) {
        self.queueNanoseconds = queueNanoseconds
        self.computeNanoseconds = computeNanoseconds
        self.idleNanoseconds = idleNanoseconds
        self.handOverNanoseconds = handOverNanoseconds
        self.readBytes = readBytes
    }
}

package struct PoisonedSequence: Hashable, Sendable {
    package var sequence: SequenceID
    package var layers: Range<Int>

    package init(sequence: SequenceID, layers: Range<Int>) {
        self.sequence = sequence
        self.layers = layers
    }
}

/// What the last stage tells the coordinator of a step.
package struct StepResult: Hashable, Sendable {
    package var epoch: Epoch
    package var number: StepNumber
    /// For each sampling segment that was not poisoned, in the segments' order: one entry, and one more for each guess that was right.
    package var tokens: [SampledToken]
    package var poisoned: [PoisonedSequence]
    package var timings: [StageTiming]
    /// The step's follow-up is on its way to the first stage.
    package var isFollowed = false

    package init(epoch: Epoch, number: StepNumber, tokens: [SampledToken], poisoned: [PoisonedSequence], timings: [StageTiming]) {
        self.epoch = epoch
        self.number = number
        self.tokens = tokens
        self.poisoned = poisoned
        self.timings = timings
    }
}

package struct SampledToken: Hashable, Sendable {
    package var sequence: SequenceID
    /// Absolute position that the token takes in its sequence.
    package var position: Int
    package var emitted: EmittedToken

    package init(sequence: SequenceID, position: Int, emitted: EmittedToken) {
        self.sequence = sequence
        self.position = position
        self.emitted = emitted
    }
}
