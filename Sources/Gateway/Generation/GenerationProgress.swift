import ClusterCore

/// One HTTP request's generation as a value: events in, what the client is told out.
///
/// States: running; ended by all choices' ends, by a failure, or by the client's leaving. Events after the end give nothing.
struct GenerationProgress {
    enum Output {
        /// What a choice gained, with its finish reason once it has one. Choices count through all prompts.
        case piece(choice: Int, Piece, FinishReason?)
        /// A remark for people that no client takes for an answer.
        case remark(String)
        /// The gateway has all it wants of this prompt, but the cluster still works on it.
        case cancel(prompt: Int)
        /// The same of one choice, numbered within its prompt, while others of the prompt go on.
        case cancelChoice(prompt: Int, choice: UInt32)
        case failed(Failure)
    }

    private var choices: [ChoiceAssembler]
    private let choicesPerPrompt: Int
    /// By choice: whether the cluster said that it ended.
    private var isEndedByCluster: [Bool]
    private(set) var hasEnded = false

    init(model: ServedModel, job: GenerationJob) {
        choicesPerPrompt = job.options.choices
        choices = (0..<job.choiceCount).map { ChoiceAssembler(model: model, job: job, prompt: $0 / job.options.choices) }
        isEndedByCluster = Array(repeating: false, count: choices.count)
    }

    var completionTokens: Int { choices.reduce(0) { $0 + $1.tokenCount } }

    func tokenCount(of choice: Int) -> Int { choices[choice].tokenCount }
    func finish(of choice: Int) -> FinishReason? { choices[choice].finish }
    func prompt(of choice: Int) -> Int { choice / choicesPerPrompt }

    mutating func handle(_ event: GenerationStream.Event) -> [Output] {
        guard !hasEnded else { return [] }
        switch event {
        case .tick: return []
        case .clientLeft:
            hasEnded = true
            return []
        case .cluster(let prompt, .tokens(let choice, let tokens)):
            return advance(prompt, choice) { $0.append(tokens) }
        case .cluster(let prompt, .finished(let choice, let reason)):
            let index = prompt * choicesPerPrompt + Int(choice)
            guard choices.indices.contains(index) else { return [] }
            isEndedByCluster[index] = true
            return advance(prompt, choice) { $0.end(reason) }
        case .cluster(_, .failed(let failure)):
            hasEnded = true
            return [.failed(failure)]
        case .cluster(_, .paused(let reason)): return [.remark("paused " + reason)]
        case .cluster(_, .resumed): return [.remark("resumed")]
        }
    }

    private mutating func advance(_ prompt: Int, _ choice: UInt32, _ step: (inout ChoiceAssembler) -> Piece) -> [Output] {
        let index = prompt * choicesPerPrompt + Int(choice)
        guard choices.indices.contains(index), !choices[index].hasEnded else { return [] }
        let piece = step(&choices[index])
        let finish = choices[index].finish
        // A token that completes no character is an output too: its time counts.
        var outputs: [Output] = [.piece(choice: index, piece, finish)]
        guard finish != nil else { return outputs }
        let siblings = prompt * choicesPerPrompt..<(prompt + 1) * choicesPerPrompt
        if siblings.allSatisfy({ choices[$0].hasEnded }), !siblings.allSatisfy({ isEndedByCluster[$0] }) {
            outputs.append(.cancel(prompt: prompt))
        } else if !isEndedByCluster[index] {
            outputs.append(.cancelChoice(prompt: prompt, choice: choice))
        }
        hasEnded = choices.allSatisfy(\.hasEnded)
        return outputs
    }
}
