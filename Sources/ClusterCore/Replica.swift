/// One pipeline over workers of its own: its plan, its epochs, the sequences that it runs.
///
/// A replica is a place, not a set of workers: when its epoch ends it is idle and its workers are free, and the next plan over whoever is free
/// takes the first idle place. So a loss ends one replica's epoch and no other's.
package struct Replica: Sendable {
    package var deployment = Deployment()
    package var scheduler: Scheduler
    /// How long its plan is predicted to take; `nil` while it has none.
    package var forecast: PipelineForecast?

    package var watch = PlanWatch()
    package var account = PipelineAccount()

    package init(scheduler: Scheduler) { self.scheduler = scheduler }
}
