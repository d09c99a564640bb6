/// The rows that a stage computes together, and what it must know before: the engine's form of the cluster's step.
///
/// Applied in the order of the fields. Each sequence goes through all stages with the same batches.
package struct StageBatch: Sendable {
    /// Sequences to forget; their blocks are free from here on. One that the stage does not know is already forgotten.
    package var closes: [UInt64]
    /// KV blocks whose content goes into others, one copy after the other. A block that is written so belongs to nobody yet.
    package var copies: [BlockCopy]
    package var opens: [SequenceOpening]
    /// Rows in order; at most one segment a sequence.
    package var segments: [BatchSegment]
    /// Sequences in which an earlier stage saw a NaN or an infinity: no token is drawn for them and they are not reported again.
    package var poisoned: [UInt64]
    /// Rows that were computed before, of which some layers lost what they left.
    package var rebuild: BatchRebuild?
    /// Whether `Stage.foretell` is to hear, on the last stage, which token will probably be drawn; only of a batch of one row.
    package var isForetold = false

    package var rowCount: Int {
        var rows = 0
        for segment in segments { rows += segment.tokens.count }
        return rows
    }

    package struct BlockCopy: Hashable, Sendable {
        package var from: Int32
        package var to: Int32

        package init(from: Int32, to: Int32) {
            self.from = from
            self.to = to
        }
    }

    package init(
        closes: [UInt64] = [], copies: [BlockCopy] = [], opens: [SequenceOpening] = [], segments: [BatchSegment], poisoned: [UInt64] = []
    ) {
        self.closes = closes
        self.copies = copies
        self.opens = opens
        self.segments = segments
        self.poisoned = poisoned
    }
}

/// Only these layers of the model are computed; nothing is drawn.
package struct BatchRebuild: Hashable, Sendable {
    package var layers: Range<Int>
    /// The stage that has the layer before these takes their inputs from the rows that it kept. Else the layers before make them.
    package var hasInputs: Bool

    package init(layers: Range<Int>, hasInputs: Bool) {
        self.layers = layers
        self.hasInputs = hasInputs
    }

    /// The layers that the rows pass through.
    package var computed: Range<Int> { (hasInputs ? layers.lowerBound : 0)..<layers.upperBound }
}

/// All that a stage must know of a sequence before its first row.
package struct SequenceOpening: Sendable {
    package var sequence: UInt64
    /// Prompt, then what was generated before this opening. Penalties look at these. Never empty.
    package var tokens: [Int32]
    /// How many of `tokens` are the prompt.
    package var promptLength: Int
    /// Positions whose keys and values are in the first blocks already, left by another sequence with the same tokens; less than all.
    package var cached: Int
    package var sampling: SamplingSettings
    /// Index of the choice in its request: part of the random numbers' counter.
    package var choice: UInt32
    /// What `sampling.minTokens` forbids, ascending.
    package var endTokens: [Int32]
    /// nil: no log-probabilities. Otherwise the drawn token's own and so many alternatives, 0...`Sampler.topLogprobsMax`.
    package var topLogprobs: Int?

    package init(
        sequence: UInt64, tokens: [Int32], promptLength: Int, cached: Int = 0, sampling: SamplingSettings = .greedy, choice: UInt32 = 0,
        endTokens: [Int32] = [], topLogprobs: Int? = nil
    ) {
        self.sequence = sequence
        self.tokens = tokens
        self.promptLength = promptLength
        self.cached = cached
        self.sampling = sampling
        self.choice = choice
        self.endTokens = endTokens
        self.topLogprobs = topLogprobs
    }
}

/// Consecutive positions of one sequence.
package struct BatchSegment: Sendable {
    package var sequence: UInt64
    /// Absolute position of `tokens[0]`; positions follow each other without gaps or overlaps, but for guesses that were wrong.
    package var start: Int
    /// Never empty.
    package var tokens: [Int32]
    /// KV blocks that join the end of the sequence's table before these rows are written.
    package var newBlocks: [Int32]
    /// Whether a token is drawn after the last known row. That row must be the last known position of the sequence.
    package var samples: Bool
    /// So many of `tokens`, the last ones, are guesses; only where the segment samples. A token is drawn after the last known row, then after each
    /// guess as long as the token before was that guess. The next segment starts behind the last guess that was right: what the others left
    /// in KV memory lies beyond the sequence's end, and is overwritten.
    package var drafts: Int

    package init(sequence: UInt64, start: Int, tokens: [Int32], newBlocks: [Int32], samples: Bool, drafts: Int = 0) {
        self.sequence = sequence
        self.start = start
        self.tokens = tokens
        self.newBlocks = newBlocks
        self.samples = samples
        self.drafts = drafts
    }
}

/// What a stage has to say of a batch, beside the rows that it hands on.
package struct StageResult: Sendable {
    /// Sequences in whose rows this stage was the first to see a NaN or an infinity. No token was drawn for them.
    package var poisoned: [PoisonedRows] = []
    /// On the last stage, for each sampling segment that is not poisoned, in the segments' order: one entry, and one more for each guess that
    /// was right.
    package var samples: [SequenceSample] = []
    /// What `Stage.foretell` was told and made use of.
    package var foretold: Int32?
    /// Layers that were computed before the batch came (`Stage.begin`).
    package var layersBegun = 0
}

package struct PoisonedRows: Hashable, Sendable {
    package var sequence: UInt64
    /// The layers of the stage that saw it.
    package var layers: Range<Int>
}

package struct SequenceSample: Hashable, Sendable {
    package var sequence: UInt64
    /// Absolute position that the token takes.
    package var position: Int
    package var token: SampledToken
}
