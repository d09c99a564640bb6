/// How long a stage takes for a step, and what it holds in memory: a pure function of the model, the worker's measured rates and the load.
///
/// With B packed bytes and W weights of the stage's layers, r rows, and the worker's rates (bytes and operations per second):
///
///     products   = Σ over kinds of arithmetic  max( B / readRate, 2 · W · r / operationRate )
///     head       = the same for its matrix; where that is quantised, with two rows for each token, since its input is taken in two parts
///     attention  = Σ over layers  max( bytes of the keys and values read / readRate, 4 · queryWidth · positions seen / floatRate )
///     overhead   = layers · layerOverheadSeconds
///     disk       = bytes streamed from disk / diskRate, of a worker whose weights are larger than their memory (`StreamedWeights`)
///     stage      = correction · rowCosts(r) · max( products + head + attention + overhead, disk )
///
/// Of experts, W counts the weights that a row uses and B the bytes of those that r rows are expected to choose, all · (1 − (1 − used / count)^r).
/// In a layer with a window a row sees no more positions than that.
///
/// A product's time is the larger of both because weights are fetched ahead of the arithmetic (`ops/PERFORMANCE.md`, "Kernels": one column
/// reaches what memory gives, 512 columns what the processor does, and t(4), t(8), t(16) lie within 10 % of this formula). What it leaves out
/// (norms, quantising rows, sampling) is under 1 % of a large layer. `correction` is what the worker was measured to take over what the formula
/// says (`SpeedCorrection`), `rowCosts` how steps of r rows differ in that from others (`RowCosts`).
///
/// Every term grows with the layers, so a worker never takes longer for a part of a stage: the planner's search needs no more than that.
package struct StageCost: Sendable {
    /// Of the rate that plain reading was measured to have, what products reach.
    package static let readShare = 0.9
    /// Of the peak of float arithmetic, what attention and float products reach.
    package static let floatShare = 0.75
    /// The pool is woken five times a layer.
    package static let layerOverheadSeconds = 5e-6

    /// Sums over layers 0..<i.
    private struct Sums {
        var bytes = 0.0
        var floatBytes = 0.0
        var int8Weights = 0.0
        var floatWeights = 0.0
        var expertBytes = 0.0
        var expertFloatBytes = 0.0
        var windowedLayers = 0
    }

    package let model: ModelProfile
    package let demand: PlanDemand
    private let before: [Sums]
    private let layerBytesBefore: [UInt64]
    /// The widest one; 0 where no layer has any.
    private let window: Double
    private let decodeLoad: StepLoad

    package init(model: ModelProfile, demand: PlanDemand) {
        let products = model.arithmetic.layers
        precondition(products.isEmpty || products.count == model.layerBytes.count, "a model's arithmetic is told of all layers or of none")
        self.model = model
        self.demand = demand
        decodeLoad = .decode(rows: demand.decodeRows, context: min(demand.contextMean, model.contextTokens))
        let windows = model.arithmetic.windows
        precondition(windows.isEmpty || windows.count == model.layerBytes.count, "a model's windows are told of all layers or of none")
        window = Double(windows.max() ?? 0)
        var sums = [Sums()]
        var bytes: [UInt64] = [0]
        for (index, layer) in model.layerBytes.enumerated() {
            var sum = sums[index]
            sum.bytes += Double(layer)
            if !products.isEmpty {
                sum.floatBytes += Double(products[index].floatBytes)
                sum.int8Weights += Double(products[index].int8Weights)
                sum.floatWeights += Double(products[index].floatWeights)
                sum.expertBytes += Double(products[index].expertBytes)
                sum.expertFloatBytes += Double(products[index].expertFloatBytes)
            }
            if !windows.isEmpty, windows[index] > 0 { sum.windowedLayers += 1 }
            sums.append(sum)
            bytes.append(bytes[index] + layer)
        }
        before = sums
        layerBytesBefore = bytes
    }

    // MARK: - Time

    /// Of the decode steps that the deployment is meant for.
    package func decodeSeconds(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool) -> Double {
        seconds(worker, layers, hasHead: hasHead, decodeLoad).total
    }

    /// What a stage's time goes into.
    package struct Parts: Hashable, Sendable {
        /// Weights whose reading takes longer than their arithmetic.
        package var reading = 0.0
        /// Weights whose arithmetic takes longer than their reading.
        package var arithmetic = 0.0
        package var attention = 0.0
        package var overhead = 0.0
        /// What the disk takes beyond all that, where weights are streamed from it.
        package var disk = 0.0

        /// What takes most of it.
        package var largest: PlanForecast.Cause {
            let causes: [(Double, PlanForecast.Cause)] = [
                (reading, .bandwidth), (arithmetic, .arithmetic), (attention, .attention), (overhead, .overhead),
                (disk > 0 ? total : 0, .disk),
            ]
            return causes.reduce(causes[0]) { $1.0 > $0.0 ? $1 : $0 }.1
        }

        package var total: Double { reading + arithmetic + attention + overhead + disk }

        mutating func addLarger(reading: Double, arithmetic: Double) {
            if reading >= arithmetic { self.reading += reading } else { self.arithmetic += arithmetic }
        }

        func scaled(by factor: Double) -> Parts {
            Parts(
                reading: reading * factor, arithmetic: arithmetic * factor, attention: attention * factor, overhead: overhead * factor,
                disk: disk * factor)
        }
    }

    package func seconds(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool, _ load: StepLoad) -> Parts {
        let (low, high) = (before[layers.lowerBound], before[layers.upperBound])
        let rows = Double(load.rows)
        let read = worker.readBytesPerSecond * Self.readShare
        let float = worker.floatOpsPerSecond * Self.floatShare
        var parts = Parts()
        let untouched = untouchedShare(rows: load.rows)
        let floatBytes = high.floatBytes - low.floatBytes - untouched * (high.expertFloatBytes - low.expertFloatBytes)
        let bytes = high.bytes - low.bytes - untouched * (high.expertBytes - low.expertBytes)
        parts.addLarger(
            reading: max(0, bytes - floatBytes) / read, arithmetic: 2 * (high.int8Weights - low.int8Weights) * rows / worker.opsPerSecond)
        parts.addLarger(reading: floatBytes / read, arithmetic: 2 * (high.floatWeights - low.floatWeights) * rows / float)
        if hasHead && load.sampledRows > 0 { addHead(to: &parts, worker, read: read, float: float, sampled: Double(load.sampledRows)) }

        let windowed = Double(high.windowedLayers - low.windowedLayers)
        let count = Double(layers.count)
        func attention(read positionsRead: Double, seen: Double) -> Double {
            max(positionsRead * Double(model.kvBytesPerTokenPerLayer) / read, 4 * Double(model.arithmetic.queryWidth) * seen / float)
        }
        parts.attention = (count - windowed) * attention(read: load.positionsRead, seen: load.positionsSeen)
        if windowed > 0 {
            parts.attention += windowed * attention(read: min(load.positionsRead, rows * window), seen: min(load.positionsSeen, rows * window))
        }
        parts.overhead = count * Self.layerOverheadSeconds
        parts.disk = max(0, diskSeconds(worker, layers, hasHead: hasHead) - parts.total)
        return parts.scaled(by: worker.factor(rows: load.rows))
    }

    /// Part of the experts that none of so many rows chooses, as if each row chose for itself and all experts alike.
    private func untouchedShare(rows: Int) -> Double {
        guard model.arithmetic.unusedExperts > 0 else { return 0 }
        var share = 1.0
        for _ in 0..<rows where share > 1e-6 { share *= model.arithmetic.unusedExperts }
        return share
    }

    private func addHead(to parts: inout Parts, _ worker: Planner.Candidate, read: Double, float: Double, sampled: Double) {
        let head = model.arithmetic.head
        parts.addLarger(
            reading: (Double(model.headBytes) - Double(head.floatBytes)) / read,
            arithmetic: 2 * Double(head.int8Weights) * 2 * sampled / worker.opsPerSecond)
        parts.addLarger(reading: Double(head.floatBytes) / read, arithmetic: 2 * Double(head.floatWeights) * sampled / float)
    }

    /// Seconds for which a decode step of the demand occupies the link between two stages.
    package var wireSeconds: Double { demand.wireSeconds(rows: demand.decodeRows, hidden: model.hidden) }

    // MARK: - Memory

    /// Of a stage without KV: weights and working memory.
    package func fixedBytes(_ layers: Range<Int>, hasHead: Bool) -> UInt64 {
        weightBytes(layers, hasHead: hasHead) + model.arithmetic.workspaceBytes + (hasHead ? model.arithmetic.headWorkspaceBytes : 0)
    }

    package func weightBytes(_ layers: Range<Int>, hasHead: Bool) -> UInt64 {
        let isFirst = layers.lowerBound == 0
        let headIsShared = isFirst && hasHead && model.headIsTied
        return layerBytesBefore[layers.upperBound] - layerBytesBefore[layers.lowerBound] + (isFirst ? model.embeddingBytes : 0)
            + (hasHead && !headIsShared ? model.headBytes : 0)
    }

    /// Of so many blocks in so many layers.
    package func kvBytes(blocks: Int, layers: Int) -> UInt64 {
        model.kvBytesPerTokenPerLayer * UInt64(Limits.positionsPerBlock) * UInt64(blocks) * UInt64(layers)
    }
}
