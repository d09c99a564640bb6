import CKernels
import ModelFiles

/// One stage of the model at work: rows in, its layers, rows or tokens out. Owns the keys and values of its layers.
///
/// Not `Sendable`: the stage thread makes it, runs it and drops it. Nothing is allocated in a steady run of decode steps
/// but what the result holds.
package final class Stage {
    /// - Parameters:
    ///   - kvBlocks: KV blocks (of 32 positions) of memory; block ids are 0..<kvBlocks.
    ///   - rowsMax: most rows of one batch.
    package init(
        weights: StageWeights, kvBlocks: Int, kvType: KVType = .f16, boundary: BoundaryType = .f32, rowsMax: Int = 512,
        pool: ComputePool, instructionSet: InstructionSet
    ) throws(EngineError) {
        fatalError()
    }

    /// Bytes of one row between stages: `model.hidden` values of `boundary`.
    package var boundaryRowBytes: Int { fatalError() }

    /// Computes one batch. Where it throws, nothing has changed.
    ///
    /// - Parameters:
    ///   - input: rows of the stage before, `batch.rowCount * boundaryRowBytes` bytes; empty on the first stage.
    ///   - output: receives the rows for the stage after, as many bytes; empty on the last stage.
    ///     May be the same memory as `input`.
    package func run(
        _ batch: StageBatch, input: UnsafeRawBufferPointer = .init(start: nil, count: 0),
        output: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0)
    ) throws(EngineError) -> StageResult {
        fatalError()
    }

    /// Forgets all sequences; their blocks are free.
    package func reset() { fatalError() }

    /// Bytes of KV memory that one block takes on a stage of so many layers.
    package static func kvBlockBytes(model: ModelConfiguration, layers: Int, kvType: KVType) -> Int { fatalError() }
}
