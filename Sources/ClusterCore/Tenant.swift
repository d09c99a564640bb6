/// On whose behalf a request runs, as far as sharing the cluster goes: a number that a gateway makes of an API key's name, never of the key.
///
/// Requests without a key all belong to `shared`: among themselves they are served by priority and arrival, as servers without keys do it.
package struct Tenant: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let value: UInt64

    package init(_ value: UInt64) { self.value = value }

    package static let shared = Tenant(0)

    package static func < (a: Tenant, b: Tenant) -> Bool { a.value < b.value }

    /// 16 hexadecimal digits.
    package var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// What one tenant has open; for `staffel status`.
package struct TenantStatus: Hashable, Sendable {
    package var tenant: Tenant
    package var weight: Int
    /// Sequences that wait to run.
    package var waiting: Int
    /// Sequences that run.
    package var running: Int

    package init(tenant: Tenant, weight: Int, waiting: Int, running: Int) {
        self.tenant = tenant
        self.weight = weight
        self.waiting = waiting
        self.running = running
    }
}

/// A bounded number of places at a door, of which one tenant can't take all: the last eighth is kept for tenants that hold little.
package struct SharedPlaces: Hashable, Sendable {
    package let max: Int

    package init(max: Int) { self.max = max }

    private var keptBack: Int { max / 8 }
    /// A tenant with no more than these may take places that are kept back.
    private var little: Int { Swift.max(1, keptBack / 8) }

    /// Whether `asked` more may come in where `open` are taken, `ofTenant` of them by the tenant that asks.
    package func admits(_ asked: Int, open: Int, ofTenant: Int) -> Bool {
        if open + asked <= max - keptBack { return true }
        return open + asked <= max && (ofTenant == 0 || ofTenant + asked <= little)
    }
}
