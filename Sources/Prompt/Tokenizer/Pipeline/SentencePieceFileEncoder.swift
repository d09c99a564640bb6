import ModelFiles

/// Text to tokens as SentencePiece does it with its own file: the text is normalised as a whole, user-defined pieces are left as they are, then
/// BPE by scores, or the unigram model.
struct SentencePieceFileEncoder: Sendable {
    private enum Model: Sendable {
        case bpe(SentencePieceEncoder)
        case unigram(UnigramModel)
    }

    private let map: PrecompiledMap?
    private let addsDummyPrefix: Bool
    private let removesExtraSpaces: Bool
    private let userDefined: AddedTokenFinder
    private let userDefinedTrie: ByteTrie
    private let model: Model
    private let unknownToken: Int32?

    init(_ file: SentencePieceFile) throws(PromptError) {
        map = file.map
        addsDummyPrefix = file.addsDummyPrefix
        removesExtraSpaces = file.removesExtraSpaces
        unknownToken = file.roles.first { $0.0 == .unknown }?.1
        var trie = ByteTrie()
        var tokens: [AddedToken] = []
        for (id, piece) in file.pieces.enumerated() where piece.type == .userDefined {
            trie.insert(piece.text, Int32(id))
            let text = String(decoding: piece.text, as: UTF8.self)
            tokens.append(
                AddedToken(id: Int32(id), text: text, isSpecial: false, isWord: false, stripsLeft: false, stripsRight: false, isNormalized: false))
        }
        userDefinedTrie = trie
        userDefined = AddedTokenFinder(tokens, names: tokens.map { Array($0.text.utf8) })
        switch file.algorithm {
        case .bpe:
            var source = VocabularySource(model: "llama", tokens: StringArray(file.pieces.map { String(decoding: $0.text, as: UTF8.self) }))
            source.types = file.pieces.map { Int($0.type.rawValue) }
            source.scores = file.pieces.map { Double($0.score) }
            source.specialTokens[.unknown] = unknownToken.map(Int.init)
            // The normalizer has put it there.
            source.addSpacePrefix = false
            model = .bpe(try SentencePieceEncoder(source, try Vocabulary(source)))
        case .unigram:
            model = .unigram(try UnigramModel(file))
        }
    }

    /// Appends the tokens of a text that is free of control tokens; bytes that are not UTF-8 become their bytes' tokens and cut the text as its
    /// end does.
    ///
    /// - Parameter isAtStart: whether nothing but BOS is before the text.
    func encode(_ text: UnsafeBufferPointer<UInt8>, isAtStart: Bool, into tokens: inout [Int32]) {
        var index = 0
        while index < text.count {
            let end = WellFormedUTF8.end(in: text, from: index)
            if end > index {
                encodeNormalized(normalized(Array(text[index..<end]), hasPrefix: isAtStart && index == 0), &tokens)
                index = end
            } else {
                encodeStray(text, index, &tokens)
                index += 1
            }
        }
    }

    private func encodeStray(_ text: UnsafeBufferPointer<UInt8>, _ index: Int, _ tokens: inout [Int32]) {
        switch model {
        case .bpe(let encoder): encoder.encode(UnsafeBufferPointer(rebasing: text[index..<index + 1]), isAtStart: false, into: &tokens)
        case .unigram(let model):
            let stray = model.tokens(ofStray: text[index])
            tokens += stray.isEmpty ? [unknownToken].compactMap { $0 } : stray
        }
    }

    private func encodeNormalized(_ text: [UInt8], _ tokens: inout [Int32]) {
        switch model {
        case .unigram(let model): model.encode(text, into: &tokens)
        case .bpe(let encoder):
            text.withUnsafeBufferPointer { text in
                for piece in userDefined.pieces(of: text, includingSpecial: true) {
                    if let token = piece.token {
                        tokens.append(token)
                    } else {
                        encoder.encode(UnsafeBufferPointer(rebasing: text[piece.range]), isAtStart: false, into: &tokens)
                    }
                }
            }
        }
    }

    /// With U+2581 for spaces.
    private func normalized(_ text: [UInt8], hasPrefix: Bool) -> [UInt8] {
        var rest = text[...]
        func next() -> ArraySlice<UInt8> {
            let (bytes, count) = first(of: rest)
            rest = rest.dropFirst(count)
            return bytes
        }
        var beginning: ArraySlice<UInt8>?
        if removesExtraSpaces {
            while !rest.isEmpty {
                let bytes = next()
                if !bytes.elementsEqual([0x20]) {
                    beginning = bytes
                    break
                }
            }
            if beginning == nil { return [] }
        }
        var result: [UInt8] = []
        result.reserveCapacity(text.count + 3)
        if hasPrefix, addsDummyPrefix { result += SpaceEscape.bytes }
        var isAfterSpace = removesExtraSpaces
        while beginning != nil || !rest.isEmpty {
            var bytes = beginning ?? next()
            beginning = nil
            if isAfterSpace { bytes = bytes.drop { $0 == 0x20 } }
            for byte in bytes { if byte == 0x20 { result += SpaceEscape.bytes } else { result.append(byte) } }
            if let last = bytes.last { isAfterSpace = removesExtraSpaces && last == 0x20 }
        }
        if removesExtraSpaces { while result.count >= 3, result.suffix(3).elementsEqual(SpaceEscape.bytes) { result.removeLast(3) } }
        return result
    }

    /// What the beginning of `text`, which is not empty, becomes, and how many bytes that takes.
    private func first(of text: ArraySlice<UInt8>) -> (bytes: ArraySlice<UInt8>, count: Int) {
        let own = text.withUnsafeBufferPointer { userDefinedTrie.longest(in: $0, at: 0)?.end }
        if let own { return (text.prefix(own), own) }
        if let map { return map.first(of: text) }
        let end = text.dropFirst().firstIndex { $0 & 0xC0 != 0x80 } ?? text.endIndex
        return (text[..<end], end - text.startIndex)
    }
}

extension UnigramModel {
    /// As SentencePiece itself does it: in single precision, with user-defined pieces before all others.
    init(_ file: SentencePieceFile) throws(PromptError) {
        let normal = file.pieces.filter { $0.type == .normal }.map(\.score)
        let scoreMax = normal.max() ?? 0
        var description = UnigramDescription()
        description.isSinglePrecision = true
        description.scoreMin = Double(normal.min() ?? 0)
        description.unknown = file.roles.first { $0.0 == .unknown }?.1
        description.fallsBackToBytes = file.fallsBackToBytes
        description.pieces = file.pieces.map { piece in
            let isOwn = piece.type == .userDefined
            return UnigramDescription.Piece(
                text: piece.text, score: isOwn ? Double(Float(piece.text.count) * scoreMax) - 0.1 : Double(piece.score),
                isUnusable: !(isOwn || piece.type == .normal))
        }
        try self.init(description)
    }
}
