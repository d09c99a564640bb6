import ArgumentParser
import ClusterCore
import Foundation
import Node

/// `staffel drain`: takes a worker's layers from it while streams run.
struct DrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Move a worker's layers to others while streams run; it gets none until it is started anew.")

    private static let pauseMs = 200

    @Argument(help: "The worker's name, or the first eight digits of its key, as 'staffel status' shows them.")
    var worker: String

    @Flag(help: "Take the worker back into service instead.")
    var undo = false

    @Option(help: "How long to wait until it is done; it goes on when this command has ended. (default: 600)")
    var timeoutSeconds: Int?

    @Option(help: "The coordinator's state folder. (default: ~/.local/state/staffel/coordinator)")
    var state: String?

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let directory = try StateDirectory(existing: settings.string("state", flag: state) ?? StatePath.standard("coordinator"))
        let seconds = try settings.integer("timeout-seconds", flag: timeoutSeconds, in: 1...86_400) ?? 600
        let deadline = ContinuousClock.now.advanced(by: .seconds(seconds))
        var console = try CoordinatorConsole(state: directory)
        var told = ""
        while true {
            guard let status = try console.drain(DrainRequest(worker: worker, isUndone: undo)) else {
                throw CommandFailure("the coordinator at \(console.endpoint) didn't answer; is it running, and of this release?")
            }
            if status.detail != told { FileHandle.standardError.write(Data((status.detail + "\n").utf8)) }
            // A worker that was to end by itself may be gone before it is asked about again.
            let isGone = status.state == .unknown && !told.isEmpty
            told = status.detail
            switch status.state {
            case .drained, .serving: return
            case .unknown where isGone: return
            case .unknown, .refused: throw CommandFailure(status.detail)
            case .moving: break
            }
            guard ContinuousClock.now < deadline else {
                throw CommandFailure("\(worker) still has layers after \(seconds) s; its draining goes on")
            }
            try await Task.sleep(for: .milliseconds(Self.pauseMs))
        }
    }
}
