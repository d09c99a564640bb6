import Testing

@testable import Prompt

/// The merger against the definition of BPE, written as plainly as can be.
@Suite struct SymbolMergerTests {
    @Test("scan and heap give what the definition gives", arguments: [1, 2, 3, 4] as [UInt64])
    func definition(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let rules = randomRules(&random)
        var table = MergeTable(capacity: rules.count)
        for (pair, merge) in rules { table.insert(left: pair.left, right: pair.right, rank: merge.rank, symbol: merge.symbol) }
        var merger = SymbolMerger()
        for length in Array(0...70) + [150, 400] {
            let word = (0..<length).map { _ in Int32.random(in: -1..<4, using: &random) }
            merger.removeAll()
            for (index, symbol) in word.enumerated() { merger.append(id: symbol, start: index) }
            merger.merge(table)
            #expect(merger.symbols.map(\.id) == mergeByDefinition(word, rules), "seed \(seed), word \(word)")
            #expect(merger.symbols.map(\.start) == merger.symbols.map(\.start).sorted())
        }
    }

    /// The work of a long word, whose time no test should measure: this does not end soon if it is quadratic.
    @Test("a word of 51,264 symbols")
    func longWord() {
        // a a → b, b b → c, ...: eight levels of halving.
        var table = MergeTable(capacity: 8)
        for level in 0..<8 { table.insert(left: Int32(level), right: Int32(level), rank: UInt32(level), symbol: Int32(level + 1)) }
        var merger = SymbolMerger()
        for index in 0..<51_264 { merger.append(id: 0, start: index) }
        merger.merge(table)
        #expect(merger.symbols.prefix(200).allSatisfy { $0.id == 8 })
        #expect(merger.symbols.dropFirst(200).map(\.id) == [6])
        #expect(merger.symbols[1].start == 256)
    }

    struct Pair: Hashable {
        let left: Int32
        let right: Int32
    }

    /// Some ranks are shared, as SentencePiece's scores may be.
    private func randomRules(_ random: inout SeededRandom) -> [Pair: (rank: UInt32, symbol: Int32)] {
        var rules: [Pair: (rank: UInt32, symbol: Int32)] = [:]
        for symbol in Int32(4)..<40 {
            let pair = Pair(left: .random(in: 0..<symbol, using: &random), right: .random(in: 0..<min(symbol, 8), using: &random))
            rules[pair] = (UInt32.random(in: 0..<20, using: &random), symbol)
        }
        return rules
    }

    private func mergeByDefinition(_ word: [Int32], _ rules: [Pair: (rank: UInt32, symbol: Int32)]) -> [Int32] {
        var word = word
        while true {
            let pairs = zip(word, word.dropFirst()).enumerated().compactMap { index, pair in
                rules[Pair(left: pair.0, right: pair.1)].map { (index: index, rank: $0.rank, symbol: $0.symbol) }
            }
            guard let best = pairs.min(by: { ($0.rank, $0.index) < ($1.rank, $1.index) }) else { return word }
            word.replaceSubrange(best.index...best.index + 1, with: [best.symbol])
        }
    }
}
