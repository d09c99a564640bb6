/// What can go wrong while a process of the cluster starts or runs. `message` is for the person who runs it.
package struct NodeError: Error, CustomStringConvertible {
    /// Stable names: scripts may look for them.
    package enum Code: String, Sendable {
        case addressNeeded = "address-needed"
        case stateDirectory = "state-directory"
        case joinNeeded = "join-needed"
        case enrolmentFailed = "enrolment-failed"
        case socketFailed = "socket-failed"
        case modelUnusable = "model-unusable"
        case coordinatorSilent = "coordinator-silent"
        case ended = "ended"
        /// A step that contradicts what the stage holds.
        case wrongStep = "wrong-step"
        case threads = "threads"
        case traceFile = "trace-file"
        /// Weights that came from others, or could not be kept.
        case weightsUnusable = "weights-unusable"
        case diskFull = "disk-full"
    }

    package var code: Code
    package var message: String
    package var cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String { cause.map { "\(message) (\($0))" } ?? message }
}
