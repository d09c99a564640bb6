extension Coordinator {
    /// What can happen to a coordinator. The transport has proved every key and decoded every message.
    package enum Event: Hashable, Sendable {
        /// From a key of the key store; `role` is what the store says of it, not what the peer claims.
        case received(ToCoordinator, from: PeerKey, role: PeerRole)
        /// The only message allowed over a one-time token's key. `overToken` is that key; the transport has checked that it has not expired.
        case enrolRequested(EnrolRequest, overToken: PeerKey)
        /// A frame that `Wire` refused; the key is missing where the transport cannot tell it.
        case malformedFrame(from: PeerKey?)
        /// The transport saw a peer's connection end. A hint only: silence past the heartbeat timeout says the same, later.
        case disconnected(PeerKey)
        /// The key was taken from the key store: its peer is cut off at once.
        case revoked(PeerKey)
        /// The draft model's answer to a `.draft`: what it takes to stand from position `atLength` on. May come late, in parts, or for a sequence
        /// that is gone.
        case drafted(SequenceID, atLength: Int, tokens: [TokenID])
        /// How far the hashing is that `.hashWeights` began, or that it is done.
        case weightsHashed(HashedWeights)
        /// `nextDeadline` has come.
        case deadline
        /// End on purpose. `.ended` follows in the same batch of effects.
        case shutdown
    }

    /// What a coordinator wants done, in this order.
    package enum Effect: Hashable, Sendable {
        /// Goes to the peer's connection; dropped without an answer where there is none. With `.gatewayWelcome` the Node attaches
        /// the model's header as payload.
        case send(FromCoordinator, to: PeerKey)
        /// Put the key into the key store, so that the peer may connect with it. Comes before the `.enrolled` that tells the peer.
        case admit(PeerKey, PeerRole, name: String)
        /// The token has done its work: no peer may connect with it again.
        case consumeToken(PeerKey)
        /// For the draft model, in place of any earlier wish. Only where the configuration says that there is one.
        case draft(DraftWish)
        /// Only these workers may ask for weights that are here.
        case admitFetchers([PeerKey])
        /// Somebody needs the model's manifest: begin to make it, unless that was done.
        case hashWeights
        case log(LogEntry)
        /// Only where `CoordinatorConfiguration.tracesSteps` says so.
        case trace(TraceEvent)
        /// After `.shutdown`: every open request was answered and every worker told. The Node flushes its sockets and ends.
        case ended
    }
}
