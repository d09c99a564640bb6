/// What a machine wants written to the log. The message is constant; facts go in the metadata.
package struct LogEntry: Hashable, Sendable {
    package enum Level: UInt8, Hashable, Sendable, Comparable {
        case debug, info, notice, warning, error

        package static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }
    }

    package struct Field: Hashable, Sendable {
        package var key: String
        package var value: String

        package init(_ key: String, _ value: some CustomStringConvertible) {
            self.key = key
            self.value = value.description
        }
    }

    package var level: Level
    package var message: String
    package var fields: [Field]

    package init(_ level: Level, _ message: String, _ fields: [Field] = []) {
        self.level = level
        self.message = message
        self.fields = fields
    }
}
