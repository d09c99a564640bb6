// The lab measures kernels one by one, without a model around them: it calls `CKernels` itself, with an engine's pool and table.

extension ComputePool {
    /// The `sk_pool`; valid while this object is.
    package var handle: OpaquePointer { pool }
}

extension InstructionSet {
    /// The `sk_kernels` of this set, which must be supported.
    package var table: OpaquePointer { kernels }
}
