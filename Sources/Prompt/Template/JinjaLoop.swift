extension Jinja {
    /// The `loop` variable of one running loop. Items are pulled one at a time, because a loop's `if` may depend on
    /// what the body did before; `last`, `nextitem` and `length` look ahead just as far as jinja2 does.
    final class LoopState {
        private var pull: () throws(TemplateError) -> Value?
        private var knownLength: Int?
        private var peeked: Value??
        private(set) var index0 = -1
        private(set) var before: Value?
        private var current: Value?
        var changedLast: [Value]?
        let depth: Int
        /// Levels of recursion above this loop.
        let depth0: Int
        /// What a recursive loop runs when it is called.
        let recursion: (loop: Loop, scope: Scope)?

        init(
            depth: Int, depth0: Int, length: Int?, recursion: (loop: Loop, scope: Scope)?,
            pull: @escaping () throws(TemplateError) -> Value?
        ) {
            self.depth = depth
            self.depth0 = depth0
            self.recursion = recursion
            knownLength = length
            self.pull = pull
        }

        func advance() throws(TemplateError) -> Value? {
            let item: Value?
            if let peeked {
                item = peeked
                self.peeked = nil
            } else {
                item = try pull()
            }
            guard let item else { return nil }
            index0 += 1
            before = current
            current = item
            return item
        }

        func peek() throws(TemplateError) -> Value? {
            if let peeked { return peeked }
            let item = try pull()
            peeked = .some(item)
            return item
        }

        func length() throws(TemplateError) -> Int {
            if let knownLength { return knownLength }
            var rest: [Value] = []
            while let item = try pull() { rest.append(item) }
            let ahead: Int = if case .some(.some) = peeked { 1 } else { 0 }
            let length = rest.count + index0 + 1 + ahead
            var used = 0
            pull = {
                guard used < rest.count else { return nil }
                used += 1
                return rest[used - 1]
            }
            knownLength = length
            return length
        }
    }
}

extension Jinja.Interpreter {
    func runLoop(_ loop: Jinja.Loop, _ scope: Scope) throws(TemplateError) -> Flow {
        position = loop.position
        let iterable = try evaluate(loop.iterable, scope)
        return try runLoop(loop, over: iterable, scope, depth0: 0)
    }

    func runLoop(_ loop: Jinja.Loop, over iterable: Value, _ scope: Scope, depth0: Int) throws(TemplateError) -> Flow {
        let state = try loopState(loop, over: iterable, scope, depth0: depth0)
        // jinja2 takes `else` when no turn came to its end, so also after `break` in the first one.
        var turned = false
        while let item = try state.advance() {
            try chargeTurn()
            let turn = Scope(parent: scope)
            if case .name(let symbol) = loop.target { turn.set(symbol, item) } else { try assign(loop.target, item, turn) }
            turn.set(Jinja.Names.loop, .loop(state))
            let flow = try run(loop.body, turn)
            if flow == .leaveLoop { break }
            if flow == .onward { turned = true }
        }
        if !turned { return try run(loop.otherwise, Scope(parent: scope)) }
        return .onward
    }

    private func loopState(
        _ loop: Jinja.Loop, over iterable: Value, _ scope: Scope, depth0: Int
    ) throws(TemplateError) -> Jinja.LoopState {
        let depth = try checkedDepth(iterable.depth + 1)
        let recursion = loop.recursive ? (loop, scope) : nil
        let source: () throws(TemplateError) -> Value?
        var length: Int?
        if case .iterator(let iterator) = iterable {
            source = { iterator.next() }
        } else {
            let items = try items(of: iterable)
            length = items.count
            var used = 0
            source = {
                guard used < items.count else { return nil }
                used += 1
                return items[used - 1]
            }
        }
        guard let test = loop.test else {
            return Jinja.LoopState(depth: depth, depth0: depth0, length: length, recursion: recursion, pull: source)
        }
        let filtered: () throws(TemplateError) -> Value? = { [unowned self] () throws(TemplateError) in
            while let item = try source() {
                try chargeTurn()
                let inner = Scope(parent: scope)
                try assign(loop.target, item, inner)
                if try evaluate(test, inner).isTrue { return item }
            }
            return nil
        }
        return Jinja.LoopState(depth: depth, depth0: depth0, length: nil, recursion: recursion, pull: filtered)
    }

    /// `loop.name`; nil when the loop variable has no such attribute.
    func attribute(_ name: String, of loop: Jinja.LoopState) throws(TemplateError) -> Value? {
        switch name {
        case "index": return .int(loop.index0 + 1)
        case "index0": return .int(loop.index0)
        case "first": return .bool(loop.index0 == 0)
        case "last": return .bool(try loop.peek() == nil)
        case "length": return .int(try loop.length())
        case "revindex": return .int(try loop.length() - loop.index0)
        case "revindex0": return .int(try loop.length() - loop.index0 - 1)
        case "previtem":
            return loop.index0 == 0 ? .undefined(Jinja.Undefined("there is no previous item")) : loop.before ?? .missing
        case "nextitem": return try loop.peek() ?? .undefined(Jinja.Undefined("there is no next item"))
        case "depth": return .int(loop.depth0 + 1)
        case "depth0": return .int(loop.depth0)
        case "cycle", "changed": return .method(Jinja.Method(.loop(loop), name, depth: try checkedDepth(loop.depth + 1)))
        default: return nil
        }
    }

    func callLoop(_ loop: Jinja.LoopState, _ arguments: CallArguments) throws(TemplateError) -> Value {
        guard let (loop, scope, depth0) = loop.recursion.map({ ($0.loop, $0.scope, loop.depth0 + 1) }) else {
            throw failure("a loop can be called only when it is marked recursive")
        }
        let values = try arguments.bound(["iterable"], required: 1, in: "loop")
        try descend()
        defer { ascend() }
        return .text(try capturing { () throws(TemplateError) in _ = try runLoop(loop, over: values[0]!, scope, depth0: depth0) })
    }

    func callLoopMethod(_ loop: Jinja.LoopState, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Value {
        guard arguments.named.isEmpty else { throw failure("loop.\(name) takes no named arguments") }
        let values = arguments.positional
        if name == "cycle" {
            guard !values.isEmpty else { throw failure("loop.cycle needs items") }
            return values[loop.index0 % values.count]
        }
        if let last = loop.changedLast, last.count == values.count {
            var same = true
            for (a, b) in zip(last, values) where same { same = try equal(a, b) }
            if same { return .bool(false) }
        }
        loop.changedLast = values
        return .bool(true)
    }
}
