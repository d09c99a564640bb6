/// What `staffel status` shows of one replica of the pipeline; its workers name it in their `WorkerStatus`.
package struct ReplicaStatus: Hashable, Sendable {
    /// Its place: stays the same over its epochs.
    package var index: Int
    package var epoch: Epoch
    /// Otherwise its workers load.
    package var isServing: Bool
    package var sequencesRunning: Int
    /// For another's prefill of the same beginning.
    package var sequencesWaiting: Int
    /// Rows of prompts that still have to be sent.
    package var prefillRowsPending: Int
    package var kvBlocksUsed: Int
    package var kvBlocksTotal: Int
    package var stepsInFlight: Int

    package init(
        index: Int, epoch: Epoch, isServing: Bool, sequencesRunning: Int, sequencesWaiting: Int, prefillRowsPending: Int, kvBlocksUsed: Int,
        kvBlocksTotal: Int, stepsInFlight: Int
    ) {
        self.index = index
        self.epoch = epoch
        self.isServing = isServing
        self.sequencesRunning = sequencesRunning
        self.sequencesWaiting = sequencesWaiting
        self.prefillRowsPending = prefillRowsPending
        self.kvBlocksUsed = kvBlocksUsed
        self.kvBlocksTotal = kvBlocksTotal
        self.stepsInFlight = stepsInFlight
    }
}
