/// Reads RoPE from a config.json, in either spelling: `rope_theta` and `rope_scaling`, or `rope_parameters` with all of it. Numbers are rounded
/// to the precision in which GGUF files keep them, so that a folder and the file made of it give the same bits.
struct HFRopeReader {
    private let config: HFMembers
    private let family: HFFamily
    /// nil where nothing but the base is said.
    private let members: HFMembers?
    private let kind: String

    init(_ config: HFMembers, family: HFFamily) throws(ModelFileError) {
        self.config = config
        self.family = family
        let scaling = try config.optionalMembers("rope_scaling")
        let parameters = try config.optionalMembers("rope_parameters")
        if scaling != nil, parameters != nil { throw config.contradiction("rope_scaling", "and 'rope_parameters' are both given; only one of them can hold") }
        members = scaling ?? parameters
        let (new, old) = (try members?.optionalString("rope_type"), try members?.optionalString("type"))
        if let new, let old, new != old { throw config.contradiction("rope_scaling", "has the rope_type '\(new)' and the type '\(old)'") }
        let said = new ?? old
        if members != nil, said == nil, members!.keys.contains(where: { !HFRopeReader.always.contains($0) }) {
            throw config.contradiction("rope_scaling", "names no rope_type")
        }
        // Phi-3's first files said "su", and some "yarn", for what became longrope.
        kind = said == "su" || (family == .phi3 && said == "yarn") ? "longrope" : said ?? "default"
    }

    func rope(headDimension: Int, contextLength: Int) throws(ModelFileError) -> ModelConfiguration.Rope {
        let base = try either("rope_theta") ?? family.ropeBase
        let dimensions = try readDimensions(headDimension)
        var rope = ModelConfiguration.Rope(
            base: Double(Float(base)), dimensions: dimensions, pairing: family.architecture.pairing, scaling: .none)
        switch kind {
        // The dynamic kind changes nothing up to the model's own context, and no sequence is longer.
        case "default", "dynamic": try refuseOthers(["factor"])
        case "linear":
            try refuseOthers(["factor"])
            let factor = try rounded(members!.double("factor"))
            rope.scaling = factor == 1 ? .none : .linear(factor: factor)
        case "llama3": rope.scaling = .divisors(try llama3(rope))
        case "yarn": rope.scaling = .yarn(try yarn(contextLength: contextLength))
        case "longrope": rope.scaling = .longrope(try longrope(contextLength: contextLength))
        default:
            throw config.unsupported("rope_scaling", "is of the type '\(kind)'; supported are default, linear, dynamic, llama3, yarn and longrope")
        }
        if kind != "longrope", let original = try config.optionalInt("original_max_position_embeddings"), original < contextLength {
            throw config.contradiction("original_max_position_embeddings", "is \(original), but RoPE is not scaled for a longer context of \(contextLength)")
        }
        return rope
    }

    /// A number that stands beside the scaling or in it.
    private func either(_ key: String) throws(ModelFileError) -> Double? {
        if let outer = try config.optionalDouble(key) { return outer }
        return try members?.optionalDouble(key)
    }

    private func readDimensions(_ headDimension: Int) throws(ModelFileError) -> Int {
        let part = try either("partial_rotary_factor") ?? 1
        guard part > 0, part <= 1 else { throw config.contradiction("partial_rotary_factor", "is \(part)") }
        guard (1...(1 << 14)).contains(headDimension) else { throw config.contradiction("head_dim", "is \(headDimension)") }
        return Int(Double(headDimension) * part)
    }

    private func llama3(_ rope: ModelConfiguration.Rope) throws(ModelFileError) -> [Float] {
        let members = members!
        try refuseOthers(["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
        let (low, high) = (try members.double("low_freq_factor"), try members.double("high_freq_factor"))
        let (factor, original) = (try members.double("factor"), try members.int("original_max_position_embeddings"))
        guard low > 0, high > low, factor > 0, original > 0 else {
            throw config.contradiction("rope_scaling", "blends from \(low) to \(high) turns over \(original) positions by a factor of \(factor)")
        }
        guard rope.base >= 1, rope.base <= 1e300, rope.dimensions > 0, rope.dimensions % 2 == 0, rope.dimensions <= 1 << 14 else {
            throw config.contradiction("rope_theta", "is \(rope.base), for \(rope.dimensions) elements of a head")
        }
        return ModelConfiguration.Rope.llama3Divisors(
            base: rope.base, dimensions: rope.dimensions, factor: factor, low: low, high: high, originalContext: original)
    }

    private func yarn(contextLength: Int) throws(ModelFileError) -> ModelConfiguration.Rope.Yarn {
        let members = members!
        try refuseOthers([
            "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
        ])
        if try members.optionalBool("truncate") == false { throw members.unsupported("truncate", "is false; only true is supported") }
        let factor = try rounded(members.double("factor"))
        var magnitude = ModelConfiguration.Rope.yarnMagnitude(factor: factor)
        if let said = try members.optionalDouble("attention_factor") {
            magnitude = said
        } else if let own = try members.optionalDouble("mscale"), let all = try members.optionalDouble("mscale_all_dim"), own != 0, all != 0 {
            magnitude = (own * (magnitude - 1) + 1) / (all * (magnitude - 1) + 1)
        }
        return ModelConfiguration.Rope.Yarn(
            factor: factor, originalContext: try members.optionalInt("original_max_position_embeddings") ?? contextLength,
            betaFast: try rounded(members.optionalDouble("beta_fast") ?? 32), betaSlow: try rounded(members.optionalDouble("beta_slow") ?? 1),
            magnitude: Float(magnitude))
    }

    private func longrope(contextLength: Int) throws(ModelFileError) -> ModelConfiguration.Rope.LongRope {
        let members = members!
        try refuseOthers(["short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"])
        guard let short = try members.optionalFloats("short_factor") else { throw members.missing("short_factor") }
        guard let long = try members.optionalFloats("long_factor") else { throw members.missing("long_factor") }
        let outer = try config.optionalInt("original_max_position_embeddings")
        let inner = try members.optionalInt("original_max_position_embeddings")
        if let outer, let inner, outer != inner {
            throw config.contradiction("original_max_position_embeddings", "is \(outer), but \(inner) in its rope_scaling")
        }
        let original = outer ?? inner ?? contextLength
        if let factor = try members.optionalDouble("factor"), factor != Double(contextLength) / Double(original) {
            throw members.contradiction("factor", "is \(factor), but the context grew from \(original) to \(contextLength)")
        }
        let magnitude = try members.optionalDouble("attention_factor").map { Float($0) }
        return ModelConfiguration.Rope.LongRope(
            short: short, long: long, originalContext: original,
            magnitude: magnitude ?? ModelConfiguration.Rope.longMagnitude(context: contextLength, originalContext: original))
    }

    private static let always: Set<String> = ["rope_type", "type", "rope_theta", "partial_rotary_factor"]

    private func refuseOthers(_ understood: Set<String>) throws(ModelFileError) {
        guard let members else { return }
        for key in members.keys where !understood.contains(key) && !HFRopeReader.always.contains(key) && !members.isNull(key) {
            throw members.unsupported(key, "is not understood for RoPE of the type '\(kind)'")
        }
    }

    private func rounded(_ number: Double) -> Double { Double(Float(number)) }
}
