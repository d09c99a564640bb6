extension Jinja {
    /// Evaluated arguments of one call.
    struct CallArguments {
        var positional: [Value] = []
        var named: [(name: String, value: Value)] = []

        /// The arguments in the order of `names`; nil where one was not given.
        func bound(_ names: [String], required: Int, in callee: String) throws(TemplateError) -> [Value?] {
            guard positional.count <= names.count else {
                throw TemplateError(.evaluation, "\(callee) takes at most \(names.count) arguments, \(positional.count) were given")
            }
            var values = positional.map(Optional.some) + Array(repeating: nil, count: names.count - positional.count)
            for (name, value) in named {
                guard let place = names.firstIndex(of: name) else {
                    throw TemplateError(.evaluation, "\(callee) has no argument named \(name)")
                }
                guard values[place] == nil else {
                    throw TemplateError(.evaluation, "\(callee) got the argument \(name) twice")
                }
                values[place] = value
            }
            for place in 0..<required where values[place] == nil {
                throw TemplateError(.evaluation, "\(callee) misses its argument \(names[place])")
            }
            return values
        }

        /// For callees whose parameters have no names.
        func unnamed(_ range: ClosedRange<Int>, in callee: String) throws(TemplateError) -> [Value] {
            guard named.isEmpty else { throw TemplateError(.evaluation, "\(callee) takes no named arguments") }
            guard range.contains(positional.count) else {
                throw TemplateError(
                    .evaluation,
                    "\(callee) takes \(range.lowerBound) to \(range.upperBound) arguments, \(positional.count) were given")
            }
            return positional
        }
    }
}

// Calls.
extension Jinja.Interpreter {
    typealias CallArguments = Jinja.CallArguments

    func evaluate(_ arguments: Jinja.Arguments, _ scope: Scope) throws(TemplateError) -> CallArguments {
        var evaluated = CallArguments()
        for argument in arguments.positional { evaluated.positional.append(try evaluate(argument, scope)) }
        if let spread = arguments.spread { evaluated.positional += try items(of: try evaluate(spread, scope)) }
        for (name, argument) in arguments.named { evaluated.named.append((name, try evaluate(argument, scope))) }
        if let spread = arguments.spreadNamed {
            guard case .dictionary(let dictionary) = try evaluate(spread, scope) else { throw failure("** needs a dictionary") }
            for (key, value) in dictionary.entries {
                guard case .text(let name) = key else { throw failure("** needs a dictionary whose keys are text") }
                guard !evaluated.named.contains(where: { $0.name == name.string }) else {
                    throw failure("the argument \(name.string) is given twice")
                }
                try step(evaluated.named.count / 8)
                evaluated.named.append((name.string, value))
            }
        }
        return evaluated
    }

    func call(_ callee: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        switch callee {
        case .macro(let macro): return try callMacro(macro, arguments)
        case .function(let function): return try callFunction(function, arguments)
        case .method(let method): return try callMethod(method, arguments)
        case .loop(let loop): return try callLoop(loop, arguments)
        case .joiner(let joiner):
            _ = try arguments.unnamed(0...0, in: "joiner")
            defer { joiner.used = true }
            return .text(joiner.used ? joiner.separator : "")
        case .undefined(let undefined): throw TemplateError(.undefined, undefined.message)
        default: throw failure("a \(callee.typeName) cannot be called")
        }
    }

    private func callMacro(_ value: Jinja.MacroValue, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let macro = value.macro
        let scope = Scope(parent: value.scope)
        let callPosition = position
        try descend()
        defer { ascend() }
        var arguments = arguments
        // A macro called without a call block sees no caller, not even an outer macro's.
        var caller = Value.undefined(Jinja.Undefined("no caller is defined"))
        if let place = arguments.named.firstIndex(where: { $0.name == "caller" }), !macro.parameters.contains(where: { $0.name == "caller" }) {
            guard macro.takesCaller else { throw failure("the macro \(macro.name) takes no caller: it is no use in a call block") }
            caller = arguments.named.remove(at: place).value
        }
        if macro.takesCaller { scope.set(Jinja.Names.caller, caller) }
        try bindParameters(macro, arguments, scope)
        let text = try captured(macro.body, scope)
        position = callPosition
        return .text(text)
    }

