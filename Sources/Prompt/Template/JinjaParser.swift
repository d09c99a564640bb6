extension Jinja {
    /// Reads tokens into a `Program`: statements here, expressions in `JinjaExpressionParser.swift`.
    struct Parser {
        let tokens: [(token: Token, position: Position)]
        let limits: TemplateLimits
        var at = 0
        var depth = 0
        private var loopDepth = 0
        var names: [String] = []
        var symbols: [String: Symbol] = [:]
        /// Special names a macro's body mentioned: they decide what the macro takes.
        var mentioned: Set<String> = []

        static func program(of source: [UInt8], limits: TemplateLimits) throws(TemplateError) -> Program {
            guard source.count <= limits.sourceBytesMax else {
                throw TemplateError(.limit, "the template has \(source.count) bytes, sourceBytesMax is \(limits.sourceBytesMax)")
            }
            var parser = Parser(tokens: try Lexer.tokens(of: source), limits: limits)
            for name in Names.builtin { _ = parser.symbol(name) }
            let body = try parser.parseBody(until: [])
            return Program(body: body, names: parser.names, symbols: parser.symbols)
        }

        private init(tokens: [(token: Token, position: Position)], limits: TemplateLimits) {
            self.tokens = tokens
            self.limits = limits
        }

        /// The statements up to one of `ends`, whose name is left as the current token; with no ends, all of them.
        private mutating func parseBody(until ends: [String]) throws(TemplateError) -> [Statement] {
            try descend()
            defer { depth -= 1 }
            var body: [Statement] = []
            while true {
                let position = self.position
                switch current {
                case .data(let text):
                    advance()
                    body.append(.data(text))
                case .variableBegin:
                    advance()
                    let value = try parseTuple()
                    try expect(.variableEnd)
                    body.append(.output(value, position))
                case .blockBegin:
                    advance()
                    if case .name(let name) = current, ends.contains(name) { return body }
                    try parseStatement(into: &body)
                    try expect(.blockEnd)
                case .end where ends.isEmpty: return body
                case .end: throw failure("the template ends where \(ends.joined(separator: " or ")) is expected")
                default: throw failure("unexpected '\(current.description)'")
                }
            }
        }

        private mutating func parseStatement(into body: inout [Statement]) throws(TemplateError) {
            let position = self.position
            let tag = try expectName()
            switch tag {
            case "for": body.append(.loop(try parseFor(position)))
            case "if": body.append(try parseIf(position))
            case "set": body.append(try parseSet(position))
            case "macro": body.append(.macro(try parseMacro(position)))
            case "call": body.append(try parseCallBlock(position))
            case "filter": body.append(try parseFilterBlock(position))
            case "with": body.append(try parseWith(position))
            case "print": try parsePrint(into: &body, position)
            case "generation": body.append(.scope(try parseBlock(until: ["endgeneration"])))
            case "break", "continue":
                guard loopDepth > 0 else { throw TemplateError(.syntax, "\(tag) stands outside of a loop", at: position) }
                body.append(tag == "break" ? .leaveLoop : .nextTurn)
            case "include", "import", "from", "extends", "block", "autoescape":
                throw TemplateError(.unsupported, "the tag \(tag) is not known: a chat template stands alone", at: position)
            default: throw TemplateError(.syntax, "unknown tag \(tag)", at: position)
            }
        }

        /// `%} statements {% end`, end included.
        private mutating func parseBlock(until ends: [String]) throws(TemplateError) -> [Statement] {
            _ = skip(.colon)
            try expect(.blockEnd)
            let body = try parseBody(until: ends)
            if ends.count == 1 { advance() }
            return body
        }

        private mutating func parseFor(_ position: Position) throws(TemplateError) -> Loop {
            let target = try parseTarget(endingAtIn: true)
            try expectName("in")
            let iterable = try parseTuple(withChoice: false, endNames: ["recursive"])
            let test = skipName("if") ? try parseExpression() : nil
            let recursive = skipName("recursive")
            loopDepth += 1
            let body = try parseBlock(until: ["endfor", "else"])
            loopDepth -= 1
            let otherwise = try expectName() == "else" ? try parseBlock(until: ["endfor"]) : []
            return Loop(
                target: target, iterable: iterable, test: test, body: body, otherwise: otherwise, recursive: recursive,
                position: position)
        }

        private mutating func parseIf(_ position: Position) throws(TemplateError) -> Statement {
            var branches: [(test: Expression, body: [Statement])] = []
            while true {
                let test = try parseTuple(withChoice: false)
                branches.append((test, try parseBlock(until: ["elif", "else", "endif"])))
                switch try expectName() {
                case "elif": continue
                case "else": return .branch(branches, otherwise: try parseBlock(until: ["endif"]), position)
                default: return .branch(branches, otherwise: [], position)
                }
            }
        }

        private mutating func parseSet(_ position: Position) throws(TemplateError) -> Statement {
            let target = try parseTarget(withAttributes: true)
            if skip(.assign) { return .assign(target, try parseTuple(), position) }
            var filters: [Application] = []
            while skip(.pipe) { filters.append(try parseApplication()) }
            return .assignBlock(target, filters: filters, body: try parseBlock(until: ["endset"]), position)
        }

        private mutating func parseMacro(_ position: Position) throws(TemplateError) -> Macro {
            let name = try expectName()
            let (parameters, defaults) = try parseSignature()
            return try parseMacroBody(name, symbol(name), parameters, defaults, "endmacro", position)
        }

        private mutating func parseSignature() throws(TemplateError) -> ([(name: String, symbol: Symbol)], [Expression]) {
            var parameters: [(name: String, symbol: Symbol)] = []
            var defaults: [Expression] = []
            try expect(.sign(.openParen))
            while current != .sign(.closeParen) {
                if !parameters.isEmpty { try expect(.sign(.comma)) }
                let name = try expectName()
                if skip(.assign) {
                    defaults.append(try parseExpression())
                } else if !defaults.isEmpty {
                    throw failure("the parameter \(name) needs a default, because the one before it has one")
                }
                parameters.append((name, symbol(name)))
            }
            advance()
            return (parameters, defaults)
        }

        private mutating func parseMacroBody(
            _ name: String, _ symbol: Symbol?, _ parameters: [(name: String, symbol: Symbol)], _ defaults: [Expression],
            _ end: String, _ position: Position
        ) throws(TemplateError) -> Macro {
            let outerMentioned = mentioned
            let outerLoops = loopDepth
            mentioned = []
            loopDepth = 0
            let body = try parseBlock(until: [end])
            let inner = mentioned
            mentioned = outerMentioned
            loopDepth = outerLoops
            return Macro(
                name: name, symbol: symbol, parameters: parameters, defaults: defaults, body: body,
                takesVarargs: inner.contains("varargs"), takesKwargs: inner.contains("kwargs"),
                takesCaller: inner.contains("caller") || parameters.contains { $0.name == "caller" }, position: position)
        }

        private mutating func parseCallBlock(_ position: Position) throws(TemplateError) -> Statement {
            let (parameters, defaults) = current == .sign(.openParen) ? try parseSignature() : ([], [])
            let call = try parseExpression()
            guard case .call = call else { throw failure("expected a call") }
            let macro = try parseMacroBody("caller", nil, parameters, defaults, "endcall", position)
            return .callBlock(macro, call: call, position)
        }

        private mutating func parseFilterBlock(_ position: Position) throws(TemplateError) -> Statement {
            var filters = [try parseApplication()]
            while skip(.pipe) { filters.append(try parseApplication()) }
            return .filterBlock(filters, body: try parseBlock(until: ["endfilter"]), position)
        }

        private mutating func parseWith(_ position: Position) throws(TemplateError) -> Statement {
            var pairs: [(Target, Expression)] = []
            while current != .blockEnd {
                if !pairs.isEmpty { try expect(.sign(.comma)) }
                let target = try parseTarget()
                try expect(.sign(.assign))
                pairs.append((target, try parseExpression()))
            }
            return .with(pairs, body: try parseBlock(until: ["endwith"]), position)
        }

        private mutating func parsePrint(into body: inout [Statement], _ position: Position) throws(TemplateError) {
            var isFirst = true
            while current != .blockEnd {
                if !isFirst { try expect(.sign(.comma)) }
                isFirst = false
                body.append(.output(try parseExpression(), position))
            }
        }

        /// A name, a namespace's attribute, or several of them with commas: what `set`, `for` and `with` assign to.
        private mutating func parseTarget(withAttributes: Bool = false, endingAtIn: Bool = false) throws(TemplateError) -> Target {
            var parts: [Target] = []
            var isTuple = false
            while true {
                if !parts.isEmpty { try expect(.sign(.comma)) }
                if isTargetEnd(endingAtIn) { break }
                parts.append(try parseSingleTarget(withAttributes, endingAtIn))
                guard current == .sign(.comma) else { break }
                isTuple = true
            }
            if isTuple { return .tuple(parts) }
            guard let only = parts.first else { throw failure("expected a name to assign to, found '\(current.description)'") }
            return only
        }

        private func isTargetEnd(_ endingAtIn: Bool) -> Bool {
            switch current {
            case .variableEnd, .blockEnd, .sign(.closeParen): true
            case .name("in"): endingAtIn
            default: false
            }
        }

        private mutating func parseSingleTarget(_ withAttributes: Bool, _ endingAtIn: Bool) throws(TemplateError) -> Target {
            try descend()
            defer { depth -= 1 }
            if skip(.openParen) {
                let inner = try parseTarget(withAttributes: withAttributes)
                try expect(.sign(.closeParen))
                return inner
            }
            let name = try expectName()
            if withAttributes, skip(.dot) { return .attribute(of: symbol(name), Text(try expectName())) }
            guard !Names.constants.contains(name) else { throw failure("cannot assign to \(name)") }
            return .name(symbol(name))
        }
    }
}

