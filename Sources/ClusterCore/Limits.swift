/// Every bound of the cluster's machines and messages, by name and with its unit.
///
/// `Wire` refuses a frame that is over one of these before it reaches a machine.
package enum Limits {
    package static let positionsPerBlock = 32
    package static let stepRowsMax = 512
    package static let stepSegmentsMax = 512
    /// Epochs above this are refused, so that adding one to an epoch never overflows.
    package static let epochMax: UInt64 = 1 << 62
    package static let stagesMax = 256
    package static let layersMax = 1024
    package static let hiddenMax = 65_536
    package static let vocabularyMax = 1 << 20
    package static let contextTokensMax = 1 << 20
    package static let choicesMax = 128
    package static let logitBiasMax = 1024
    package static let stopTokensMax = 64
    package static let topLogprobsMax = 20
    package static let nameBytesMax = 256
    package static let endpointBytesMax = 256
    package static let messageBytesMax = 4096
    package static let pathBytesMax = 4096
    package static let modelHeaderBytesMax = 64 << 20
    package static let controlFrameBytesMax = 16 << 20
    package static let workersMax = 256
    package static let replicasMax = 64
    package static let gatewaysMax = 256
    /// Tokens that go to a gateway in one message.
    package static let tokensPerBatchMax = 1024
    /// Steps that wait for a worker's stage thread.
    package static let stepsQueuedMax = 1024
    /// Requests that a gateway has open at once.
    package static let requestsOpenMax = 4096
    package static let requestsWaitingMax = 1024
    package static let sequencesRunningMax = 256
    /// Of tenants that take turns, 100 times the share of another at most.
    package static let tenantWeightMax = 100
    /// Tenants without work whose past is remembered.
    package static let tenantsRememberedMax = 4096
    /// Tenants that a status report names.
    package static let tenantsReportedMax = 64
    /// Of its tenant's waiting requests, the one that came first is overtaken by higher priority so often in a row.
    package static let overtakesMax = 16
    /// Rows that may be computed again for each row computed, to give a place to a tenant that has none.
    package static let displacedShare = 0.5
    /// What a client is told to wait at most; the usual ones wait for no more than this.
    package static let retryAfterSecondsMax = 120
    /// Thirty years: a wait of more is as good as for ever.
    package static let expectedWaitMsMax: UInt64 = 1_000_000_000_000
    package static let heartbeatIntervalMs: UInt64 = 250
    /// A worker or gateway gives a silent coordinator up after so long, and makes a new connection. Less than the coordinator takes for them: where
    /// only its words are lost, it learns of it by their silence behind this.
    package static let coordinatorSilenceMs: UInt64 = 1_200
    /// And takes a connection for dead on which its hello is not answered for so long: a handshake is some round trips of a slow network.
    package static let greetingTimeoutMs: UInt64 = 3_000
    /// The coordinator gives a silent worker up after so long: a process that is stopped or a link that is cut shows within two seconds. Where only
    /// the coordinator's words are lost, TCP still brings what the worker says until it repeats itself for want of an answer: half a second more.
    package static let workerSilenceMs: UInt64 = 1_400
    package static let loadProgressTimeoutMs: UInt64 = 60_000
    package static let stepDeadlineFloorMs: UInt64 = 10_000
    /// A stage thread that is in a step and does nothing for so long is stuck, unless its layers take very long. Far longer than a busy machine
    /// leaves a thread without a processor; with one interval of heartbeats still within two seconds.
    package static let stuckDeadlineFloorMs: UInt64 = 1_500
    /// Of a step that a stage has not received: that is not for want of time.
    package static let linkDeadlineFloorMs: UInt64 = 1_250
    /// The same of an epoch's first step, for which the connection is made: some round trips of a slow network.
    package static let linkFirstFloorMs: UInt64 = 3_000
    /// Between two lines of the log about the same slow worker, and how long a status calls it slow.
    /// Steps that stages may add to one by themselves, and for how long they may keep others' steps waiting.
    package static let followUpsMax = 4
    package static let followUpsMs: UInt64 = 20
    package static let slowWorkerLogIntervalMs: UInt64 = 60_000
    package static let slowWorkerShownMs: UInt64 = 10_000
    package static let recoveryWaitMs: UInt64 = 300_000
    package static let planSettleMs: UInt64 = 1_000
    /// Of keys and values in one frame, unless one block of one layer has more: what a decode step may have to wait for.
    package static let kvFrameBytes = 256 << 10
    /// Of one block of one layer: the widest model's, in f32.
    package static let kvBlockBytesMax = 2 * positionsPerBlock * hiddenMax * 4
    package static let kvFrameBlocksMax = 256
    /// Frames of keys and values that a worker has on their way: one travels while the next is read.
    package static let kvFramesOpenMax = 2
    /// Rounds in which changed blocks are sent again before the last one, for which steps wait.
    package static let handoverRoundsMax = 6
    /// How long steps may wait for the last blocks of a hand-over, and how long its workers may take to change over.
    package static let handoverPauseMs: UInt64 = 5_000
    /// Without a sign of progress a hand-over is given up after so long.
    package static let handoverSilenceMs: UInt64 = 10_000
    /// After one that failed the next is tried no sooner; doubled each time, up to the second.
    package static let handoverRetryMs: UInt64 = 2_000
    package static let handoverRetryMaxMs: UInt64 = 60_000
    /// Tokens of sequences that one step may make known to the stages.
    package static let stepOpenTokensMax = 1 << 20
    // Weights from peers.
    package static let modelPartsMax = 10_000
    /// Of a folder's file, as file systems have it.
    package static let partNameBytesMax = 255
    package static let tensorsMax = 65_536
    package static let dimensionsMax = 4
    /// A part's file: 16 TiB.
    package static let partBytesMax = 1 << 44
    /// At 4 MiB each, 1 TiB of model; their hashes are 8 MiB.
    package static let manifestChunksMax = 1 << 18
    package static let manifestBytesMax = 15 << 20
    /// Between two questions of a fetching worker for sources.
    package static let weightsQueryIntervalMs: UInt64 = 2_000
}
