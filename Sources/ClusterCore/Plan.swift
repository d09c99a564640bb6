/// What the planner has to know of a model. All byte counts are of packed weights in memory.
package struct ModelProfile: Hashable, Sendable {
    package var digest: ModelDigest
    package var name: String
    package var layerBytes: [UInt64]
    package var embeddingBytes: UInt64
    /// Bytes read by the output head for each step; equal to `embeddingBytes` when `headIsTied`.
    package var headBytes: UInt64
    /// A tied head on the stage that also embeds costs no further memory.
    package var headIsTied: Bool
    package var hidden: Int
    package var vocabulary: Int
    package var contextTokens: Int
    /// Both K and V of one position of one layer.
    package var kvBytesPerTokenPerLayer: UInt64
    /// End-of-generation tokens, ascending.
    package var endTokens: [TokenID]
    /// Keys and values of a prompt with more tokens than this are others than those of shorter ones with the same beginning (longrope); `nil` where
    /// there is one kind only.
    package var longPromptTokens: Int?
    /// For predicting times.
    package var arithmetic = ModelArithmetic.unknown

    package init(
        digest: ModelDigest, name: String, layerBytes: [UInt64], embeddingBytes: UInt64, headBytes: UInt64, headIsTied: Bool,
        hidden: Int, vocabulary: Int, contextTokens: Int, kvBytesPerTokenPerLayer: UInt64, endTokens: [TokenID]
    ) {
        self.digest = digest
        self.name = name
        self.layerBytes = layerBytes
        self.embeddingBytes = embeddingBytes
        self.headBytes = headBytes
        self.headIsTied = headIsTied
        self.hidden = hidden
        self.vocabulary = vocabulary
        self.contextTokens = contextTokens
        self.kvBytesPerTokenPerLayer = kvBytesPerTokenPerLayer
        self.endTokens = endTokens
    }
}

/// What a worker says it can do, measured by itself at start.
package struct WorkerCapabilities: Hashable, Sendable {
    /// For weights and KV together.
    package var memoryBytes: UInt64
    package var threads: Int
    /// `portable`, `avx2`, `avx512` or `neon`; for people, since results don't depend on it.
    package var isa: String
    package var readBytesPerSecond: Double
    /// What products of quantised weights reach, in 8-bit operations.
    package var opsPerSecond: Double
    /// The peak of f32 multiply-add. 0 from a worker that does not say.
    package var floatOpsPerSecond: Double
    /// The same for all workers of one machine, whose processors and memory they share. 0 from a worker that does not say.
    package var machine: UInt64
    /// What weights may take of the memory; layers beyond are streamed from the worker's disk with every step. 0: all of them are in memory.
    package var weightsMemoryBytes: UInt64 = 0
    /// What reading from that disk was measured to give. 0 from a worker that streams nothing.
    package var diskBytesPerSecond: Double = 0

    package init(
        memoryBytes: UInt64, threads: Int, isa: String, readBytesPerSecond: Double, opsPerSecond: Double, floatOpsPerSecond: Double = 0,
        machine: UInt64 = 0
    ) {
        self.memoryBytes = memoryBytes
        self.threads = threads
        self.isa = isa
        self.readBytesPerSecond = readBytesPerSecond
        self.opsPerSecond = opsPerSecond
        self.floatOpsPerSecond = floatOpsPerSecond
        self.machine = machine
    }
}

/// Who computes which layers, in order. Layer ranges touch, cover every layer once, and are never empty.
package struct Plan: Hashable, Sendable {
    package var stages: [StagePlan]
    /// KV blocks that every stage holds; the smallest stage's room decides.
    package var kvBlocks: Int

    package init(stages: [StagePlan], kvBlocks: Int) {
        self.stages = stages
        self.kvBlocks = kvBlocks
    }
}

package struct StagePlan: Hashable, Sendable {
    package var worker: PeerKey
    package var layers: Range<Int>

    package init(worker: PeerKey, layers: Range<Int>) {
        self.worker = worker
        self.layers = layers
    }
}

/// How keys and values are kept. Part of the deployment, because it changes bits.
package enum KVType: UInt8, Hashable, Sendable, CaseIterable {
    case f16 = 1
    case f32 = 2
    case q8 = 3
}

/// What passes from layer to layer. Part of the deployment, because it changes bits.
package enum BoundaryType: UInt8, Hashable, Sendable, CaseIterable {
    case f32 = 1
    case bf16 = 2

    package var bytesPerValue: Int { self == .f32 ? 4 : 2 }
}

/// One worker's part of a plan, as the coordinator sends it.
package struct StageAssignment: Hashable, Sendable {
    package var epoch: Epoch
    package var stage: Int
    package var stageCount: Int
    package var layers: Range<Int>
    package var kvBlocks: Int
    package var kvType: KVType
    package var boundary: BoundaryType
    package var modelDigest: ModelDigest
    /// Where the coordinator found the model; the worker tries its own `--model` first and checks the digest of either.
    package var modelPath: String
    /// Who sends activations to this stage. On the first one, whose steps come from the coordinator, the last stage, for follow-up steps; `nil` where
    /// there are none.
    package var upstream: PeerKey?
    /// Where this stage pushes its activations. On the last one, which answers the coordinator, the first stage, for follow-up steps; `nil` where
    /// there are none.
    package var downstream: StagePeer?
    /// The keys and values that steps of this epoch left stay, in the layers that the worker had then and still has; whatever it had of another is
    /// void. `nil`: it begins with none.
    package var keeping: Epoch?
    /// Of blocks below this one the stage keeps the rows that it hands on, so that the stage after it can be rebuilt from them.
    package var inputBlocks = 0
    /// On the last stage: the first one begins with follow-up steps that are foretold it.
    package var foretells = false

    package var isFirst: Bool { stage == 0 }
    package var isLast: Bool { stage == stageCount - 1 }

    package init(
        epoch: Epoch, stage: Int, stageCount: Int, layers: Range<Int>, kvBlocks: Int, kvType: KVType, boundary: BoundaryType,
        modelDigest: ModelDigest, modelPath: String, upstream: PeerKey?, downstream: StagePeer?
    ) {
        self.epoch = epoch
        self.stage = stage
        self.stageCount = stageCount
        self.layers = layers
        self.kvBlocks = kvBlocks
        self.kvType = kvType
        self.boundary = boundary
        self.modelDigest = modelDigest
        self.modelPath = modelPath
        self.upstream = upstream
        self.downstream = downstream
    }
}

/// A worker's data socket as its neighbour reaches it.
package struct StagePeer: Hashable, Sendable {
    package var key: PeerKey
    /// ZeroMQ endpoint, `tcp://host:port`.
    package var endpoint: String

    package init(key: PeerKey, endpoint: String) {
        self.key = key
        self.endpoint = endpoint
    }
}
