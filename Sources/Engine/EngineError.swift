/// What went wrong in the engine, as a stable name that logs, tests and exit messages can rely on.
package enum EngineErrorCode: String, Sendable, CaseIterable {
    /// `STAFFEL_ISA` names no instruction set, or one that this processor lacks.
    case badInstructionSet = "bad_instruction_set"
    case threadsUnavailable = "threads_unavailable"
    case memoryUnavailable = "memory_unavailable"
    /// A slice that is not a part of the model.
    case badSlice = "bad_slice"
    /// A tensor is of a type that files may have but no kernel multiplies.
    case unsupportedType = "unsupported_type"
    /// A tensor is absent or of another shape than the model's configuration asks for.
    case wrongTensor = "wrong_tensor"
    /// A batch that contradicts what the stage knows; nothing of it was applied.
    case badBatch = "bad_batch"
    case badSampling = "bad_sampling"
    /// A NaN or an infinity where a token was to be drawn.
    case notFinite = "not_finite"
    /// More positions than the context or the KV memory holds.
    case contextExceeded = "context_exceeded"
    /// Packed weights can't be kept: no folder, no room, no permission. Costs time at the next start, nothing else.
    case cacheUnusable = "cache_unusable"
    /// Weights that are streamed from disk can't be read back as they were written. The stage that has them is of no use any more; the next
    /// load packs them anew.
    case weightsLost = "weights_lost"
}

/// The one error of this library.
package struct EngineError: Error, CustomStringConvertible {
    package let code: EngineErrorCode
    /// What was asked, what was found, what to do; whole sentences for a person.
    package let message: String
    package let cause: (any Error)?

    package init(_ code: EngineErrorCode, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        guard let cause else { return "\(message) [\(code.rawValue)]" }
        return "\(message) [\(code.rawValue)] (\(cause))"
    }
}
