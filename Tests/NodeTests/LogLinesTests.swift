import Foundation
import Testing

@testable import Node

@Suite struct LogLinesTests {
    /// A pipe that nobody empties for now.
    private func pipe() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        try #require(Foundation.pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    private func readAll(_ descriptor: Int32) -> String {
        var text: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(descriptor, &piece, piece.count)
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += piece.prefix(count)
        }
    }

    @Test func linesKeepTheirOrder() throws {
        let ends = try pipe()
        let lines = LogLines(descriptor: ends.write)
        for number in 0..<300 { lines.write("line \(number)\n") }
        lines.flush(withinMs: 60_000)
        close(ends.write)
        #expect(readAll(ends.read) == (0..<300).map { "line \($0)\n" }.joined())
        close(ends.read)
    }

    /// Whoever writes never waits; what is left out is counted.
    @Test func aLogThatNobodyReadsHoldsNobodyUp() throws {
        let ends = try pipe()
        let lines = LogLines(descriptor: ends.write)
        let line = String(repeating: "x", count: 99) + "\n"
        let count = 3 * LogLines.linesMax
        for _ in 0..<count { lines.write(line) }
        lines.flush(withinMs: 10)
        let done = DispatchSemaphore(value: 0)
        nonisolated(unsafe) var found = ""
        Thread {
            found = self.readAll(ends.read)
            done.signal()
        }.start()
        lines.flush(withinMs: 60_000)
        lines.write("the last one\n")
        lines.flush(withinMs: 60_000)
        close(ends.write)
        #expect(done.wait(timeout: .now() + 60) == .success)
        close(ends.read)
        let all = found.split(separator: "\n")
        let told = try #require(all.first { $0.hasSuffix("than they could be written") })
        let leftOut = try #require(Int(told.prefix { $0.isNumber }))
        #expect(leftOut > 0 && all.count(where: { $0 + "\n" == line }) + leftOut == count)
        #expect(all.last == "the last one")
    }
}
