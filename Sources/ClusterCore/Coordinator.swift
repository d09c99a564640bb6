package struct Coordinator: Sendable {
    private let configuration: CoordinatorConfiguration
    package init(configuration: CoordinatorConfiguration) { self.configuration = configuration }
    package var nextDeadline: Instant? { nil }
    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {}
}

