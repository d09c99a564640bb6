// A worker without a stage loads one ahead.

extension Worker {
    /// Whoever has, or is getting, a stage has no room for another one.
    mutating func loadAhead(_ assignment: StageAssignment, _ effects: inout [Effect]) {
        guard stage == nil, handover == nil else { return drop(.wrongState, from: nil, &effects) }
        guard isSound(assignment) else { return drop(.invalid, from: nil, &effects) }
        if let ahead, ahead.layers == assignment.layers, ahead.modelDigest == assignment.modelDigest { return }
        ahead = assignment
        held = 0..<0
        effects.append(.loadAhead(assignment))
    }

    /// It is in memory, or can't be: then the next load says why.
    mutating func loadedAhead(_ layers: Range<Int>, _ effects: inout [Effect]) {
        guard let ahead, stage == nil, handover == nil, layers == ahead.layers || layers.isEmpty else { return }
        if layers.isEmpty { self.ahead = nil }
        held = layers
        if !layers.isEmpty {
            effects.append(
                .log(LogEntry(.notice, "a stage was loaded ahead", [.init("layers", "\(layers.lowerBound)..<\(layers.upperBound)")])))
        }
    }

    /// Its layers are somebody's stage now, or nobody's.
    mutating func forgetAhead() {
        ahead = nil
        held = 0..<0
    }
}
