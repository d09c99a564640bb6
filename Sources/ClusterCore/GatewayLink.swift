package struct GatewayLink: Sendable {
    private let configuration: GatewayLinkConfiguration
    package init(configuration: GatewayLinkConfiguration) { self.configuration = configuration }
    package var nextDeadline: Instant? { nil }
    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {}
}
