/// Why a frame was refused. The receiver drops the frame and counts it by `code`; `message` is logged once per cause.
package struct WireError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Stable names: they appear in logs, metrics and tests.
    package enum Code: String, Hashable, Sendable, CaseIterable {
        /// The first bytes are not ours: something else talks to this port.
        case notStaffel = "wire.not-staffel"
        /// Ours, but of another protocol major: answer `versionMismatch` and expect the same.
        case versionMismatch = "wire.version-mismatch"
        /// Ours, but a frame for another kind of socket.
        case wrongFrame = "wire.wrong-frame"
        case tooLarge = "wire.too-large"
        /// Ours, but not a protobuf message of its kind, or one that costs more memory than an honest one.
        case malformed = "wire.malformed"
        /// A newer peer's message, or none at all.
        case unknownMessage = "wire.unknown-message"
        /// A field that is missing, out of range or contradicts another.
        case invalidField = "wire.invalid-field"
        /// The activation bytes beside a step don't fit its rows.
        case wrongPayload = "wire.wrong-payload"
        case joinLineInvalid = "wire.join-line-invalid"
    }

    package var code: Code
    /// What was asked, what was found, what to do.
    package var message: String
    /// `Message.field` for `invalidField`, else empty.
    package var field: String

    package init(_ code: Code, _ message: String, field: String = "") {
        self.code = code
        self.message = message
        self.field = field
    }

    package var description: String { "\(code.rawValue): \(message)" }
}
