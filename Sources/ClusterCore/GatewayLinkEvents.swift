/// What a stream's consumer sees. After `.failed`, or `.finished` for every choice, nothing comes.
package enum StreamEvent: Hashable, Sendable {
    /// The next tokens of a choice, oldest first; never a token twice, never a gap.
    case tokens(choice: UInt32, [EmittedToken])
    case finished(choice: UInt32, FinishReason)
    /// Ends the whole request.
    case failed(Failure)
    /// The cluster recovers; the stream goes on later. The text is for people.
    case paused(String)
    case resumed
}

extension GatewayLink {
    package enum Event: Hashable, Sendable {
        /// The socket to the coordinator exists. First event of all.
        case start
        /// A new request of a client. Answered by at least one `.deliver`, at the latest after the link's deadlines.
        case submit(GenerationRequest)
        /// The client left: nothing is delivered for this request any more. Unknown ids are fine.
        case cancel(RequestID)
        /// One choice is not needed any more (a stop string was found in its text); the others go on. It is delivered as finished with `stop`.
        /// Unknown ids and choices, and choices that ended by themselves meanwhile, are fine.
        case cancelChoice(RequestID, UInt32)
        /// Somebody wants the cluster's status. `.status` follows when the coordinator answers; nothing where there is no coordinator.
        case statusWanted
        case received(FromCoordinator)
        /// A frame that `Wire` refused.
        case malformedFrame
        case deadline
        /// End on purpose: every open request gets `.failed`, then `.ended(nil)`.
        case shutdown
    }

    package enum Effect: Hashable, Sendable {
        case send(ToCoordinator)
        case deliver(RequestID, StreamEvent)
        /// The coordinator accepted this gateway; comes again after each reconnect. The model's header came as the same message's payload.
        case welcomed(GatewayWelcome)
        /// Comes whenever what clients should see changes; also when the coordinator is silent.
        case health(ClusterHealth)
        /// How long a request that is submitted now would wait, as the coordinator sees it; comes whenever that changes.
        case expectedWait(milliseconds: UInt64)
        case status(StatusReport)
        /// Throw the coordinator socket away and make a new one.
        case reconnect
        case log(LogEntry)
        /// Nothing comes after this. With a failure, the process ends with exit code 1.
        case ended(Failure?)
    }
}
