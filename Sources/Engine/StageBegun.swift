// A batch that will probably come is begun while there is nothing else to compute, layer by layer, and gone on with when it comes.

/// How far a batch of one row has come that nobody asked for yet.
struct BegunBatch {
    let sequence: UInt64
    let position: Int
    let token: Int32
    var layersDone = 0

    /// Whether `batch` is this one.
    func isSame(as batch: StageBatch) -> Bool {
        guard batch.segments.count == 1, batch.closes.isEmpty, batch.opens.isEmpty, batch.copies.isEmpty, batch.rebuild == nil else { return false }
        let segment = batch.segments[0]
        return segment.sequence == sequence && segment.start == position && segment.tokens.count == 1 && segment.tokens[0] == token
            && segment.newBlocks.isEmpty
    }
}

extension Stage {
    /// Begins with a batch that is expected: a first stage, one row of one sequence that stands in the block that it has already. Nothing that
    /// anybody can see changes by it: the row's keys and values lie behind the sequence's end, where the next batch writes in any case.
    ///
    /// False where it can't be; then nothing is begun. `goOn` computes its layers; `run` of this very batch goes on with what is there, and any
    /// other gives it up.
    package func begin(_ batch: StageBatch) -> Bool {
        begun = nil
        // Weights from disk come in the order of whole batches.
        guard weights.slice.hasEmbedding, weights.streamed == nil, batch.segments.count == 1, batch.rebuild == nil else { return false }
        let segment = batch.segments[0]
        guard segment.tokens.count == 1, table.canGoOn(segment) else { return false }
        let wanted = BegunBatch(sequence: segment.sequence, position: segment.start, token: segment.tokens[0])
        guard wanted.isSame(as: batch) else { return false }
        placeSpans(batch)
        do { try embed(batch) } catch { return false }
        begun = wanted
        return true
    }

    /// Whether layers are left to compute of a batch that was begun.
    package var hasBegun: Bool { begun.map { $0.layersDone < weights.slice.layers.count } ?? false }

    /// Computes one more layer of the batch that was begun. False: there is none to compute.
    package func goOn() -> Bool {
        guard let done = begun?.layersDone, done < weights.slice.layers.count else { return false }
        do { try pass.layers(rows: 1, spans: 1, done..<done + 1, isBegun: done > 0) } catch {
            begun = nil
            return false
        }
        begun?.layersDone += 1
        return true
    }

    /// The layers of `batch` that are computed already. Whatever was begun is so no more.
    func takeBegun(_ batch: StageBatch) -> Int? {
        defer { begun = nil }
        guard let begun, begun.layersDone > 0, begun.isSame(as: batch) else { return nil }
        return begun.layersDone
    }
}
