import ClusterCore

extension Generation {
    /// Waits for all choices; the JSON of the whole answer.
    /// - Throws: the cluster's failure; `clientLeft` where nobody will read what is thrown.
    func wholeAnswer() async throws(Failure) -> [UInt8] {
        var progress = GenerationProgress(model: model, job: job)
        var choices = (0..<job.choiceCount).map { index in
            Answer.Choice(piece: Piece(text: job.prompts[progress.prompt(of: index)].echo), prompt: progress.prompt(of: index))
        }
        for await event in stream.events {
            for output in progress.handle(event) {
                note(output, progress)
                switch output {
                case .piece(let choice, let piece, let finish):
                    choices[choice].piece += piece
                    choices[choice].finish = finish
                case .failed(let failure):
                    end(.error)
                    throw failure
                case .cancel, .cancelChoice, .remark: break
                }
            }
            if progress.hasEnded { break }
        }
        guard choices.allSatisfy({ $0.finish != nil }) else {
            end(.abort)
            throw Failure(.internalError, "The client left before the answer was complete.")
        }
        end(choices.contains { $0.finish == .length } ? .length : .stop)
        return answer.whole(choices, completionTokens: progress.completionTokens)
    }
}
