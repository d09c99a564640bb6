extension Jinja {
    /// One rendering: walks the program's statements, with the accounts of what it may still cost.
    final class Interpreter {
        let program: Program
        let limits: TemplateLimits
        let now: TemplateClock
        private(set) var output: [UInt8] = []
        private var steps = 0
        private var textBytes = 0
        private var loopTurns = 0
        private var evaluationDepth = 0
        var position: Position?
        /// Objects that may point at each other in circles; emptied at the end, so that the circles fall apart.
        private var namespaces: [Namespace] = []
        private var capturedScopes: [Scope] = []

        /// How a body ended.
        enum Flow { case onward, leaveLoop, nextTurn }

        init(program: Program, limits: TemplateLimits, now: TemplateClock) {
            self.program = program
            self.limits = limits
            self.now = now
        }

        func render(_ variables: [(String, TemplateValue)]) throws(TemplateError) -> String {
            defer { release() }
            let root = Scope(parent: nil)
            do {
                for (place, function) in Function.allCases.enumerated() {
                    root.set(Names.firstFunction + place, .function(function))
                }
                for (name, value) in variables {
                    if let symbol = program.symbols[name] { root.set(symbol, try imported(value)) }
                }
                // Template variables stand in a scope of their own, as jinja2 keeps exports apart from its context.
                _ = try run(program.body, Scope(parent: root))
            } catch {
                var error = error
                if error.position == nil { error.position = position }
                throw error
            }
            return String(decoding: output, as: UTF8.self)
        }

        private func release() {
            for namespace in namespaces { namespace.entries = [] }
            for scope in capturedScopes { scope.clear() }
        }
    }
}

// The accounts.
extension Jinja.Interpreter {
    typealias Value = Jinja.Value
    typealias Text = Jinja.Text
    typealias Scope = Jinja.Scope

    func step(_ count: Int = 1) throws(TemplateError) {
        steps += count
        if steps > limits.stepsMax {
            throw TemplateError(.limit, "rendering needs more than stepsMax = \(limits.stepsMax) steps")
        }
    }

    /// Charges for reading `bytes` of text.
    func chargeReading(_ bytes: Int) throws(TemplateError) { try step(bytes / 64 + 1) }

    /// Charges for making `bytes` of text; asked before the text is made.
    func chargeText(_ bytes: Int) throws(TemplateError) {
        textBytes += bytes
        guard textBytes <= limits.textBytesMax else {
            throw TemplateError(.limit, "rendering makes more than textBytesMax = \(limits.textBytesMax) bytes of text")
        }
        try step(bytes / 64 + 1)
    }

    /// Charges for changing the case of `text`: beyond ASCII each character is looked up in Unicode's tables.
    func chargeCase(_ text: Text) throws(TemplateError) {
        try step(text.isASCII ? text.utf8.count / 64 : text.utf8.count)
    }

    func chargeTurn() throws(TemplateError) {
        loopTurns += 1
        guard loopTurns <= limits.loopTurnsMax else {
            throw TemplateError(.limit, "loops turn more than loopTurnsMax = \(limits.loopTurnsMax) times")
        }
        try step()
    }

    func descend() throws(TemplateError) {
        evaluationDepth += 1
        guard evaluationDepth <= limits.evaluationDepthMax else {
            throw TemplateError(.limit, "evaluation nests deeper than evaluationDepthMax = \(limits.evaluationDepthMax)")
        }
        try step()
    }

    func ascend() { evaluationDepth -= 1 }

    func write(_ text: Text) throws(TemplateError) {
        try chargeText(text.utf8.count)
        guard output.count + text.utf8.count <= limits.outputBytesMax else {
            throw TemplateError(.limit, "the rendered text is longer than outputBytesMax = \(limits.outputBytesMax) bytes")
        }
        output += text.utf8
    }

    /// The text that `body` writes, kept out of the output.
    func captured(_ body: [Jinja.Statement], _ scope: Scope) throws(TemplateError) -> Text {
        try capturing { () throws(TemplateError) in _ = try run(body, scope) }
    }

    func capturing(_ write: () throws(TemplateError) -> Void) throws(TemplateError) -> Text {
        let outer = output
        output = []
        defer { output = outer }
        try write()
        return Text(output)
    }

    func failure(_ message: String) -> TemplateError { TemplateError(.evaluation, message) }

