import ModelFiles

/// SentencePiece's own file (`tokenizer.model`, a protobuf `ModelProto`), read and checked. Fields that change nothing here are passed over; a
/// switch that we do not obey is refused by name.
struct SentencePieceFile: Sendable {
    enum Algorithm: Sendable { case unigram, bpe }

    struct Piece: Sendable {
        var text: [UInt8] = []
        var score: Float = 0
        var type = TokenType.normal
    }

    private(set) var pieces: [Piece] = []
    private(set) var algorithm = Algorithm.unigram
    private(set) var map: PrecompiledMap?
    private(set) var addsDummyPrefix = true
    private(set) var removesExtraSpaces = true
    private var ids: [SpecialTokenKey: Int] = [.unknown: 0, .bos: 1, .eos: 2]

    /// Throws `invalidValue` or `unsupportedTokenizer`.
    init(_ bytes: [UInt8]) throws(PromptError) {
        var reader = ProtobufReader(bytes[...])
        while let field = try reader.next() {
            switch field.number {
            case 1: pieces.append(try Self.piece(field.bytes()))
            case 2: try readTrainer(field.bytes())
            case 3: try readNormalizer(field.bytes())
            case 5: try Self.checkDenormalizer(field.bytes())
            default: continue
            }
            guard pieces.count <= Vocabulary.tokensMax else { throw Self.invalid("has more than \(Vocabulary.tokensMax) pieces") }
        }
        guard !pieces.isEmpty else { throw Self.invalid("has no pieces") }
    }

    static func invalid(_ what: String) -> PromptError {
        PromptError(.invalidValue, "The model's tokenizer.model \(what). The file is damaged; fetch it again.")
    }

    private static func unsupported(_ what: String) -> PromptError {
        PromptError(.unsupportedTokenizer, "The model's tokenizer.model \(what), which is not supported. Choose another model.")
    }

    /// Tokens with a role, where the file has them.
    var roles: [(SpecialTokenKey, Int32)] {
        let wanted: [(SpecialTokenKey, TokenType)] = [(.unknown, .unknown), (.bos, .control), (.eos, .control), (.padding, .control)]
        return wanted.compactMap { role, type in
            guard let id = ids[role], pieces.indices.contains(id), pieces[id].type == type else { return nil }
            return (role, Int32(id))
        }
    }

    var fallsBackToBytes: Bool { pieces.contains { $0.type == .byte } }

    private static func piece(_ bytes: ArraySlice<UInt8>) throws(PromptError) -> Piece {
        var piece = Piece()
        var reader = ProtobufReader(bytes)
        while let field = try reader.next() {
            switch field.number {
            case 1: piece.text = Array(try field.bytes())
            case 2: piece.score = try field.float()
            case 3:
                let number = try field.integer()
                guard let raw = UInt8(exactly: number), let type = TokenType(rawValue: raw) else {
                    throw invalid("has a piece of the type \(number)")
                }
                piece.type = type
            default: continue
            }
        }
        guard !piece.text.isEmpty, String(validating: piece.text, as: UTF8.self) != nil, piece.score.isFinite else {
            throw invalid("has a piece without a text or with a score that is no number")
        }
        guard piece.type != .byte || Vocabulary.byteValue(piece.text[...]) != nil else {
            throw invalid("calls a piece a byte that is not written <0x00> to <0xFF>")
        }
        return piece
    }

    private mutating func readTrainer(_ bytes: ArraySlice<UInt8>) throws(PromptError) {
        var reader = ProtobufReader(bytes)
        while let field = try reader.next() {
            switch field.number {
            case 3:
                switch try field.integer() {
                case 1: algorithm = .unigram
                case 2: algorithm = .bpe
                case let other: throw Self.unsupported("has a model of the type \(other) (1 is unigram, 2 BPE)")
                }
            case 24: if try field.integer() != 0 { throw Self.unsupported("puts spaces behind words") }
            case 40: ids[.unknown] = try field.index()
            case 41: ids[.bos] = try field.index()
            case 42: ids[.eos] = try field.index()
            case 43: ids[.padding] = try field.index()
            default: continue
            }
        }
    }

    private mutating func readNormalizer(_ bytes: ArraySlice<UInt8>) throws(PromptError) {
        var reader = ProtobufReader(bytes)
        while let field = try reader.next() {
            switch field.number {
            case 2:
                let bytes = try field.bytes()
                map = bytes.isEmpty ? nil : try PrecompiledMap(Array(bytes))
            case 3: addsDummyPrefix = try field.integer() != 0
            case 4: removesExtraSpaces = try field.integer() != 0
            case 5: if try field.integer() == 0 { throw Self.unsupported("leaves spaces as they are") }
            default: continue
            }
        }
    }

    private static func checkDenormalizer(_ bytes: ArraySlice<UInt8>) throws(PromptError) {
        var reader = ProtobufReader(bytes)
        while let field = try reader.next() {
            if field.number == 2, try !field.bytes().isEmpty { throw unsupported("changes text after decoding") }
        }
    }
}

/// A cursor over a protobuf message: one field after the other.
struct ProtobufReader {
    struct Field {
        let number: Int
        fileprivate let value: Value

        func bytes() throws(PromptError) -> ArraySlice<UInt8> {
            guard case .bytes(let bytes) = value else { throw SentencePieceFile.invalid("has no bytes in its field \(number)") }
            return bytes
        }

        func integer() throws(PromptError) -> UInt64 {
            guard case .integer(let integer) = value else { throw SentencePieceFile.invalid("has no integer in its field \(number)") }
            return integer
        }

        /// A piece's number; nil for −1, which is none.
        func index() throws(PromptError) -> Int? { Int(exactly: Int64(bitPattern: try integer())).flatMap { $0 >= 0 ? $0 : nil } }

        func float() throws(PromptError) -> Float {
            guard case .bits(let bits) = value else { throw SentencePieceFile.invalid("has no number in its field \(number)") }
            return Float(bitPattern: bits)
        }
    }

    fileprivate enum Value {
        case integer(UInt64)
        case bits(UInt32)
        case bits64
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// nil at the end.
    mutating func next() throws(PromptError) -> Field? {
        guard !rest.isEmpty else { return nil }
        let key = try varint()
        guard let number = Int(exactly: key >> 3), number > 0 else { throw SentencePieceFile.invalid("has a field without a number") }
        switch key & 7 {
        case 0: return Field(number: number, value: .integer(try varint()))
        case 1:
            _ = try take(8)
            return Field(number: number, value: .bits64)
        case 2:
            let count = try varint()
            guard count <= UInt64(rest.count) else { throw SentencePieceFile.invalid("ends within its field \(number)") }
            return Field(number: number, value: .bytes(try take(Int(count))))
        case 5: return Field(number: number, value: .bits(try take(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }))
        default: throw SentencePieceFile.invalid("has a field \(number) of an unknown kind")
        }
    }

    private mutating func take(_ count: Int) throws(PromptError) -> ArraySlice<UInt8> {
        guard rest.count >= count else { throw SentencePieceFile.invalid("ends within a number") }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }

    private mutating func varint() throws(PromptError) -> UInt64 {
        var result: UInt64 = 0
        for shift in stride(from: 0, to: 64, by: 7) {
            guard let byte = rest.popFirst() else { break }
            result |= UInt64(byte & 0x7F) << UInt64(shift)
            if byte < 0x80 { return result }
        }
        throw SentencePieceFile.invalid("has a number without an end")
    }
}
