/// A frame that is not what it should be. `message` names the kind of message and the field.
package struct WireError: Error, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable {
        /// Not a frame of ours, cut off, or not decodable.
        case malformed
        /// A frame of another major version of the protocol.
        case version
        /// A kind of message that this side does not know or does not take.
        case unknownMessage = "unknown-message"
        /// Decodable, but a field is out of its range or contradicts another.
        case invalidField = "invalid-field"
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "\(message) [\(code.rawValue)]" }
}
