/// What is wrong with a model file, as a stable name that logs, tests and exit messages can rely on.
package enum ModelFileErrorCode: String, Sendable, CaseIterable {
    // The file system
    case cannotOpen = "cannot_open"
    case cannotRead = "cannot_read"
    case cannotWrite = "cannot_write"
    case notAFile = "not_a_file"

    // The container
    case wrongMagic = "wrong_magic"
    case bigEndian = "big_endian"
    case unsupportedVersion = "unsupported_version"
    case truncated = "truncated"
    case trailingBytes = "trailing_bytes"
    case absurdCount = "absurd_count"
    case limitExceeded = "limit_exceeded"

    // Metadata
    case invalidText = "invalid_text"
    case invalidValue = "invalid_value"
    case unknownMetadataType = "unknown_metadata_type"
    case duplicateKey = "duplicate_key"
    case nestedTooDeep = "nested_too_deep"
    case missingKey = "missing_key"
    case wrongMetadataType = "wrong_metadata_type"

    // Tensors
    case unknownTensorType = "unknown_tensor_type"
    case duplicateTensor = "duplicate_tensor"
    case invalidShape = "invalid_shape"
    case raggedRow = "ragged_row"
    case misalignedTensor = "misaligned_tensor"
    case overlappingTensors = "overlapping_tensors"
    case unclaimedBytes = "unclaimed_bytes"
    case tensorOutsideFile = "tensor_outside_file"

    // Split files
    case splitMismatch = "split_mismatch"
    case missingPart = "missing_part"

    // Hugging Face folders
    case invalidJSON = "invalid_json"
    /// An index names a file that is not one of the folder.
    case invalidFileName = "invalid_file_name"
    /// The folder lacks a file without which there is no model.
    case missingFile = "missing_file"

    // The model
    case unsupportedArchitecture = "unsupported_architecture"
    case unsupportedFeature = "unsupported_feature"
    case contradiction = "contradiction"
    case missingTensor = "missing_tensor"
    case wrongTensor = "wrong_tensor"
    case unknownTensor = "unknown_tensor"
}

/// The one error of this library: a file that cannot be used, and why.
package struct ModelFileError: Error, CustomStringConvertible {
    package let code: ModelFileErrorCode
    /// What was asked, what was found, what to do; whole sentences for a person.
    package let message: String
    /// The system's own error where there is one.
    package let cause: (any Error)?

    package init(_ code: ModelFileErrorCode, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        guard let cause else { return "\(message) [\(code.rawValue)]" }
        return "\(message) [\(code.rawValue)] (\(cause))"
    }
}

/// An `errno` with its text, as the cause of an error.
package struct SystemError: Error, CustomStringConvertible {
    package let number: Int32
    package let description: String
}
