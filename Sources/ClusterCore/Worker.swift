package struct Worker: Sendable {
    private let configuration: WorkerConfiguration
    package init(configuration: WorkerConfiguration) { self.configuration = configuration }
    package var nextDeadline: Instant? { nil }
    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {}
}
