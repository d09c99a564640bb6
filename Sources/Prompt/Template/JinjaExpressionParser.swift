// Expressions, one function a rank, loosest first.
extension Jinja.Parser {
    typealias Expression = Jinja.Expression

    /// One expression, or several with commas as a tuple.
    mutating func parseTuple(
        withChoice: Bool = true, endNames: [String] = [], inParentheses: Bool = false
    ) throws(TemplateError) -> Expression {
        var items: [Expression] = []
        var isTuple = false
        while true {
            if !items.isEmpty { try expect(.sign(.comma)) }
            if isTupleEnd(endNames) { break }
            items.append(withChoice ? try parseExpression() : try parseOr())
            guard current == .sign(.comma) else { break }
            isTuple = true
        }
        if !isTuple {
            if let only = items.first { return only }
            guard inParentheses else { throw failure("expected an expression, found '\(current.description)'") }
        }
        return .tuple(items)
    }

    private func isTupleEnd(_ endNames: [String]) -> Bool {
        switch current {
        case .variableEnd, .blockEnd, .sign(.closeParen): true
        case .name(let name): endNames.contains(name)
        default: false
        }
    }

    /// `value if test else other`
    mutating func parseExpression() throws(TemplateError) -> Expression {
        try descend()
        defer { ascend() }
        var value = try parseOr()
        var links = 0
        while skipName("if") {
            try countLink(&links)
            let test = try parseOr()
            let otherwise = skipName("else") ? try parseExpression() : nil
            value = .choose(test: test, then: value, otherwise: otherwise)
        }
        return value
    }

    mutating func parseOr() throws(TemplateError) -> Expression {
        var terms = [try parseAnd()]
        while skipName("or") { terms.append(try parseAnd()) }
        return terms.count == 1 ? terms[0] : .or(terms)
    }

    private mutating func parseAnd() throws(TemplateError) -> Expression {
        var terms = [try parseNot()]
        while skipName("and") { terms.append(try parseNot()) }
        return terms.count == 1 ? terms[0] : .and(terms)
    }

    private mutating func parseNot() throws(TemplateError) -> Expression {
        guard skipName("not") else { return try parseComparison() }
        try descend()
        defer { ascend() }
        return .not(try parseNot())
    }

    private mutating func parseComparison() throws(TemplateError) -> Expression {
        let first = try parseSum()
        var rest: [(Jinja.Comparison, Expression)] = []
        while let comparison = takeComparison() { rest.append((comparison, try parseSum())) }
        return rest.isEmpty ? first : .compare(first, rest)
    }

    private mutating func takeComparison() -> Jinja.Comparison? {
        let comparison: Jinja.Comparison? =
            switch current {
            case .sign(.equal): .equal
            case .sign(.notEqual): .notEqual
            case .sign(.less): .less
            case .sign(.lessOrEqual): .lessOrEqual
            case .sign(.greater): .greater
            case .sign(.greaterOrEqual): .greaterOrEqual
            case .name("in"): .isIn
            case .name("not") where following == .name("in"): .isNotIn
            default: nil
            }
        if comparison != nil { advance() }
        if comparison == .isNotIn { advance() }
        return comparison
    }

    private mutating func parseSum() throws(TemplateError) -> Expression {
        let first = try parseConcatenation()
        var rest: [(Jinja.BinaryOperator, Expression)] = []
        while true {
            let op: Jinja.BinaryOperator
            switch current {
            case .sign(.add): op = .add
            case .sign(.subtract): op = .subtract
            default: return rest.isEmpty ? first : .arithmetic(first, rest)
            }
            advance()
            rest.append((op, try parseConcatenation()))
        }
    }

    private mutating func parseConcatenation() throws(TemplateError) -> Expression {
        var parts = [try parseProduct()]
        while skip(.tilde) { parts.append(try parseProduct()) }
        return parts.count == 1 ? parts[0] : .concatenate(parts)
    }