    func newNamespace() -> Jinja.Namespace {
        let namespace = Jinja.Namespace()
        namespaces.append(namespace)
        return namespace
    }

    /// Notes that a macro keeps `scope`: from then on it may be part of a circle.
    func capture(_ scope: Scope) {
        var next: Scope? = scope
        while let scope = next, !scope.isRegistered {
            scope.isRegistered = true
            capturedScopes.append(scope)
            next = scope.parent
        }
    }
}

// Statements.
extension Jinja.Interpreter {
    typealias Statement = Jinja.Statement
    typealias Expression = Jinja.Expression

    func run(_ body: [Statement], _ scope: Scope) throws(TemplateError) -> Flow {
        try descend()
        defer { ascend() }
        for statement in body {
            let flow = try run(statement, scope)
            if flow != .onward { return flow }
        }
        return .onward
    }

    private func run(_ statement: Statement, _ scope: Scope) throws(TemplateError) -> Flow {
        switch statement {
        case .data(let text): try write(text)
        case .output(let expression, let position):
            self.position = position
            try writeValue(try evaluate(expression, scope))
        case .branch(let branches, let otherwise, let position):
            self.position = position
            return try runBranch(branches, otherwise, scope)
        case .loop(let loop): return try runLoop(loop, scope)
        case .assign(let target, let expression, let position):
            self.position = position
            try assign(target, try evaluate(expression, scope), scope)
        case .assignBlock(let target, let filters, let body, let position):
            let text = try captured(body, Scope(parent: scope))
            self.position = position
            try assign(target, try apply(filters, to: .text(text), scope), scope)
        case .macro(let macro):
            try step()
            capture(scope)
            scope.set(macro.symbol!, .macro(Jinja.MacroValue(macro, scope)))
        case .callBlock(let macro, let call, let position):
            self.position = position
            try runCallBlock(macro, call, scope)
        case .filterBlock(let filters, let body, let position):
            let text = try captured(body, Scope(parent: scope))
            self.position = position
            try writeValue(try apply(filters, to: .text(text), scope))
        case .with(let pairs, let body, let position):
            self.position = position
            let inner = Scope(parent: scope)
            for (target, expression) in pairs { try assign(target, try evaluate(expression, scope), inner) }
            return try run(body, inner)
        case .scope(let body): return try run(body, Scope(parent: scope))
        case .leaveLoop: return .leaveLoop
        case .nextTurn: return .nextTurn
        }
        return .onward
    }

    private func writeValue(_ value: Value) throws(TemplateError) {
        if case .text(let text) = value { try write(text) } else { try write(try string(value)) }
    }

    private func runBranch(
        _ branches: [(test: Expression, body: [Statement])], _ otherwise: [Statement], _ scope: Scope
    ) throws(TemplateError) -> Flow {
        for branch in branches where try evaluate(branch.test, scope).isTrue { return try run(branch.body, scope) }
        return try run(otherwise, scope)
    }

    private func apply(_ filters: [Jinja.Application], to value: Value, _ scope: Scope) throws(TemplateError) -> Value {
        var value = value
        for filter in filters { value = try applyFilter(filter, to: value, scope) }
        return value
    }

    private func runCallBlock(_ macro: Jinja.Macro, _ call: Expression, _ scope: Scope) throws(TemplateError) {
        guard case .call(let callee, let arguments) = call else { preconditionFailure("the parser lets only calls in") }
        capture(scope)
        let caller = Value.macro(Jinja.MacroValue(macro, scope))
        var evaluated = try evaluate(arguments, scope)
        evaluated.named.append(("caller", caller))
        try writeValue(try self.call(try evaluate(callee, scope), evaluated))
    }

    func assign(_ target: Jinja.Target, _ value: Value, _ scope: Scope) throws(TemplateError) {
        try step()
        switch target {
        case .name(let symbol): scope.set(symbol, value)
        case .attribute(let symbol, let name):
            guard case .namespace(let namespace) = scope.find(symbol) else {
                throw failure("cannot assign the attribute \(name.string): \(program.names[symbol]) is no namespace")
            }
            try step(namespace.entries.count / 8)
            namespace.set(name, value)
        case .tuple(let targets):
            let items = try items(of: value)
            guard items.count == targets.count else {
                throw failure("cannot unpack \(items.count) values into \(targets.count) names")
            }
            for (target, item) in zip(targets, items) { try assign(target, item, scope) }
        }
    }
}
