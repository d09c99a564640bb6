import ClusterCore
import Prompt
import Testing

@testable import Gateway

/// What a request means that says nothing of sampling, where the model's makers do.
@Suite struct ModelDefaultsTests {
    private static let sampling: [(String, Float)] = [
        ("temp", 0.625), ("top_p", 0.75), ("top_k", 20), ("min_p", 0.125), ("penalty_repeat", 1.0625), ("max_new_tokens", 30),
    ]

    private func request(_ json: String, usesModelDefaults: Bool = true, chat: Bool = true) throws -> SamplingParameters {
        let model = try ServedModel(
            welcome: TinyModel.welcome(), header: TinyModel.header(sampling: Self.sampling), names: [], usesModelDefaults: usesModelDefaults)
        guard case .object(let object) = try TemplateValue(json: Array(json.utf8)) else { throw TestClient.Trouble(message: "no object") }
        let fields = Fields(object)
        let job =
            chat
            ? try GenerationJob(chat: fields, model: model, limits: GatewayLimits(), randomSeed: 9, now: TemplateClock(secondsSinceEpoch: 0))
            : try GenerationJob(completion: fields, model: model, limits: GatewayLimits(), randomSeed: 9)
        return job.request(RequestID(high: 1, low: 1), prompt: 0, of: .anybody, priority: 0).sampling
    }

    private let silent = #"{"messages":[{"role":"user","content":"a"}]}"#

    @Test func areTakenWhereTheRequestIsSilent() throws {
        let sampling = try request(silent)
        #expect(sampling.temperature == 0.625 && sampling.topP == 0.75 && sampling.topK == 20)
        #expect(sampling.minP == 0.125 && sampling.repetitionPenalty == 1.0625)
    }

    @Test func areNotTakenWhereItSpeaks() throws {
        let sampling = try request(
            #"{"messages":[{"role":"user","content":"a"}],"temperature":0,"top_p":1,"top_k":-1,"min_p":0,"repetition_penalty":1}"#)
        #expect(sampling.temperature == 0 && sampling.topP == 1 && sampling.topK == 0 && sampling.minP == 0 && sampling.repetitionPenalty == 1)
    }

    @Test func boundEveryAnswer() throws {
        #expect(try request(silent).maxTokens == 30)
        #expect(try request(#"{"prompt":"a","max_tokens":40}"#, chat: false).maxTokens == 30)
        #expect(try request(#"{"prompt":"a","max_tokens":20}"#, chat: false).maxTokens == 20)
        #expect(try request(#"{"prompt":"a"}"#, chat: false).maxTokens == 16)
    }

    @Test func canBeLeftAside() throws {
        let sampling = try request(silent, usesModelDefaults: false)
        #expect(sampling.temperature == 1 && sampling.topP == 1 && sampling.topK == 0 && sampling.repetitionPenalty == 1)
        #expect(sampling.maxTokens > 30)
    }
}
