// Filters that work on the items of a value.
extension Jinja.Interpreter {
    func applySequenceFilter(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        switch name {
        case "first", "last", "list", "items", "reverse": return try applyPlainSequenceFilter(name, value, arguments)
        case "join":
            let values = try arguments.bound(["d", "attribute"], required: 0, in: name)
            let items = try attributes(values[1], of: try items(of: value))
            return .text(try joined(items, try values[0].map(string) ?? "", strict: false))
        case "map": return try mapped(value, arguments)
        case "select", "reject", "selectattr", "rejectattr": return try selected(name, value, arguments)
        case "sort": return try sorted(value, arguments)
        case "dictsort": return try sortedEntries(value, arguments)
        case "unique": return try unique(value, arguments)
        case "min", "max": return try extreme(name, value, arguments)
        case "sum": return try sum(value, arguments)
        case "batch", "slice": return try grouped(name, value, arguments)
        default: throw TemplateError(.unsupported, "the filter \(name) is not known")
        }
    }

    private func applyPlainSequenceFilter(
        _ name: String, _ value: Value, _ arguments: CallArguments
    ) throws(TemplateError) -> Value {
        try expectNone(arguments, name)
        switch name {
        case "first":
            if case .iterator(let iterator) = value { return iterator.next() ?? missingEnd("first") }
            return try items(of: value).first ?? missingEnd("first")
        case "last":
            if case .iterator = value { throw failure("a \(value.typeName) cannot be walked backwards: make it a list") }
            return try items(of: value).last ?? missingEnd("last")
        case "list": return .list(try list(try items(of: value)))
        case "items":
            if value.isUndefined { return try iterator([]) }
            guard case .dictionary(let dictionary) = value else { throw failure("items needs a dictionary, found \(value.typeName)") }
            return try iterator(try items(of: .view(Jinja.View(dictionary, .items))))
        default:
            if case .text(let text) = value {
                try chargeText(text.utf8.count)
                return .text(Text(text.scalars.reversed()))
            }
            let items = Array(try items(of: value).reversed())
            if case .iterator = value { return .list(try list(items)) }
            return try iterator(items, "reversed")
        }
    }

    private func missingEnd(_ which: String) -> Value {
        .undefined(Jinja.Undefined("there is no \(which) item, the sequence was empty"))
    }

    // Attributes by path, as the filters' `attribute` names them: `a.b.0`.

    private func attributes(_ path: Value?, of items: [Value]) throws(TemplateError) -> [Value] {
        guard let path, !isNone(path) else { return items }
        var out: [Value] = []
        for item in items { out.append(try attribute(path, of: item)) }
        return out
    }

    private func isNone(_ value: Value) -> Bool {
        if case .none = value { return true }
        return false
    }

    /// What a filter with an `attribute` argument looks at in an item.
    private func subject(_ item: Value, _ path: Value?) throws(TemplateError) -> Value {
        guard let path, !isNone(path) else { return item }
        return try attribute(path, of: item)
    }

    private func attribute(_ path: Value, of value: Value, default fallback: Value? = nil) throws(TemplateError) -> Value {
        var value = value
        var parts: [Value] = [path]
        if case .text(let text) = path {
            parts = text.split(".", limit: -1).map { part in
                Int(part.string).flatMap { $0 >= 0 ? .int($0) : nil } ?? .text(part)
            }
        }
        for part in parts {
            try step()
            value = try item(part, of: value)
            if value.isUndefined, let fallback, !isNone(fallback) { value = fallback }
        }
        return value
    }

    private func mapped(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        guard value.isTrue else { return try iterator([]) }
        var out: [Value] = []
        if arguments.positional.isEmpty, let path = arguments.named.first(where: { $0.name == "attribute" })?.value {
            var fallback: Value?
            for (name, value) in arguments.named where name != "attribute" {
                guard name == "default" else { throw failure("map has no argument named \(name)") }
                fallback = value
            }
            for item in try items(of: value) { out.append(try attribute(path, of: item, default: fallback)) }
            return try iterator(out)
        }
        guard let first = arguments.positional.first else { throw failure("map needs a filter or an attribute") }
        let name = try textArgument(first, "map").string
        let rest = CallArguments(positional: Array(arguments.positional.dropFirst()), named: arguments.named)
        try descend()
        defer { ascend() }
        for item in try items(of: value) { out.append(try applyFilter(name, to: item, rest)) }
        return try iterator(out)
    }

    private func selected(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        guard value.isTrue else { return try iterator([]) }
        var positional = arguments.positional[...]
        var path: Value?
        if name.hasSuffix("attr") {
            guard let first = positional.popFirst() else { throw failure("\(name) needs an attribute's name") }
            path = first
        }
        let test = if let first = positional.popFirst() { try textArgument(first, name).string } else { String?.none }
        let rest = CallArguments(positional: Array(positional), named: arguments.named)
        let wanted = name.hasPrefix("select")
        var out: [Value] = []
        for item in try items(of: value) {
            try step()
            let subject = if let path { try attribute(path, of: item) } else { item }
            let holds = if let test { try applyTest(test, to: subject, rest) } else { subject.isTrue }
            if holds == wanted { out.append(item) }
        }
        return try iterator(out)
    }

    // Order.

    /// Text in lower case unless case matters; all else as it is.
    private func key(_ value: Value, caseSensitive: Bool) throws(TemplateError) -> Value {
        guard !caseSensitive, case .text(let text) = value else { return value }
        try chargeText(text.utf8.count)
        return .text(text.lowercased)
    }