// The token stream, as both halves of the parser use it.
extension Jinja.Parser {
    var current: Jinja.Token { tokens[at].token }
    var position: Jinja.Position { tokens[at].position }
    var following: Jinja.Token { tokens[min(at + 1, tokens.count - 1)].token }

    mutating func advance() { at = min(at + 1, tokens.count - 1) }

    func failure(_ message: String) -> TemplateError { TemplateError(.syntax, message, at: position) }

    mutating func expect(_ token: Jinja.Token) throws(TemplateError) {
        guard current == token else { throw failure("expected '\(token.description)', found '\(current.description)'") }
        advance()
    }

    mutating func expectName() throws(TemplateError) -> String {
        guard case .name(let name) = current else { throw failure("expected a name, found '\(current.description)'") }
        advance()
        return name
    }

    mutating func expectName(_ name: String) throws(TemplateError) { try expect(.name(name)) }

    mutating func skip(_ sign: Jinja.Sign) -> Bool {
        guard current == .sign(sign) else { return false }
        advance()
        return true
    }

    mutating func skipName(_ name: String) -> Bool {
        guard current == .name(name) else { return false }
        advance()
        return true
    }

    mutating func symbol(_ name: String) -> Jinja.Symbol {
        if let known = symbols[name] { return known }
        symbols[name] = names.count
        names.append(name)
        return names.count - 1
    }

    /// A name that is read, not assigned to.
    mutating func mention(_ name: String) -> Jinja.Symbol {
        mentioned.insert(name)
        return symbol(name)
    }

    /// Goes one level deeper; the caller comes back by `depth -= 1`.
    mutating func descend() throws(TemplateError) {
        depth += 1
        guard depth <= limits.parseDepthMax else {
            throw TemplateError(.limit, "the template nests deeper than parseDepthMax = \(limits.parseDepthMax)", at: position)
        }
    }

    mutating func ascend() { depth -= 1 }
}
