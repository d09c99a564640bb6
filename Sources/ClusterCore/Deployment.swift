/// A replica's plan and how far it has come: idle → loading → proving → serving, and back to idle at each loss.
package struct Deployment: Hashable, Sendable {
    package enum Phase: Hashable, Sendable {
        /// No plan.
        case idle
        /// Workers load their slices.
        case loading(Plan, [Loading])
        /// All have loaded; one probe step is on its way through the stages.
        case proving(Plan)
        case serving(Plan)
    }

    /// One stage's progress. Silence for too long fails its worker.
    package struct Loading: Hashable, Sendable {
        package var isDone: Bool
        package var bytesDone: UInt64
        /// As the worker last said; 0 before it did.
        package var bytesTotal: UInt64 = 0
        package var lastProgress: Instant
        /// Of its layers, those that have what the epoch before left.
        package var kept = 0..<0

        /// How much of its bytes is there, 0...1; `nil` before the worker said.
        package var share: Double? {
            if isDone { return 1 }
            return bytesTotal == 0 ? nil : min(1, Double(bytesDone) / Double(bytesTotal))
        }
    }

    package var epoch = Epoch(0)
    package var phase = Phase.idle
    package var servingSince: Instant?

    package init() {}

    package var plan: Plan? {
        switch phase {
        case .idle: nil
        case .loading(let plan, _), .proving(let plan), .serving(let plan): plan
        }
    }

    package func stage(of worker: PeerKey) -> Int? { plan?.stages.firstIndex { $0.worker == worker } }

    package var isServing: Bool { if case .serving = phase { true } else { false } }
    package var isIdle: Bool { phase == .idle }
}
