/// What the disks allow a pipeline that streams its weights, beside what it reaches: since its epoch began, because one step may take longer than
/// the window of other figures.
package struct DiskBound: Hashable, Sendable {
    /// All stages together.
    package var bytesPerStep: Double
    /// The time that the busiest machine's disk needs for its stages' bytes of one step: no step can come sooner after another.
    package var boundSeconds: Double
    /// What a step takes in all stages together.
    package var stepSeconds: Double

    /// Of the bound.
    package var reachedShare: Double { stepSeconds > 0 ? boundSeconds / stepSeconds : 0 }
}

extension StatusReport {
    /// nil where nothing is streamed, and before a step was computed.
    package var diskBound: DiskBound? {
        var bound = DiskBound(bytesPerStep: 0, boundSeconds: 0, stepSeconds: 0)
        var machines: [(machine: UInt64, seconds: Double)] = []
        for stage in pipeline.stages where stage.total.steps > 0 {
            let steps = Double(stage.total.steps)
            bound.stepSeconds += Double(stage.total.computeNanoseconds) / 1e9 / steps
            guard let worker = workers.first(where: { $0.key == stage.worker })?.capabilities, worker.diskBytesPerSecond > 0 else { continue }
            let bytes = Double(stage.total.streamedBytes) / steps
            bound.bytesPerStep += bytes
            let seconds = bytes / worker.diskBytesPerSecond
            if worker.machine != 0, let index = machines.firstIndex(where: { $0.machine == worker.machine }) {
                machines[index].seconds += seconds
            } else {
                machines.append((worker.machine, seconds))
            }
        }
        // Workers that share a disk find their shares of it, and each counts all of its time: what was reached is possible in any case.
        bound.boundSeconds = min(machines.map(\.seconds).max() ?? 0, bound.stepSeconds)
        return bound.bytesPerStep > 0 ? bound : nil
    }
}
