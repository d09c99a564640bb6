/// One pipeline over workers of its own: its plan, its epochs, the sequences that it runs.
///
/// A replica is a place, not a set of workers: when its epoch ends it is idle and its workers are free, and the next plan over whoever is free
/// takes the first idle place. So a loss ends one replica's epoch and no other's.
package struct Replica: Sendable {
    package var deployment = Deployment()
    package var scheduler: Scheduler
    /// How long its plan is predicted to take; `nil` while it has none.
    package var forecast: PipelineForecast?

    /// Where the step that is waited for is, as of the last heartbeat.
    var place: StepPlace?
    var patience = StepPatience()
    /// Of this epoch: the last one for which a worker was called slow.
    var lastSlowStep: StepNumber?

    package var watch = PlanWatch()
    package var account = PipelineAccount()
    /// Its layers are moving to another plan.
    package var handover: Handover?
    /// After a hand-over that failed: how long to wait, and until when.
    var handoverRetryMs: UInt64 = 0
    var handoverRetryAt = Instant(nanoseconds: 0)

    /// What its last epoch left, while the next one is being made.
    var remains: Remains?
    /// Rows that its stages keep of what they hand on, by the layer behind. Only ever asked by that.
    var stores: [Int: Scheduler.InputStore] = [:]

    package init(scheduler: Scheduler) { self.scheduler = scheduler }
}
