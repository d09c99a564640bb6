/// What went wrong since the coordinator's start, by how it was noticed. A fault that shows in several ways counts for the first.
package struct FaultCounts: Hashable, Sendable {
    /// Workers whose connection ended: dead processes.
    package var connectionsEnded: UInt64 = 0
    /// Workers of whom nothing was heard: stopped processes, dead hosts, cut or half-open links.
    package var workersSilent: UInt64 = 0
    /// Stage threads that did nothing in the middle of a step, though their worker spoke.
    package var stagesStuck: UInt64 = 0
    /// Steps that took far longer than usual in a stage that got on with them. Nothing is done about these.
    package var stagesSlow: UInt64 = 0
    /// Steps that one worker computed and the next did not get.
    package var stageLinksLost: UInt64 = 0
    /// Steps that did not reach the first stage.
    package var stepsNotDelivered: UInt64 = 0
    package var resultsLost: UInt64 = 0

    package init() {}

    /// By name, for people and for `/metrics`.
    package var byKind: [(kind: String, count: UInt64)] {
        [
            ("connection_ended", connectionsEnded), ("silent", workersSilent), ("stage_stuck", stagesStuck), ("stage_slow", stagesSlow),
            ("stage_link_lost", stageLinksLost), ("step_not_delivered", stepsNotDelivered), ("result_lost", resultsLost),
        ]
    }
}
