/// How much more (or less) than predicted steps of so many rows cost a worker, beside steps of other numbers of rows.
///
/// `StageCost` leaves out what each step and each layer costs whatever its size, and takes reading and arithmetic to overlap wholly. For large
/// layers that is right to some percent; where a layer takes microseconds it is not, and differently so for one row and for eight. So what a
/// class of row counts takes is learned once, relative to how fast the worker is just then (`SpeedCorrection`), and belongs to machine and model
/// from then on; what happens to the machine later is the correction's matter, which multiplies all classes.
///
/// Classes are powers of two. One that was never seen is taken for the nearest that was.
package struct RowCosts: Hashable, Sendable {
    private struct Sums: Hashable, Sendable {
        var measured = 0.0
        var predicted = 0.0
        var steps = 0
    }

    /// A step has at most `Limits.stepRowsMax` rows, 2^9.
    private static let classes = 10
    /// Of computing, and steps, before a class is known.
    package static let learnedSeconds = 0.25
    package static let learnedSteps = 16
    package static let least = 0.125
    package static let most = 64.0

    private var known: [Double?] = []
    private var open: [Sums] = []

    package init() {}

    /// What the prediction of a step of so many rows is multiplied by; 1 before anything is known.
    package func factor(rows: Int) -> Double {
        guard !known.isEmpty else { return 1 }
        let wanted = Self.rowClass(rows)
        for distance in 0..<Self.classes {
            if wanted >= distance, let factor = known[wanted - distance] { return factor }
            if wanted + distance < Self.classes, let factor = known[wanted + distance] { return factor }
        }
        return 1
    }

    /// - Parameters:
    ///   - predicted: by the formulas alone.
    ///   - level: how much longer than that the worker's steps take at present.
    mutating func note(rows: Int, measured: Double, predicted: Double, level: Double) {
        if known.isEmpty {
            known = [Double?](repeating: nil, count: Self.classes)
            open = [Sums](repeating: Sums(), count: Self.classes)
        }
        let index = Self.rowClass(rows)
        guard known[index] == nil, measured > 0, predicted > 0 else { return }
        open[index].measured += measured
        open[index].predicted += predicted * level
        open[index].steps += 1
        guard open[index].measured >= Self.learnedSeconds, open[index].steps >= Self.learnedSteps else { return }
        known[index] = min(max(open[index].measured / open[index].predicted, Self.least), Self.most)
    }

    private static func rowClass(_ rows: Int) -> Int { min(classes - 1, Int.bitWidth - max(1, rows).leadingZeroBitCount - 1) }
}
