// Expressions.
extension Jinja.Interpreter {
    func evaluate(_ expression: Expression, _ scope: Scope) throws(TemplateError) -> Value {
        switch expression {
        case .text(let text):
            try step()
            return .text(text)
        case .name(let symbol):
            try step()
            return scope.find(symbol) ?? .undefined(Jinja.Undefined("'\(program.names[symbol])' is undefined"))
        case .none: return .none
        case .bool(let value): return .bool(value)
        case .int(let value): return .int(value)
        case .double(let value): return .double(value)
        default:
            try descend()
            defer { ascend() }
            return try evaluateCompound(expression, scope)
        }
    }

    private func evaluateCompound(_ expression: Expression, _ scope: Scope) throws(TemplateError) -> Value {
        switch expression {
        case .attribute(let base, let name): return try attribute(name, of: try evaluate(base, scope))
        case .item(let base, let key): return try item(try evaluate(key, scope), of: try evaluate(base, scope))
        case .compare(let first, let rest): return try compare(first, rest, scope)
        case .arithmetic(let first, let rest):
            var value = try evaluate(first, scope)
            for (op, operand) in rest { value = try arithmetic(op, value, try evaluate(operand, scope)) }
            return value
        case .concatenate(let parts): return try concatenate(parts, scope)
        case .and(let terms): return try evaluateTerms(terms, until: false, scope)
        case .or(let terms): return try evaluateTerms(terms, until: true, scope)
        case .not(let value): return .bool(!(try evaluate(value, scope).isTrue))
        case .filter(let value, let filter): return try applyFilter(filter, to: try evaluate(value, scope), scope)
        case .test(let value, let test):
            return .bool(try applyTest(test.name, to: try evaluate(value, scope), try evaluate(test.arguments, scope)))
        case .call(let callee, let arguments):
            let callee = try evaluate(callee, scope)
            return try call(callee, try evaluate(arguments, scope))
        case .choose(let test, let then, let otherwise): return try choose(test, then, otherwise, scope)
        case .slice(let base, let from, let to, let step): return try slice(base, from, to, step, scope)
        case .negate(let value): return try negate(try evaluate(value, scope))
        case .plus(let value): return try plus(try evaluate(value, scope))
        case .list(let items): return .list(try list(try evaluate(items, scope)))
        case .tuple(let items): return .tuple(try list(try evaluate(items, scope)))
        case .dictionary(let entries): return try evaluateDictionary(entries, scope)
        case .none, .bool, .int, .double, .text, .name: return try evaluate(expression, scope)
        }
    }

