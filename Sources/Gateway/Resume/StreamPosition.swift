/// Where a stream stands, event by event: gives each its id, and leaves out those that the client has already.
///
/// A choice's events are the same whenever it is generated; those of several choices mix as they come. So they are counted by choice.
struct StreamPosition {
    /// As of the last event; `nil` where events have no ids.
    private var id: EventID?
    /// By choice: events that the client has; empty for a new stream.
    private let delivered: [Int]
    private let hasUsage: Bool
    let isResumed: Bool

    /// - Parameters:
    ///   - id: of the beginning.
    ///   - last: what the client had last, of the same request.
    init(_ id: EventID?, after last: EventID?) {
        self.id = id
        delivered = last?.delivered ?? []
        hasUsage = last?.hasUsage ?? false
        isResumed = last != nil
    }

    /// Whether the next event of the choice is one that the client has.
    func isBehind(_ choice: Int) -> Bool {
        guard let id, isResumed else { return false }
        return id.delivered[choice] < delivered[choice]
    }

    /// The next event of a choice; nothing where the client has it.
    mutating func event(of choice: Int, _ json: () -> [UInt8]) -> [UInt8] {
        let isOld = isBehind(choice)
        id?.delivered[choice] += 1
        return isOld ? [] : Self.data(json(), idText)
    }

    /// The event behind all choices.
    mutating func usageEvent(_ json: () -> [UInt8]) -> [UInt8] {
        id?.hasUsage = true
        return hasUsage ? [] : Self.data(json(), idText)
    }

    /// What the client has of each choice, whether it came from here or not: a choice that is still behind counts as it told.
    private var idText: String? {
        guard var id else { return nil }
        for choice in delivered.indices { id.delivered[choice] = max(id.delivered[choice], delivered[choice]) }
        return id.text
    }

    // MARK: Lines

    static func data(_ json: [UInt8], _ id: String? = nil) -> [UInt8] {
        let idLine = id.map { Array("id: \($0)\n".utf8) } ?? []
        return idLine + Array("data: ".utf8) + json + Array("\n\n".utf8)
    }

    /// Clients skip lines that begin with a colon. Without ids a comment stands alone, because clients that read block by block would take the next
    /// event for a part of it; with ids it must not, because a block that has an id and no data is an empty event to some.
    func comment(_ text: String) -> [UInt8] {
        Array(": ".utf8) + text.utf8.map { $0 < 0x20 ? 0x20 : $0 } + Array((id == nil ? "\n\n" : "\n").utf8)
    }
}
