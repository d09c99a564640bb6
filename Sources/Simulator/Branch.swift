/// What a cluster may do when something goes wrong, as far as it shows in messages and log lines. The simulator counts how often each was
/// taken; one that never is would be untested.
package enum Branch: String, CaseIterable, Sendable {
    // Workers, as the coordinator sees them
    case workerLeft = "worker lost: it left"
    case workerRestartedSeen = "worker lost: another process has its key"
    case workerDisconnected = "worker lost: its connection ended"
    case workerRevoked = "worker lost: its key was revoked"
    case workerSilent = "worker lost: it fell silent"
    case workerSlow = "a slow worker is told from a stuck one"
    case workerUnstuck = "a stage thread that was stuck goes on"
    case workerAsked = "a late worker is asked for a sign of life"
    case workerGreetedAgain = "a worker reconnects and stays"
    case helloDemanded = "an unknown peer is told to say hello"
    case standbyJoined = "a worker joins as a standby"
    case released = "a standby's slice is released"
    case forgottenReleased = "a slice is released that its worker's hello did not name"
    // Gateways, as the coordinator sees them
    case gatewayLeft = "gateway lost: it left"
    case gatewayRestartedSeen = "gateway lost: another process has its key"
    case gatewayGone = "gateway lost: it did not come back"
    case gatewayRevoked = "gateway lost: its key was revoked"
    // The end of an epoch
    case endedByLoss = "epoch ends: a worker is lost"
    case endedByReconnect = "epoch ends: a worker reconnected"
    case endedByResult = "epoch ends: a result was lost"
    case endedByFrame = "epoch ends: a stage missed a step"
    case endedByOverdue = "epoch ends: a step is overdue"
    case endedByStuck = "epoch ends: a stage thread is stuck in a step"
    case endedByLink = "epoch ends: a link between stages lost a step"
    case endedByStep = "epoch ends: a stage failed a step"
    case endedByLoad = "epoch ends: a worker could not load"
    case endedByStall = "epoch ends: a worker loads no further"
    case endedByHandover = "epoch ends: workers did not all change over"
    case endedByLeaving = "epoch ends: a worker wants to leave while slices are loaded"
    case endedWhileLoading = "an epoch ends before all have loaded"
    case endedWhileProving = "an epoch ends before its probe is back"
    case endedBesideOthers = "one replica's epoch ends while another serves"
    // Several failures in a row
    case diedAtOnce = "another worker dies: at once"
    case diedWhileLoading = "another worker dies: while the next plan is loaded"
    case diedWhileProving = "another worker dies: while the next plan's probe is under way"
    case diedWhileRebuilding = "another worker dies: while lost layers are rebuilt"
    case diedAfterwards = "another worker dies: when the next plan serves"
    // The next plan
    case noPlan = "no plan fits the workers left"
    case narrower = "the next plan has fewer stages"
    case wider = "the next plan has more stages"
    case sameWidth = "the next plan has as many stages, over others"
    case recut = "the layers are cut anew for measured speeds"
    case recutBeside = "the same by a hand-over"
    case recutUnnoticed = "the same while nobody waits"
    case secondReplica = "a second replica serves"
    case planHeld = "a restarted coordinator finds the plan that workers hold"
    case planHeldBeside = "the same of another replica"
    case sliceKept = "a worker finds its slice in memory"
    case sliceAhead = "a worker finds the slice that it loaded ahead"
    case loadedAhead = "a standby has loaded a stage ahead"
    case assignedAgain = "an assignment is repeated"
    case loadedAgain = "a loaded stage is reported again"
    // Hand-overs
    case handedOver = "layers are handed over while streams run"
    case blocksHandedOver = "layers are handed over with keys and values"
    case handoverGivenUp = "a hand-over is given up; the old plan goes on"
    case handoverImpossible = "layers can't be handed over for want of memory"
    case drained = "a worker is drained"
    case drainRefused = "a worker can't be drained: nobody takes its layers"
    // What is left of a past
    case pastKept = "streams keep what is left of their past"
    case pastWhole = "streams keep all of their past: no layer was lost"
    case lostAgain = "layers are lost while others are rebuilt"
    case rebuiltFirst = "lost layers are rebuilt from tokens: the first ones"
    case rebuiltThrough = "lost layers are rebuilt through the layers before"
    case rebuiltFromInputs = "lost layers are rebuilt from rows that were kept"
    case rebuiltBeside = "lost layers are rebuilt while another stream decodes"
    // Sequences
    case rebuilt = "a sequence is rebuilt from prompt and tokens"
    case preempted = "a sequence gives up its blocks"
    case displaced = "a sequence gives way to another tenant"
    case prefixShared = "a beginning is shared"
    case blockCopied = "a block is copied on write"
    case guessRight = "a guess is right"
    case guessWrong = "a guess is wrong"
    case poisoned = "a request ends with a number that is none"
    // Requests
    case resumed = "a request comes with tokens it has"
    case resumedAtEnd = "a request comes with all its tokens"
    case sentAgain = "tokens are sent again"
    case submittedAfterWelcome = "a gateway submits again after a reconnect"
    case submittedAfterGap = "a gateway submits again after a gap"
    case submittedAfterSilence = "a gateway submits again after silence"
    case strayCancelled = "tokens of nobody's request are answered with a cancel"
    case cancelledChoiceAgain = "a choice's cancel is repeated"
    case paused = "a stream is told of a pause"
    case noCapacity = "a request ends for want of workers"
    case noCoordinator = "a request ends for want of a coordinator"
    case queueFull = "a request is refused: too many"
    case shutDown = "a request ends with a shutdown"
    case wentOn = "a request takes over the tokens of an earlier one"
    case otherGateway = "a stream goes on through another gateway"
    // Workers
    case stepsSuperseded = "a stage thread leaves out a step of an old epoch"
    case loadSuperseded = "a stage thread stops an old load"
    case followedUp = "stages add a step by themselves"
    case followUpOvertaken = "a step waits for a follow-up that it overtook"
    case workerReconnects = "a worker replaces its connection"
    case gatewayReconnects = "a gateway replaces its connection"
    case handshakeRefused = "a stage does not admit the one before it"
    // Dropped
    case droppedOldEpochRows = "dropped by a worker: rows of an old epoch"
    case droppedWrongState = "dropped by a worker: it has no such stage"
    case droppedWrongUpstream = "dropped by a worker: rows from another than the stage before"
    case droppedUnknownStep = "dropped by a worker: a step out of turn"
    case droppedOldEpoch = "dropped by the coordinator: a word of an old epoch"
    case droppedUnknownPeer = "dropped by the coordinator: a word of a stranger"
    case droppedMalformed = "dropped: a frame that is none"
    case droppedUnknownRequest = "dropped by a gateway: news of no request"
}

/// How often each fault was made and each branch of recovery was taken.
package struct Coverage: Sendable {
    package private(set) var faults = [UInt64](repeating: 0, count: Fault.allCases.count)
    package private(set) var branches = [UInt64](repeating: 0, count: Branch.allCases.count)

    package init() {}

    private static let faultPlaces = Dictionary(uniqueKeysWithValues: zip(Fault.allCases, 0...))
    private static let branchPlaces = Dictionary(uniqueKeysWithValues: zip(Branch.allCases, 0...))

    mutating func count(_ fault: Fault) { faults[Self.faultPlaces[fault]!] += 1 }
    mutating func count(_ branch: Branch, times: UInt64 = 1) { branches[Self.branchPlaces[branch]!] += times }

    package subscript(fault: Fault) -> UInt64 { faults[Self.faultPlaces[fault]!] }
    package subscript(branch: Branch) -> UInt64 { branches[Self.branchPlaces[branch]!] }

    package static func += (sum: inout Coverage, more: Coverage) {
        for place in sum.faults.indices { sum.faults[place] += more.faults[place] }
        for place in sum.branches.indices { sum.branches[place] += more.branches[place] }
    }
}
