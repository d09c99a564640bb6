import Engine
import Foundation
import ModelFiles
import Testing

/// The figure against its definition, and the sums of an importance matrix against what the layers are given.
@Suite struct PerplexityTests {
    @Test func theValueIsTheExponentialOfTheMean() {
        var perplexity = Perplexity()
        for loss in [1.0, 2, 3, 6] { perplexity.add(loss) }
        #expect(perplexity.count == 4 && perplexity.value == exp(3.0))
        // Variance 3.5 over 4 - 1.
        #expect(abs(perplexity.error - (3.5 / 3).squareRoot() * exp(3.0)) < 1e-12)
        var one = Perplexity()
        one.add(2)
        #expect(one.value == exp(2.0) && one.error == 0)
    }

    @Test func lossOfLogits() {
        let logits: [Float] = [0, log(2), log(5), -1000]
        logits.withUnsafeBufferPointer { logits in
            #expect(abs(Perplexity.loss(of: 2, logits) - log(8.0 / 5)) < 1e-6)
            #expect(abs(Perplexity.loss(of: 3, logits) - (1000 + log(8.0))) < 1e-3)
        }
    }

    @Test func chunksBeginWithBOSWhereThereIsOne() {
        let tokens = (0..<23).map { Int32($0) }
        #expect(Perplexity.chunks(tokens: 23, contextTokens: 8) == 2)
        #expect(Perplexity.chunk(1, of: tokens, contextTokens: 8, bos: nil) == Array(8..<16))
        #expect(Perplexity.chunk(1, of: tokens, contextTokens: 8, bos: 99) == [99] + Array(9..<16))
    }

    /// Of a chunk of n tokens, those at n/2 + 1 ... n - 1 are foretold, each from all before it; cut into batches or not.
    @Test(arguments: [512, 7, 1])
    func aChunkCountsItsSecondHalf(chunkRows: Int) throws {
        let tiny = try TinyModel(.q8_0)
        var options = LocalGenerator.Options()
        options.chunkRows = chunkRows
        let generator = try LocalGenerator(file: tiny.file, options: options)
        let tokens = tiny.tokens(41, seed: 3)
        var expected: [Double] = []
        try generator.logits(tokens: tokens) { row, logits in
            if row >= 20, row < 40 { expected.append(Perplexity.loss(of: tokens[row + 1], logits)) }
        }
        var perplexity = Perplexity()
        var seen: [Double] = []
        let losses = try generator.measure(chunk: tokens, into: &perplexity) { seen.append(Perplexity.loss(of: tokens[21 + seen.count], $0)) }
        #expect(losses == expected && seen == expected && perplexity.count == 20)
        #expect(Perplexity.countedInChunk(contextTokens: 41) == 20 && Perplexity.countedInChunk(contextTokens: 512) == 255)
    }

    @Test func divergenceFromAReference() {
        var far = Divergence()
        func add(_ p: [Double], _ q: [Double]) -> Double {
            // A constant added to all logits changes no probability.
            let (p, q) = (p.map { Float(log($0)) + 30 }, q.map { Float(log($0)) - 2 })
            return p.withUnsafeBufferPointer { p in q.withUnsafeBufferPointer { far.add(p, reference: $0) } }
        }
        let first = add([0.5, 0.25, 0.25], [0.25, 0.5, 0.25])
        #expect(abs(first - (0.25 * log(0.5) + 0.5 * log(2))) < 1e-5)
        #expect(far.count == 1 && far.agreement == 0 && far.error == 0)
        let second = add([0.1, 0.2, 0.7], [0.1, 0.2, 0.7])
        #expect(abs(second) < 1e-5 && far.agreement == 0.5)
        #expect(abs(far.mean - (first + second) / 2) < 1e-12 && abs(far.error - abs(first - second) / 2) < 1e-9)
    }

    @Test func inputsAreSummedOverAllRows() throws {
        let tiny = try TinyModel(.f32)
        let tokens = tiny.tokens(33, seed: 8)
        func measured(threads: Int, chunkRows: Int) throws -> ImportanceSums {
            var options = LocalGenerator.Options()
            options.threads = threads
            options.chunkRows = chunkRows
            let generator = try LocalGenerator(file: tiny.file, options: options)
            let inputs = try MatrixInputs(model: generator.model, source: tiny.file)
            try generator.compute(tokens: tokens, watch: inputs)
            try generator.compute(tokens: Array(tokens.prefix(5)), watch: inputs)
            return inputs.importance()
        }
        let sums = try measured(threads: 1, chunkRows: 512)
        let names = (0..<3).flatMap { layer in
            ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"].map { "blk.\(layer).\($0).weight" }
        }
        #expect(sums.entries.keys.sorted() == names.sorted())
        #expect(sums.entries.values.allSatisfy { $0.counts == [38] })
        #expect(sums.entries["blk.1.ffn_down.weight"]?.columns == tiny.configuration.feedForward)
        for (threads, rows) in [(3, 512), (1, 4)] {
            let others = try measured(threads: threads, chunkRows: rows)
            for (name, entry) in others.entries { #expect(sums.entries[name]?.sums == entry.sums && sums.entries[name]?.counts == entry.counts) }
        }
        try checkFirstLayer(sums, tiny, tokens + tokens.prefix(5))
    }

    /// The first layer's queries are given the normed embedding of each token.
    private func checkFirstLayer(_ sums: ImportanceSums, _ tiny: TinyModel, _ tokens: [Int32]) throws {
        let hidden = tiny.configuration.hidden
        let embedding = try #require(tiny.file.tensor("token_embd.weight")).dequantized()
        let norm = try #require(tiny.file.tensor("blk.0.attn_norm.weight")).dequantized()
        var expected = [Double](repeating: 0, count: hidden)
        for token in tokens {
            let row = embedding[(Int(token) * hidden)..<((Int(token) + 1) * hidden)].map(Double.init)
            let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(hidden) + Double(tiny.configuration.normEpsilon)).squareRoot()
            for (column, value) in row.enumerated() { expected[column] += pow(value * scale * Double(norm[column]), 2) }
        }
        let found = try #require(sums.entries["blk.0.attn_q.weight"]).sums
        #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-5 * $1 })
    }
}
