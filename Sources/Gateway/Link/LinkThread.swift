import Logging
struct LinkThread {
    init(configuration: GatewayConfiguration, logger: Logger) throws(GatewayError) {}
    var owner: LinkOwner { fatalError() }
}
