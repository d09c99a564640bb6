/// What goes wrong in a simulated cluster. Each seed has a mix of its own (`Scenario.faults`).
package enum Fault: String, CaseIterable, Sendable {
    // Processes
    case workerKilled = "worker-killed"
    /// Killed and back before anybody notices.
    case workerRestarted = "worker-restarted"
    /// Several, one after another, each in the middle of the recovery from the one before.
    case workersInARow = "workers-in-a-row"
    /// SIGTERM.
    case workerEnded = "worker-ended"
    /// SIGTERM with time to hand its layers over.
    case workerLeaves = "worker-leaves"
    /// A person drains it, and takes that back after a while.
    case workerDrained = "worker-drained"
    case coordinatorKilled = "coordinator-killed"
    case coordinatorEnded = "coordinator-ended"
    case gatewayKilled = "gateway-killed"
    case gatewayEnded = "gateway-ended"
    /// SIGSTOP, then SIGCONT: all of a process stands, its clock goes on.
    case processStopped = "process-stopped"
    // Machines
    /// Gone without a word: no connection is closed.
    case hostLost = "host-lost"
    /// As a stopped process, but its clock stands too.
    case hostSuspended = "host-suspended"
    case clockLeaps = "clock-leaps"
    case clockDrifts = "clock-drifts"
    // Stages
    /// The stage thread is stuck for ever, the process lives.
    case stageHangs = "stage-hangs"
    /// Computes many times longer than before, for a while or until the end.
    case stageSlow = "stage-slow"
    case stepFails = "step-fails"
    /// No room for weights: loading fails for a while.
    case diskFull = "disk-full"
    case loadStalls = "load-stalls"
    // Network
    /// A control connection breaks and comes back; what was under way is lost from some point on.
    case controlTailLost = "control-tail-lost"
    /// The same between two stages.
    case rowsTailLost = "rows-tail-lost"
    /// The same between two workers that hand layers over, in the middle of it.
    case blocksTailLost = "blocks-tail-lost"
    /// Nothing passes between a process and the coordinator for a while, either way.
    case linkCut = "link-cut"
    /// Nothing passes in one direction.
    case linkHalfOpen = "link-half-open"
    /// All of a machine's connections, those to other stages too.
    case partition
    case linkSlow = "link-slow"
    case malformedFrame = "malformed-frame"
    case keyRevoked = "key-revoked"
    // Clients
    case clientLeaves = "client-leaves"
    /// One choice is cancelled, because a stop string was found in its text.
    case choiceCancelled = "choice-cancelled"

    /// How often it is drawn, beside others: what takes a whole cluster down hides what the rest would show.
    /// 0: it strikes in moments of its own.
    var weight: Int {
        switch self {
        case .blocksTailLost: 0
        case .workerKilled, .workerRestarted, .workersInARow, .workerLeaves, .workerDrained: 6
        case .stageHangs, .controlTailLost, .rowsTailLost, .clientLeaves: 6
        case .coordinatorEnded, .gatewayEnded, .clockLeaps, .clockDrifts, .malformedFrame: 1
        default: 3
        }
    }
}