    private mutating func parseProduct() throws(TemplateError) -> Expression {
        let first = try parsePower()
        var rest: [(Jinja.BinaryOperator, Expression)] = []
        while true {
            let op: Jinja.BinaryOperator
            switch current {
            case .sign(.multiply): op = .multiply
            case .sign(.divide): op = .divide
            case .sign(.floorDivide): op = .floorDivide
            case .sign(.modulo): op = .modulo
            default: return rest.isEmpty ? first : .arithmetic(first, rest)
            }
            advance()
            rest.append((op, try parsePower()))
        }
    }

    private mutating func parsePower() throws(TemplateError) -> Expression {
        let first = try parseUnary(withFilters: true)
        var rest: [(Jinja.BinaryOperator, Expression)] = []
        while skip(.power) { rest.append((.power, try parseUnary(withFilters: true))) }
        return rest.isEmpty ? first : .arithmetic(first, rest)
    }

    private mutating func parseUnary(withFilters: Bool) throws(TemplateError) -> Expression {
        try descend()
        defer { ascend() }
        var value: Expression
        if skip(.subtract) {
            value = .negate(try parseUnary(withFilters: false))
        } else if skip(.add) {
            value = .plus(try parseUnary(withFilters: false))
        } else {
            value = try parsePrimary()
        }
        var links = 0
        value = try parsePostfix(value, &links)
        return withFilters ? try parseFilters(value, &links) : value
    }

    /// Links of one chain (`a.b|c(d)[e]`) nest in the tree, so they are counted.
    private func countLink(_ links: inout Int) throws(TemplateError) {
        links += 1
        guard links <= limits.parseDepthMax else {
            throw TemplateError(.limit, "an expression chains more than parseDepthMax = \(limits.parseDepthMax) parts", at: position)
        }
    }

    private mutating func parsePrimary() throws(TemplateError) -> Expression {
        switch current {
        case .name(let name):
            advance()
            switch name {
            case "true", "True": return .bool(true)
            case "false", "False": return .bool(false)
            case "none", "None": return .none
            default: return .name(mention(name))
            }
        case .text(var text):
            advance()
            while case .text(let more) = current {
                text.utf8 += more.utf8
                advance()
            }
            return .text(text)
        case .int(let value):
            advance()
            return .int(value)
        case .double(let value):
            advance()
            return .double(value)
        case .sign(.openParen):
            advance()
            let value = try parseTuple(inParentheses: true)
            try expect(.sign(.closeParen))
            return value
        case .sign(.openBracket): return try parseList()
        case .sign(.openBrace): return try parseDictionary()
        default: throw failure("unexpected '\(current.description)'")
        }
    }

    private mutating func parseList() throws(TemplateError) -> Expression {
        advance()
        var items: [Expression] = []
        while current != .sign(.closeBracket) {
            if !items.isEmpty {
                try expect(.sign(.comma))
                if current == .sign(.closeBracket) { break }
            }
            items.append(try parseExpression())
        }
        advance()
        return .list(items)
    }

    private mutating func parseDictionary() throws(TemplateError) -> Expression {
        advance()
        var items: [(key: Expression, value: Expression)] = []
        while current != .sign(.closeBrace) {
            if !items.isEmpty {
                try expect(.sign(.comma))
                if current == .sign(.closeBrace) { break }
            }
            let key = try parseExpression()
            try expect(.sign(.colon))
            items.append((key, try parseExpression()))
        }
        advance()
        return .dictionary(items)
    }

    private mutating func parsePostfix(_ first: Expression, _ links: inout Int) throws(TemplateError) -> Expression {
        var value = first
        while true {
            switch current {
            case .sign(.dot): value = try parseAttribute(of: value)
            case .sign(.openBracket): value = try parseSubscript(of: value)
            case .sign(.openParen): value = .call(value, try parseArguments())
            default: return value
            }
            try countLink(&links)
        }
    }

    private mutating func parseFilters(_ first: Expression, _ links: inout Int) throws(TemplateError) -> Expression {
        var value = first
        while true {
            switch current {
            case .sign(.pipe):
                advance()
                value = .filter(value, try parseApplication())
            case .name("is"): value = try parseTest(of: value)
            case .sign(.openParen): value = .call(value, try parseArguments())
            default: return value
            }
            try countLink(&links)
        }
    }

