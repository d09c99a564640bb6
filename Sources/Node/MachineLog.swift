import ClusterCore
import Logging

extension Logger {
    /// Writes what a machine wants written: a constant message, facts in the metadata.
    func log(_ entry: LogEntry) {
        let level: Logger.Level =
            switch entry.level {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        log(level: level, "\(entry.message)", metadata: Metadata(entry.fields.map { ($0.key, "\($0.value)") }, uniquingKeysWith: { $1 }))
    }
}
