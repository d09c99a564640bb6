/// What a model's makers want a request to mean that says nothing of sampling: `generation_config.json`, or GGUF's `general.sampling.*`.
/// A nil field was not said.
package struct SamplingDefaults: Sendable, Equatable {
    /// 0 to 100; 0 is greedy.
    package var temperature: Double?
    /// Above 0, at most 1.
    package var topP: Double?
    /// 0 or −1 is no limit.
    package var topK: Int?
    /// 0 to 1.
    package var minP: Double?
    /// Above 0, at most 10; 1 changes nothing.
    package var repetitionPenalty: Double?
    /// Tokens of an answer at most (`max_new_tokens`).
    package var maxTokens: Int?

    package init() {}

    package var isEmpty: Bool { self == SamplingDefaults() }

    private static let keys: [(key: String, json: String)] = [
        ("general.sampling.temp", "temperature"), ("general.sampling.top_p", "top_p"), ("general.sampling.top_k", "top_k"),
        ("general.sampling.min_p", "min_p"), ("general.sampling.penalty_repeat", "repetition_penalty"),
        ("general.sampling.max_new_tokens", "max_new_tokens"),
    ]

    /// From a `generation_config.json`; of its members those that vLLM takes as defaults, with vLLM's meaning: `do_sample` is not looked at.
    /// Throws `invalidValue` for one that no request could have.
    init(_ object: JSONObject, name: String) throws(ModelFileError) {
        func number(_ key: String, _ range: ClosedRange<Double>) throws(ModelFileError) -> Double? {
            guard let value = object[key], !value.isNull else { return nil }
            guard let number = value.double, range.contains(number) else { throw SamplingDefaults.wrong(name, key, value.kind, range) }
            return number
        }
        func count(_ key: String, _ range: ClosedRange<Int>) throws(ModelFileError) -> Int? {
            guard let value = object[key], !value.isNull else { return nil }
            guard let count = value.int, range.contains(count) else {
                throw SamplingDefaults.wrong(name, key, value.kind, Double(range.lowerBound)...Double(range.upperBound))
            }
            return count
        }
        temperature = try number("temperature", 0...100)
        topP = try number("top_p", Double.leastNormalMagnitude...1)
        topK = try count("top_k", -1...Int(Int32.max))
        minP = try number("min_p", 0...1)
        repetitionPenalty = try number("repetition_penalty", Double.leastNormalMagnitude...10)
        maxTokens = try count("max_new_tokens", 1...Int(Int32.max))
    }

    /// From a model's metadata. Throws where a key has another type or no possible value.
    package init(_ metadata: Metadata) throws(ModelFileError) {
        var members: [(key: String, value: JSONValue)] = []
        for (key, json) in Self.keys {
            switch metadata[key] {
            case nil: continue
            case .float32, .float64: members.append((json, .double(try metadata.double(key)!)))
            default: members.append((json, .int(try metadata.int(key)!)))
            }
        }
        try self.init(JSONObject(members), name: "the metadata general.sampling")
    }

    func add(to metadata: inout Metadata) {
        let numbers = [temperature, topP, nil, minP, repetitionPenalty, nil]
        let counts = [nil, nil, topK, nil, nil, maxTokens]
        for (index, (key, _)) in Self.keys.enumerated() {
            if let number = numbers[index] { metadata.set(key, .float64(number)) }
            if let count = counts[index] { metadata.set(key, .int64(Int64(count))) }
        }
    }

    private static func wrong(_ name: String, _ key: String, _ found: String, _ range: ClosedRange<Double>) -> ModelFileError {
        ModelFileError(.invalidValue, "\(name): '\(key)' is \(found); \(range.lowerBound) to \(range.upperBound) is possible. Mend the file, or tell the server to ignore it.")
    }
}