    private func bindParameters(_ macro: Jinja.Macro, _ arguments: CallArguments, _ scope: Scope) throws(TemplateError) {
        let count = macro.parameters.count
        guard arguments.positional.count <= count || macro.takesVarargs else {
            throw failure("the macro \(macro.name) takes at most \(count) arguments, \(arguments.positional.count) were given")
        }
        var extra: [(key: Value, value: Value)] = []
        var named: [Int: Value] = [:]
        for (name, value) in arguments.named {
            if let place = macro.parameters.firstIndex(where: { $0.name == name }) {
                guard place >= arguments.positional.count else { throw failure("the macro \(macro.name) got \(name) twice") }
                named[place] = value
            } else {
                guard macro.takesKwargs else { throw failure("the macro \(macro.name) has no parameter \(name)") }
                extra.append((.string(name), value))
            }
        }
        let firstDefault = count - macro.defaults.count
        for (place, parameter) in macro.parameters.enumerated() {
            if place < arguments.positional.count {
                scope.set(parameter.symbol, arguments.positional[place])
            } else if let value = named[place] {
                scope.set(parameter.symbol, value)
            } else if place >= firstDefault {
                scope.set(parameter.symbol, try evaluate(macro.defaults[place - firstDefault], scope))
            } else {
                scope.set(parameter.symbol, .undefined(Jinja.Undefined("parameter '\(parameter.name)' was not provided")))
            }
        }
        if macro.takesVarargs {
            scope.set(Jinja.Names.varargs, .tuple(try list(Array(arguments.positional.dropFirst(count)))))
        }
        if macro.takesKwargs { scope.set(Jinja.Names.kwargs, .dictionary(try dictionary(extra))) }
    }

    func attribute(_ name: String, of value: Jinja.MacroValue) throws(TemplateError) -> Value? {
        switch name {
        case "name": return value.macro.symbol == nil ? Value.none : .string(value.macro.name)
        case "arguments": return .tuple(try list(value.macro.parameters.map { .string($0.name) }))
        case "catch_kwargs": return .bool(value.macro.takesKwargs)
        case "catch_varargs": return .bool(value.macro.takesVarargs)
        case "caller": return .bool(value.macro.takesCaller)
        default: return nil
        }
    }
}

// The functions every template finds.
extension Jinja.Interpreter {
    private func callFunction(_ function: Jinja.Function, _ arguments: CallArguments) throws(TemplateError) -> Value {
        switch function {
        case .range: return .range(try makeRange(arguments))
        case .dict: return .dictionary(try makeDictionary(arguments))
        case .namespace:
            let namespace = newNamespace()
            for (key, value) in try makeDictionary(arguments).entries {
                guard case .text(let name) = key else { throw failure("a namespace's names are text") }
                namespace.entries.append((name, value))
            }
            return .namespace(namespace)
        case .cycler:
            guard !arguments.positional.isEmpty, arguments.named.isEmpty else { throw failure("cycler needs at least one item") }
            return .cycler(Jinja.Cycler(arguments.positional, depth: try depth(around: arguments.positional)))
        case .joiner:
            let values = try arguments.bound(["sep"], required: 0, in: "joiner")
            return .joiner(Jinja.Joiner(try values[0].map(string) ?? ", "))
        case .raiseException:
            let values = try arguments.bound(["message"], required: 1, in: "raise_exception")
            throw TemplateError(.raised, try string(values[0]!).string)
        case .strftimeNow:
            let values = try arguments.bound(["format"], required: 1, in: "strftime_now")
            guard case .text(let format) = values[0]! else { throw failure("strftime_now needs a format") }
            try chargeText(format.utf8.count * 16)
            return .text(try Jinja.Calendar(now).formatted(format))
        }
    }

    private func makeRange(_ arguments: CallArguments) throws(TemplateError) -> Jinja.Range {
        let values = try arguments.unnamed(1...3, in: "range")
        var numbers: [Int] = []
        for value in values {
            try checkDefined(value)
            guard let number = value.integer else { throw failure("range needs integers, found \(value.typeName)") }
            numbers.append(number)
        }
        let start = numbers.count == 1 ? 0 : numbers[0]
        let stop = numbers.count == 1 ? numbers[0] : numbers[1]
        let step = numbers.count == 3 ? numbers[2] : 1
        guard step != 0 else { throw failure("range's step cannot be zero") }
        // All in magnitudes: the distance between two 64-bit integers does not fit one.
        let ahead = step > 0 ? start < stop : start > stop
        let distance = start < stop ? stop.magnitudeDistance(from: start) : start.magnitudeDistance(from: stop)
        let count = ahead ? (distance - 1) / step.magnitude + 1 : 0
        guard count <= limits.sequenceItemsMax else {
            throw TemplateError(.limit, "a range has more than sequenceItemsMax = \(limits.sequenceItemsMax) items")
        }
        return Jinja.Range(start: start, stop: stop, step: step, count: Int(count))
    }

    private func makeDictionary(_ arguments: CallArguments) throws(TemplateError) -> Jinja.Dictionary {
        guard arguments.positional.count <= 1 else { throw failure("dict takes at most one value and names") }
        var pairs: [(key: Value, value: Value)] = []
        if let first = arguments.positional.first {
            if case .dictionary(let dictionary) = first {
                pairs = dictionary.entries
            } else {
                for item in try items(of: first) {
                    let pair = try items(of: item)
                    guard pair.count == 2 else { throw failure("dict needs pairs, found \(pair.count) values in one") }
                    pairs.append((pair[0], pair[1]))
                }
            }
        }
        for (name, value) in arguments.named { pairs.append((.string(name), value)) }
        return try dictionary(pairs)
    }
}

extension Int {
    fileprivate func magnitudeDistance(from low: Int) -> UInt { UInt(bitPattern: self) &- UInt(bitPattern: low) }
}