    private mutating func parseAttribute(of value: Expression) throws(TemplateError) -> Expression {
        advance()
        switch current {
        case .name(let name):
            advance()
            return .attribute(value, Jinja.Text(name))
        case .int(let index):
            advance()
            return .item(value, .int(index))
        default: throw failure("expected a name or a number after the point")
        }
    }

    private mutating func parseSubscript(of value: Expression) throws(TemplateError) -> Expression {
        advance()
        if current == .sign(.closeBracket) { throw failure("expected an index") }
        let from = current == .sign(.colon) ? nil : try parseExpression()
        if let from, current != .sign(.colon) {
            if current == .sign(.comma) {
                throw TemplateError(.unsupported, "an index of several parts is not known", at: position)
            }
            try expect(.sign(.closeBracket))
            return .item(value, from)
        }
        try expect(.sign(.colon))
        let to = isSliceEnd ? nil : try parseExpression()
        let step = skip(.colon) ? (isSliceEnd ? nil : try parseExpression()) : nil
        try expect(.sign(.closeBracket))
        return .slice(value, from: from, to: to, step: step)
    }

    private var isSliceEnd: Bool { current == .sign(.colon) || current == .sign(.closeBracket) }

    /// A filter's name and arguments.
    mutating func parseApplication() throws(TemplateError) -> Jinja.Application {
        let position = self.position
        var name = try expectName()
        while skip(.dot) { name += "." + (try expectName()) }
        let arguments = current == .sign(.openParen) ? try parseArguments() : Jinja.Arguments()
        return Jinja.Application(name: name, arguments: arguments, position: position)
    }

    /// `is [not] name`, with arguments in parentheses or one argument without.
    private mutating func parseTest(of value: Expression) throws(TemplateError) -> Expression {
        advance()
        let negated = skipName("not")
        let position = self.position
        var name = try expectName()
        while skip(.dot) { name += "." + (try expectName()) }
        var arguments = Jinja.Arguments()
        if current == .sign(.openParen) {
            arguments = try parseArguments()
        } else if try beginsTestArgument() {
            var links = 0
            let primary = try parsePrimary()
            arguments.positional = [try parsePostfix(primary, &links)]
        }
        let test = Expression.test(value, Jinja.Application(name: name, arguments: arguments, position: position))
        return negated ? .not(test) : test
    }

    private func beginsTestArgument() throws(TemplateError) -> Bool {
        switch current {
        case .name("else"), .name("or"), .name("and"): return false
        case .name("is"): throw failure("tests cannot be chained")
        case .name, .text, .int, .double, .sign(.openBracket), .sign(.openBrace): return true
        default: return false
        }
    }

    private mutating func parseArguments() throws(TemplateError) -> Jinja.Arguments {
        try expect(.sign(.openParen))
        var arguments = Jinja.Arguments()
        var isFirst = true
        while current != .sign(.closeParen) {
            if !isFirst {
                try expect(.sign(.comma))
                if current == .sign(.closeParen) { break }
            }
            isFirst = false
            try parseArgument(into: &arguments)
        }
        advance()
        return arguments
    }

    private mutating func parseArgument(into arguments: inout Jinja.Arguments) throws(TemplateError) {
        if current == .sign(.multiply), arguments.spread == nil, arguments.spreadNamed == nil {
            advance()
            arguments.spread = try parseExpression()
        } else if current == .sign(.power), arguments.spreadNamed == nil {
            advance()
            arguments.spreadNamed = try parseExpression()
        } else if case .name(let name) = current, following == .sign(.assign), arguments.spreadNamed == nil {
            advance()
            advance()
            guard !arguments.named.contains(where: { $0.name == name }) else { throw failure("the argument \(name) is given twice") }
            arguments.named.append((name, try parseExpression()))
        } else if arguments.named.isEmpty, arguments.spread == nil, arguments.spreadNamed == nil {
            arguments.positional.append(try parseExpression())
        } else {
            throw failure("arguments stand in the wrong order")
        }
    }
}