    /// The places of `keys` in ascending order (descending when `reverse`), equal ones in the order they have: a merge sort.
    func sortedPlaces(_ keys: [Value], reverse: Bool) throws(TemplateError) -> [Int] {
        var places = Array(keys.indices)
        var width = 1
        while width < places.count {
            var merged: [Int] = []
            merged.reserveCapacity(places.count)
            var start = 0
            while start < places.count {
                let middle = min(start + width, places.count)
                let end = min(start + 2 * width, places.count)
                var left = start
                var right = middle
                while left < middle || right < end {
                    try step()
                    var takesLeft = right == end
                    if !takesLeft, left < middle { takesLeft = try !stands(keys[places[right]], before: keys[places[left]], reverse) }
                    if takesLeft {
                        merged.append(places[left])
                        left += 1
                    } else {
                        merged.append(places[right])
                        right += 1
                    }
                }
                start = end
            }
            places = merged
            width *= 2
        }
        return places
    }

    private func stands(_ a: Value, before b: Value, _ reverse: Bool) throws(TemplateError) -> Bool {
        try reverse ? ordered(b, a) < 0 : ordered(a, b) < 0
    }

    private func sorted(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["reverse", "case_sensitive", "attribute"], required: 0, in: "sort")
        let caseSensitive = values[1]?.isTrue ?? false
        let items = try items(of: value)
        var keys: [Value] = []
        for item in items { keys.append(try sortKey(item, values[2], caseSensitive)) }
        let places = try sortedPlaces(keys, reverse: values[0]?.isTrue ?? false)
        return .list(try list(places.map { items[$0] }))
    }

    /// A list of keys, several with `attribute="a,b"`: as in jinja2, and so equal keys need no order among them.
    private func sortKey(_ item: Value, _ path: Value?, _ caseSensitive: Bool) throws(TemplateError) -> Value {
        var keys: [Value] = []
        if case .text(let text) = path {
            for part in text.split(",", limit: -1) {
                keys.append(try key(try attribute(.text(part), of: item), caseSensitive: caseSensitive))
            }
        } else {
            keys.append(try key(try subject(item, path), caseSensitive: caseSensitive))
        }
        return .list(try list(keys))
    }

    private func sortedEntries(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["case_sensitive", "by", "reverse"], required: 0, in: "dictsort")
        try checkDefined(value)
        guard case .dictionary(let dictionary) = value else { throw failure("dictsort needs a dictionary, found \(value.typeName)") }
        let by = try textArgument(values[1], "dictsort", default: "key")
        guard by == "key" || by == "value" else { throw failure("dictsort sorts by key or by value") }
        var keys: [Value] = []
        for entry in dictionary.entries {
            keys.append(try key(by == "key" ? entry.key : entry.value, caseSensitive: values[0]?.isTrue ?? false))
        }
        var pairs: [Value] = []
        for place in try sortedPlaces(keys, reverse: values[2]?.isTrue ?? false) {
            let entry = dictionary.entries[place]
            pairs.append(.tuple(try list([entry.key, entry.value])))
        }
        return .list(try list(pairs))
    }

    private func unique(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["case_sensitive", "attribute"], required: 0, in: "unique")
        var seen: [(key: Value, value: Value)] = []
        var seenTexts: Set<Text> = []
        var out: [Value] = []
        for item in try items(of: value) {
            let subject = try subject(item, values[1])
            let key = try key(subject, caseSensitive: values[0]?.isTrue ?? false)
            try checkHashable(key)
            if case .text(let text) = key {
                try chargeReading(text.utf8.count)
                if seenTexts.insert(text).inserted { out.append(item) }
            } else if try place(of: key, in: seen) == nil {
                seen.append((key, .none))
                out.append(item)
            }
        }
        return try iterator(out)
    }

    private func extreme(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["case_sensitive", "attribute"], required: 0, in: name)
        let caseSensitive = values[0]?.isTrue ?? false
        var best: (item: Value, key: Value)?
        for item in try items(of: value) {
            let subject = try subject(item, values[1])
            let key = try key(subject, caseSensitive: caseSensitive)
            try step()
            guard let current = best else {
                best = (item, key)
                continue
            }
            if try stands(key, before: current.key, name == "max") { best = (item, key) }
        }
        return best?.item ?? .undefined(Jinja.Undefined("there is no aggregated item, the sequence was empty"))
    }

    private func sum(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["attribute", "start"], required: 0, in: "sum")
        var total = values[1] ?? .int(0)
        if case .text = total { throw failure("sum does not add text: use join") }
        for item in try attributes(values[0], of: try items(of: value)) {
            try step()
            total = try arithmetic(.add, total, item)
        }
        return total
    }

    /// `batch`: rows of a length; `slice`: a number of rows, the longer ones first.
    private func grouped(_ name: String, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound([name == "batch" ? "linecount" : "slices", "fill_with"], required: 1, in: name)
        let count = try integerArgument(values[0]!, name)
        guard count > 0, count <= limits.sequenceItemsMax else {
            throw failure("\(name) needs a count from 1 to \(limits.sequenceItemsMax), found \(count)")
        }
        let fill = values[1].flatMap { isNone($0) ? nil : $0 }
        let items = try items(of: value)
        var rows: [Value] = []
        if name == "batch" {
            var start = 0
            while start < items.count {
                var row = Array(items[start..<min(start + count, items.count)])
                if let fill { row += Array(repeating: fill, count: count - row.count) }
                rows.append(.list(try list(row)))
                start += count
            }
            return try iterator(rows)
        }
        let (short, longer) = items.count.quotientAndRemainder(dividingBy: count)
        var start = 0
        for index in 0..<count {
            let end = start + short + (index < longer ? 1 : 0)
            var row = Array(items[start..<end])
            if let fill, index >= longer { row.append(fill) }
            rows.append(.list(try list(row)))
            start = end
        }
        return try iterator(rows)
    }
}
