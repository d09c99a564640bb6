import ClusterCore
import Prompt
import Testing

@testable import Gateway

@Suite struct ChoiceAssemblerTests {
    private func assembler(_ members: String = "", chat: Bool = false) throws -> ChoiceAssembler {
        guard case .object(let object) = try TemplateValue(json: Array(#"{"prompt":"p"\#(members)}"#.utf8)) else { fatalError() }
        let model = try TinyModel.served()
        let job = try GenerationJob(completion: Fields(object), model: model, limits: GatewayLimits(), randomSeed: 0)
        return ChoiceAssembler(model: model, job: job, prompt: 0)
    }

    private func tokens(_ text: String) -> [EmittedToken] { TinyModel.tokens(text).map { EmittedToken(token: $0) } }

    @Test func charactersAreNeverCut() throws {
        var choice = try assembler()
        let texts = tokens("aé€😀").map { choice.append([$0]).text }
        #expect(texts == ["a", "", "é", "", "", "€", "", "", "", "😀"])
        #expect(choice.end(.length).text == "")
        #expect(choice.finish == .length)
        #expect(choice.tokenCount == 10)
    }

    @Test func halfACharacterAtTheEndIsShownAsSuch() throws {
        var choice = try assembler()
        #expect(choice.append(tokens("a") + [EmittedToken(token: 0xE2)]).text == "a")
        #expect(choice.end(.length).text == "\u{FFFD}")
    }

    @Test func stopStringEndsTheChoiceWhereverItIsCut() throws {
        var choice = try assembler(#","stop":["END"]"#)
        #expect(choice.append(tokens("abE")).text == "ab")
        #expect(choice.append(tokens("N")).text == "")
        #expect(choice.finish == nil)
        #expect(choice.append(tokens("Dxyz")).text == "")
        #expect(choice.finish == .stop)
        // What follows the stop string was never wanted, so it is not counted.
        #expect(choice.tokenCount == 5)
        #expect(choice.append(tokens("more")).isEmpty)
        #expect(choice.end(.length).isEmpty)
        #expect(choice.finish == .stop)
    }

    @Test func heldBackTextComesAtTheEnd() throws {
        var choice = try assembler(#","stop":["END"]"#)
        #expect(choice.append(tokens("abEN")).text == "ab")
        #expect(choice.end(.length).text == "EN")
    }

    @Test func stopStringMayBeKept() throws {
        var choice = try assembler(#","stop":["b"],"include_stop_str_in_output":true"#)
        #expect(choice.append(tokens("abc")).text == "ab")
        #expect(choice.finish == .stop)
    }

    @Test func endTokensCountButDontShow() throws {
        for members in ["", #","skip_special_tokens":false"#] {
            var choice = try assembler(members)
            #expect(choice.append(tokens("ab") + [EmittedToken(token: TinyModel.turnEnd)]).text == "ab")
            #expect(choice.end(.stop).text == "")
            #expect(choice.tokenCount == 3)
        }
        var shown = try assembler(#","skip_special_tokens":false,"include_stop_str_in_output":true"#)
        #expect(shown.append([EmittedToken(token: TinyModel.turnEnd)]).text == "")
        #expect(shown.end(.stop).text == "<|im_end|>")
    }

    @Test func stopTokenOfTheRequestDoesNotShow() throws {
        var choice = try assembler(#","stop_token_ids":[98]"#)
        #expect(choice.append(tokens("ab")).text == "a")
        #expect(choice.end(.stop).text == "")
        // The same token as the last of a full answer is text.
        var full = try assembler(#","stop_token_ids":[98]"#)
        #expect(full.append(tokens("ab")).text == "a")
        #expect(full.end(.length).text == "b")
    }

    @Test func ignoredEndTokensAreOrdinary() throws {
        var choice = try assembler(#","ignore_eos":true,"skip_special_tokens":false"#)
        #expect(choice.append([EmittedToken(token: TinyModel.turnEnd)] + tokens("a")).text == "<|im_end|>a")
    }

    @Test func logprobsKnowWhereTheirTextBegins() throws {
        var choice = try assembler(#","logprobs":1"#)
        let drawn = TinyModel.tokens("é!").map {
            EmittedToken(token: $0, logprob: -0.5, top: [TokenLogprob(token: $0, logprob: -0.5)])
        }
        let piece = choice.append(drawn)
        #expect(piece.entries.map(\.textOffset) == [0, 0, 1])
        #expect(piece.entries.map(\.bytes) == [[0xC3], [0xA9], [0x21]])
        #expect(piece.entries[2].top == [.init(bytes: [0x21], logprob: -0.5)])
    }
}

@Suite struct GenerationProgressTests {
    private func progress(_ members: String) throws -> GenerationProgress {
        guard case .object(let object) = try TemplateValue(json: Array("{\(members)}".utf8)) else { fatalError() }
        let model = try TinyModel.served()
        let job = try GenerationJob(completion: Fields(object), model: model, limits: GatewayLimits(), randomSeed: 0)
        return GenerationProgress(model: model, job: job)
    }

    private func tokens(_ prompt: Int, _ choice: UInt32, _ text: String) -> GenerationStream.Event {
        .cluster(prompt: prompt, .tokens(choice: choice, TinyModel.tokens(text).map { EmittedToken(token: $0) }))
    }

    /// Outputs in short: "0:ab", "0:ab/stop", "cancel 1", "failed queueFull", "# paused".
    private func shorthand(_ outputs: [GenerationProgress.Output]) -> [String] {
        outputs.map { output in
            switch output {
            case .piece(let choice, let piece, let finish): "\(choice):\(piece.text)" + (finish.map { "/\($0)" } ?? "")
            case .remark(let text): "# \(text)"
            case .cancel(let prompt): "cancel \(prompt)"
            case .cancelChoice(let prompt, let choice): "cancel \(prompt).\(choice)"
            case .failed(let failure): "failed \(failure.code)"
            }
        }
    }

    @Test func choicesCountThroughAllPrompts() throws {
        var progress = try progress(#""prompt":["a","b"],"n":2"#)
        #expect(shorthand(progress.handle(tokens(0, 1, "x"))) == ["1:x"])
        #expect(shorthand(progress.handle(tokens(1, 0, "y"))) == ["2:y"])
        for (prompt, choice) in [(0, UInt32(0)), (0, 1), (1, 1)] {
            #expect(
                shorthand(progress.handle(.cluster(prompt: prompt, .finished(choice: choice, .length)))) == ["\(prompt * 2 + Int(choice)):/length"])
            #expect(!progress.hasEnded)
        }
        #expect(shorthand(progress.handle(.cluster(prompt: 1, .finished(choice: 0, .stop)))) == ["2:/stop"])
        #expect(progress.hasEnded)
        #expect(progress.completionTokens == 2)
    }

    @Test func aPromptIsCancelledOnceAllItsChoicesMetStopStrings() throws {
        var progress = try progress(#""prompt":"a","n":2,"stop":"!""#)
        #expect(shorthand(progress.handle(tokens(0, 0, "x!"))) == ["0:x/stop", "cancel 0.0"])
        #expect(shorthand(progress.handle(tokens(0, 0, "later"))) == [])
        #expect(shorthand(progress.handle(tokens(0, 1, "y!"))) == ["1:y/stop", "cancel 0"])
        #expect(progress.hasEnded)
    }

    @Test func nothingIsCancelledThatEndedByItself() throws {
        var progress = try progress(#""prompt":"a""#)
        #expect(shorthand(progress.handle(.cluster(prompt: 0, .finished(choice: 0, .stop)))) == ["0:/stop"])
        #expect(progress.hasEnded)
    }

    @Test func aFailureEndsAll() throws {
        var progress = try progress(#""prompt":["a","b"]"#)
        let failure = Failure(.numericFailure, "layer 3")
        #expect(shorthand(progress.handle(.cluster(prompt: 1, .failed(failure)))) == ["failed numericFailure"])
        #expect(progress.hasEnded)
        #expect(shorthand(progress.handle(tokens(0, 0, "x"))) == [])
    }

    @Test func pausesAreRemarks() throws {
        var progress = try progress(#""prompt":"a""#)
        #expect(shorthand(progress.handle(.cluster(prompt: 0, .paused("one worker died")))) == ["# paused one worker died"])
        #expect(shorthand(progress.handle(.cluster(prompt: 0, .resumed))) == ["# resumed"])
    }

    @Test func choicesThatNobodyAskedForAreIgnored() throws {
        var progress = try progress(#""prompt":"a""#)
        #expect(shorthand(progress.handle(tokens(0, 9, "x"))) == [])
        #expect(shorthand(progress.handle(.cluster(prompt: 0, .finished(choice: 9, .stop)))) == [])
    }
}
