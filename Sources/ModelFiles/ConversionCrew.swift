import CKernels

/// The threads of a conversion: each takes a share of a piece's rows and widens and quantises them one by one, so it needs
/// memory for one row.
///
/// Not `Sendable`: the thread that makes a crew is its first member.
final class ConversionCrew {
    private let pool: OpaquePointer?
    private let threads: Int

    /// `threads` in 1...`ModelConversion.threadsMax`.
    init(threads: Int) throws(ModelFileError) {
        precondition((1...ModelConversion.threadsMax).contains(threads), "\(threads) threads")
        self.threads = threads
        pool = threads == 1 ? nil : sk_pool_create(Int32(threads), nil)
        guard threads == 1 || pool != nil else {
            throw ModelFileError(.limitExceeded, "The system would not give \(threads) threads. Ask for fewer with --threads, or raise the limit.")
        }
    }

    deinit { if let pool { sk_pool_destroy(pool) } }

    /// Writes `rows` of `tensor` in the format `type` to the front of `output`.
    func convert(_ tensor: Tensor, rows: Range<Int>, to type: TensorType, into output: inout [UInt8]) throws(ModelFileError) {
        precondition(output.count >= rows.count * type.rowBytes(columns: tensor.columns), "a piece of \(output.count) bytes")
        var floats = [Float](repeating: 0, count: threads * tensor.columns)
        var failures = [RowFailure?](repeating: nil, count: threads)
        output.withUnsafeMutableBytes { output in
            floats.withUnsafeMutableBufferPointer { floats in
                failures.withUnsafeMutableBufferPointer { failures in
                    var share = RowShare(tensor: tensor, rows: rows, type: type, output: output, floats: floats, failures: failures)
                    guard let pool else { return share.run(thread: 0, threads: 1) }
                    withUnsafeMutablePointer(to: &share) { pointer in
                        sk_pool_run(pool, { argument, thread, threads in
                            argument!.assumingMemoryBound(to: RowShare.self).pointee.run(thread: Int(thread), threads: Int(threads))
                        }, pointer)
                    }
                }
            }
        }
        // Shares are in the order of the rows, so the first failure is the same for any number of threads.
        if let failure = failures.compactMap({ $0 }).first { throw failure.error(tensor, type) }
    }
}

/// A row that its format cannot hold.
private struct RowFailure {
    var row: Int
    var reason: sk_quantise_error

    func error(_ tensor: Tensor, _ type: TensorType) -> ModelFileError {
        let what =
            reason == SK_QUANTISE_NOT_FINITE
            ? "a NaN or an infinity, for which \(type.name) has no code. The file is damaged, or the model was trained badly"
            : "a weight that is too large for \(type.name). Convert to Q8_0, BF16 or F32"
        return ModelFileError(.invalidValue, "Row \(row) of the tensor '\(tensor.name)' holds \(what).")
    }
}

/// What the threads share. Each writes rows, floats and a failure of its own.
private struct RowShare {
    let tensor: Tensor
    let rows: Range<Int>
    let type: TensorType
    let output: UnsafeMutableRawBufferPointer
    let floats: UnsafeMutableBufferPointer<Float>
    let failures: UnsafeMutableBufferPointer<RowFailure?>

    func run(thread: Int, threads: Int) {
        let columns = tensor.columns, rowBytes = type.rowBytes(columns: columns)
        let mine = UnsafeMutableBufferPointer(rebasing: floats[(thread * columns)..<((thread + 1) * columns)])
        for index in (rows.count * thread / threads)..<(rows.count * (thread + 1) / threads) {
            let row = rows.lowerBound + index
            tensor.dequantize(rows: row..<(row + 1), into: mine)
            let reason = sk_quantise_blocks(type.rawValue, mine.baseAddress!, columns, nil, output.baseAddress! + index * rowBytes)
            guard reason == SK_QUANTISE_OK else {
                failures[thread] = RowFailure(row: row, reason: reason)
                return
            }
        }
    }
}
