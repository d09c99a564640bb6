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
    ///
    /// - Parameter weights: of the tensor's matrices, one after the other, one for each column; how much errors there count.
    func convert(
        _ tensor: Tensor, rows: Range<Int>, to type: TensorType, weights: [Float]? = nil, into output: inout [UInt8]
    ) throws(ModelFileError) {
        precondition(output.count >= rows.count * type.rowBytes(columns: tensor.columns), "a piece of \(output.count) bytes")
        precondition(weights.map { $0.count % tensor.columns == 0 } ?? true, "weights for whole matrices")
        var floats = [Float](repeating: 0, count: threads * tensor.columns)
        // Read, not mapped: a file that goes away in the middle is an error then, and none of its pages are counted as ours.
        var sources = [UInt8](repeating: 0, count: threads * tensor.rowBytes)
        var failures = [RowFailure?](repeating: nil, count: threads)
        output.withUnsafeMutableBytes { output in
            floats.withUnsafeMutableBufferPointer { floats in
                sources.withUnsafeMutableBytes { sources in
                    (weights ?? []).withUnsafeBufferPointer { weights in
                        failures.withUnsafeMutableBufferPointer { failures in
                            var share = RowShare(
                                tensor: tensor, rows: rows, type: type, weights: weights, output: output, floats: floats, sources: sources,
                                failures: failures)
                            run(&share)
                        }
                    }
                }
            }
        }
        // Shares are in the order of the rows, so the first failure is the same for any number of threads.
        if let failure = failures.compactMap({ $0 }).first { throw failure.error(tensor, type) }
    }

    private func run(_ share: inout RowShare) {
        guard let pool else { return share.run(thread: 0, threads: 1) }
        withUnsafeMutablePointer(to: &share) { pointer in
            sk_pool_run(pool, { argument, thread, threads in
                argument!.assumingMemoryBound(to: RowShare.self).pointee.run(thread: Int(thread), threads: Int(threads))
            }, pointer)
        }
    }
}

/// A row that cannot be read, or that its format cannot hold.
private enum RowFailure {
    case unread(ModelFileError)
    case row(Int, sk_quantise_error)

    func error(_ tensor: Tensor, _ type: TensorType) -> ModelFileError {
        switch self {
        case .unread(let error): return error
        case .row(let row, let reason):
            let what =
                reason == SK_QUANTISE_NOT_FINITE
                ? "a NaN or an infinity, for which \(type.name) has no code. The file is damaged, or the model was trained badly"
                : "a weight that is too large for \(type.name). Convert to Q8_0, BF16 or F32"
            return ModelFileError(.invalidValue, "Row \(row) of the tensor '\(tensor.name)' holds \(what).")
        }
    }
}

/// What the threads share. Each writes rows, floats, a source and a failure of its own.
private struct RowShare {
    let tensor: Tensor
    let rows: Range<Int>
    let type: TensorType
    /// Empty: all errors count the same.
    let weights: UnsafeBufferPointer<Float>
    let output: UnsafeMutableRawBufferPointer
    let floats: UnsafeMutableBufferPointer<Float>
    let sources: UnsafeMutableRawBufferPointer
    let failures: UnsafeMutableBufferPointer<RowFailure?>

    func run(thread: Int, threads: Int) {
        let columns = tensor.columns, rowBytes = type.rowBytes(columns: columns), sourceBytes = tensor.rowBytes
        let mine = floats.baseAddress! + thread * columns
        let source = UnsafeMutableRawBufferPointer(rebasing: sources[(thread * sourceBytes)..<((thread + 1) * sourceBytes)])
        for index in (rows.count * thread / threads)..<(rows.count * (thread + 1) / threads) {
            let row = rows.lowerBound + index
            do throws(ModelFileError) {
                try tensor.read((row * sourceBytes)..<((row + 1) * sourceBytes), into: source)
            } catch {
                failures[thread] = .unread(error)
                return
            }
            let status = sk_dequantize_row(tensor.type.rawValue, source.baseAddress!, mine, columns)
            precondition(status == 0, "CKernels cannot widen \(tensor.type.name)")
            let reason = sk_quantise_blocks(type.rawValue, mine, columns, weightsOf(row), output.baseAddress! + index * rowBytes)
            guard reason == SK_QUANTISE_OK else {
                failures[thread] = .row(row, reason)
                return
            }
        }
    }

    /// Of the matrix that a row belongs to.
    private func weightsOf(_ row: Int) -> UnsafePointer<Float>? {
        guard !weights.isEmpty else { return nil }
        let matrix = row / (tensor.rows / (weights.count / tensor.columns))
        return weights.baseAddress! + matrix * tensor.columns
    }
}