    private func evaluate(_ items: [Expression], _ scope: Scope) throws(TemplateError) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(items.count)
        for item in items { values.append(try evaluate(item, scope)) }
        return values
    }

    /// The first term whose truth is `stop`, else the last.
    private func evaluateTerms(_ terms: [Expression], until stop: Bool, _ scope: Scope) throws(TemplateError) -> Value {
        for term in terms.dropLast() {
            let value = try evaluate(term, scope)
            if value.isTrue == stop { return value }
        }
        return try evaluate(terms[terms.count - 1], scope)
    }

    private func choose(
        _ test: Expression, _ then: Expression, _ otherwise: Expression?, _ scope: Scope
    ) throws(TemplateError) -> Value {
        if try evaluate(test, scope).isTrue { return try evaluate(then, scope) }
        guard let otherwise else {
            return .undefined(Jinja.Undefined("the inline if has no else and its test was false"))
        }
        return try evaluate(otherwise, scope)
    }

    private func compare(
        _ first: Expression, _ rest: [(Jinja.Comparison, Expression)], _ scope: Scope
    ) throws(TemplateError) -> Value {
        var left = try evaluate(first, scope)
        for (comparison, operand) in rest {
            let right = try evaluate(operand, scope)
            guard try compare(comparison, left, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    private func concatenate(_ parts: [Expression], _ scope: Scope) throws(TemplateError) -> Value {
        var bytes: [UInt8] = []
        for part in parts {
            let text = try string(try evaluate(part, scope))
            try chargeText(text.utf8.count)
            bytes += text.utf8
        }
        return .text(Text(bytes))
    }

    private func evaluateDictionary(
        _ entries: [(key: Expression, value: Expression)], _ scope: Scope
    ) throws(TemplateError) -> Value {
        var pairs: [(key: Value, value: Value)] = []
        for entry in entries {
            let key = try evaluate(entry.key, scope)
            pairs.append((key, try evaluate(entry.value, scope)))
        }
        return .dictionary(try dictionary(pairs))
    }

    private func slice(
        _ base: Expression, _ from: Expression?, _ to: Expression?, _ step: Expression?, _ scope: Scope
    ) throws(TemplateError) -> Value {
        let base = try evaluate(base, scope)
        var bounds: [Int?] = []
        for bound in [from, to, step] {
            guard let bound else {
                bounds.append(nil)
                continue
            }
            switch try evaluate(bound, scope) {
            case .none: bounds.append(nil)
            case let value:
                guard let integer = value.integer else { throw failure("slice bounds must be integers, found \(value.typeName)") }
                bounds.append(integer)
            }
        }
        return try slice(base, from: bounds[0], to: bounds[1], step: bounds[2])
    }
}

// Making containers: depth is checked and elements are charged here, nowhere else.
extension Jinja.Interpreter {
    func checkedDepth(_ depth: Int) throws(TemplateError) -> Int {
        guard depth <= limits.valueDepthMax else {
            throw TemplateError(.limit, "a value nests deeper than valueDepthMax = \(limits.valueDepthMax)")
        }
        return depth
    }

    func depth(around items: [Value]) throws(TemplateError) -> Int {
        try step(items.count)
        var depth = 0
        for item in items { depth = max(depth, item.depth) }
        return try checkedDepth(depth + 1)
    }

    func list(_ items: [Value]) throws(TemplateError) -> Jinja.List {
        Jinja.List(items, depth: try depth(around: items))
    }

    func iterator(_ items: [Value], _ typeName: String = "generator") throws(TemplateError) -> Value {
        .iterator(Jinja.Iterator(items, typeName: typeName, depth: try depth(around: items)))
    }

    /// A dictionary of these pairs; a later pair with an equal key takes the place of the earlier one.
    func dictionary(_ pairs: [(key: Value, value: Value)]) throws(TemplateError) -> Jinja.Dictionary {
        var entries: [(key: Value, value: Value)] = []
        var places: [Text: Int] = [:]
        var depth = 0
        try step(pairs.count)
        for pair in pairs {
            try checkHashable(pair.key)
            depth = max(depth, pair.key.depth, pair.value.depth)
            if case .text(let text) = pair.key {
                try chargeReading(text.utf8.count)
                if let place = places[text] { entries[place].value = pair.value; continue }
                places[text] = entries.count
            } else if let place = try place(of: pair.key, in: entries) {
                entries[place].value = pair.value
                continue
            }
            entries.append(pair)
        }
        return Jinja.Dictionary(entries, depth: try checkedDepth(depth + 1))
    }

    func place(of key: Value, in entries: [(key: Value, value: Value)]) throws(TemplateError) -> Int? {
        for (place, entry) in entries.enumerated() {
            try step()
            if try equal(entry.key, key) { return place }
        }
        return nil
    }

    func checkHashable(_ key: Value) throws(TemplateError) {
        switch key {
        case .list, .dictionary, .view(_): throw failure("a \(key.typeName) cannot be a key: it is not hashable")
        case .tuple(let items): for item in items.items { try checkHashable(item) }
        default: break
        }
    }

    /// A value from outside as one of the interpreter's.
    func imported(_ value: TemplateValue) throws(TemplateError) -> Value {
        try importedLevel(value, limits.valueDepthMax)
    }

    private func importedLevel(_ value: TemplateValue, _ levels: Int) throws(TemplateError) -> Value {
        switch value {
        case .undefined: return .missing
        case .null: return .none
        case .bool(let value): return .bool(value)
        case .int(let value): return .int(value)
        case .double(let value): return .double(value)
        case .string(let text): return .text(Text(text))
        case .array(let array):
            _ = try checkedDepth(limits.valueDepthMax - levels + 1)
            var items: [Value] = []
            items.reserveCapacity(array.count)
            for item in array { items.append(try importedLevel(item, levels - 1)) }
            return .list(try list(items))
        case .object(let object):
            _ = try checkedDepth(limits.valueDepthMax - levels + 1)
            var entries: [(key: Value, value: Value)] = []
            var depth = 0
            try step(object.entries.count)
            for (key, value) in object.entries {
                let value = try importedLevel(value, levels - 1)
                depth = max(depth, value.depth)
                entries.append((.text(Text(key)), value))
            }
            return .dictionary(Jinja.Dictionary(entries, depth: try checkedDepth(depth + 1)))
        }
    }
}
