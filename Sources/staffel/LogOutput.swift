import ArgumentParser
import Foundation
import Logging
import Node

enum LogFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

/// Makes loggers that write one line an event to stderr: words for people, or JSON for machines.
struct LogOutput {
    private let format: LogFormat
    private let level: Logger.Level

    init(format: String?, level: String?) throws {
        guard let format = LogFormat(rawValue: format ?? "text") else {
            throw ValidationError("log-format is '\(format ?? "")': give text or json")
        }
        guard let level = Logger.Level(rawValue: level ?? "info") else {
            throw ValidationError("log-level is '\(level ?? "")': give trace, debug, info, notice, warning, error or critical")
        }
        self.format = format
        self.level = level
    }

    func logger(_ label: String) -> Logger {
        var logger = Logger(label: label) { label in LineLogHandler(label: label, format: format) }
        logger.logLevel = level
        return logger
    }
}

/// Messages are constant, facts go in metadata; so a line is time, level, label, message, then `key=value` in key order.
private struct LineLogHandler: LogHandler {
    let label: String
    let format: LogFormat
    var logLevel: Logger.Level = .info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let facts = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
        let time = Date.now.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true))
        var line: String
        switch format {
        case .text:
            line = "\(time) \(event.level) \(label): \(event.message)"
            for (key, value) in facts { line += " \(key)=\(value.contains(" ") ? "\"\(value)\"" : value)" }
        case .json:
            line = "{\"time\":\(quoted(time)),\"level\":\"\(event.level)\",\"label\":\(quoted(label)),\"message\":\(quoted("\(event.message)"))"
            for (key, value) in facts { line += ",\(quoted(key)):\(quoted(value))" }
            line += "}"
        }
        LogLines.standardError.write(line + "\n")
    }

    private func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case _ where scalar.value < 0x20: out += String(format: "\\u%04x", scalar.value)
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
