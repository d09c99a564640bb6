// Methods of Python's types that a template may call.
extension Jinja.Interpreter {
    private static let textMethods: Set<String> = [
        "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map",
        "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
        "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "maketrans", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split",
        "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill",
    ]
    private static let dictionaryMethods: Set<String> = [
        "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values",
    ]
    private static let listMethods: Set<String> = [
        "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort",
    ]
    /// What the immutable sandbox hides, by giving something undefined in its place.
    private static let changingMethods: Set<String> = [
        "append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update",
    ]

    /// The method `name` of `receiver`; nil when its type has none of that name.
    func method(_ name: Text, of receiver: Value) throws(TemplateError) -> Value? {
        let name = name.string
        let isKnown =
            switch receiver {
            case .text: Self.textMethods.contains(name)
            case .dictionary: Self.dictionaryMethods.contains(name)
            case .list: Self.listMethods.contains(name)
            case .tuple, .range: name == "count" || name == "index"
            case .cycler: name == "next" || name == "reset" || name == "current"
            default: false
            }
        guard isKnown else { return nil }
        if Self.isChanging(name, receiver) {
            let reason = "\(receiver.typeName).\(name) would change a value, and values never change: build a new one instead"
            return .undefined(Jinja.Undefined(reason))
        }
        if case .cycler(let cycler) = receiver, name == "current" { return cycler.items[cycler.at] }
        return .method(Jinja.Method(receiver, name, depth: receiver.depth))
    }

    func callMethod(_ method: Jinja.Method, _ arguments: CallArguments) throws(TemplateError) -> Value {
        switch method.receiver {
        case .text(let text): return try callTextMethod(text, method.name, arguments)
        case .loop(let loop): return try callLoopMethod(loop, method.name, arguments)
        case .dictionary(let dictionary):
            return try callDictionaryMethod(dictionary, method.name, arguments)
        case .list(let list):
            if method.name == "copy" { return .list(list) }
            return try callSequenceMethod(list.items, method.name, arguments)
        case .tuple, .range: return try callSequenceMethod(try items(of: method.receiver), method.name, arguments)
        case .cycler(let cycler):
            _ = try arguments.unnamed(0...0, in: method.name)
            if method.name == "reset" {
                cycler.at = 0
                return .none
            }
            defer { cycler.at = (cycler.at + 1) % cycler.items.count }
            return cycler.items[cycler.at]
        default: throw failure("a \(method.receiver.typeName) has no method \(method.name)")
        }
    }

    private static func isChanging(_ name: String, _ receiver: Value) -> Bool {
        switch receiver {
        case .list, .dictionary: changingMethods.contains(name)
        default: false
        }
    }

    private func callDictionaryMethod(
        _ dictionary: Jinja.Dictionary, _ name: String, _ arguments: CallArguments
    ) throws(TemplateError) -> Value {
        switch name {
        case "get":
            let values = try arguments.unnamed(1...2, in: name)
            try checkHashable(values[0])
            return try value(of: values[0], in: dictionary) ?? (values.count == 2 ? values[1] : Value.none)
        case "keys", "values", "items":
            _ = try arguments.unnamed(0...0, in: name)
            _ = try checkedDepth(dictionary.depth + 1)
            let part: Jinja.View.Part = name == "keys" ? .keys : name == "values" ? .values : .items
            return .view(Jinja.View(dictionary, part))
        case "copy": return .dictionary(dictionary)
        default: throw TemplateError(.unsupported, "the method dict.\(name) is not known")
        }
    }

    private func callSequenceMethod(
        _ items: [Value], _ name: String, _ arguments: CallArguments
    ) throws(TemplateError) -> Value {
        switch name {
        case "count":
            let wanted = try arguments.unnamed(1...1, in: name)[0]
            var count = 0
            for item in items where try equal(item, wanted) {
                try step()
                count += 1
            }
            return .int(count)
        case "index":
            let wanted = try arguments.unnamed(1...1, in: name)[0]
            for (place, item) in items.enumerated() {
                try step()
                if try equal(item, wanted) { return .int(place) }
            }
            throw failure("the value is not in the list")
        default: throw TemplateError(.unsupported, "the method list.\(name) is not known")
        }
    }
}

// Methods of text.
extension Jinja.Interpreter {
    private func callTextMethod(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Value {
        // Every method reads its text, and most make another of about its length.
        try chargeText(text.utf8.count)
        switch name {
        case "strip", "lstrip", "rstrip":
            let side: Text.Side = name == "strip" ? .both : name == "lstrip" ? .left : .right
            let values = try arguments.unnamed(0...1, in: name)
            return .text(text.stripped(side, of: try optionalText(values.first)))
        case "split", "rsplit": return try split(text, name, arguments)
        case "splitlines":
            let values = try arguments.bound(["keepends"], required: 0, in: name)
            let lines = text.lines(keepEnds: values[0]?.isTrue ?? false)
            return .list(try list(lines.map { .text($0) }))
        case "startswith", "endswith": return .bool(try beginsOrEnds(text, name, arguments))
        case "upper", "lower", "casefold", "title", "capitalize", "swapcase": return .text(try cased(text, name, arguments))
        case "replace": return .text(try replaced(text, arguments))
        case "join": return .text(try joined(try items(of: try arguments.unnamed(1...1, in: name)[0]), text, strict: true))
        case "format": return .text(try braceFormatted(text, arguments))
        case "removeprefix", "removesuffix":
            let part = try textArgument(try arguments.unnamed(1...1, in: name)[0], name)
            if name == "removeprefix" {
                return .text(text.hasPrefix(part) ? Text(text.utf8[part.utf8.count...]) : text)
            }
            return .text(text.hasSuffix(part) ? Text(text.utf8[..<(text.utf8.count - part.utf8.count)]) : text)
        case "find", "rfind", "index", "rindex", "count": return try search(text, name, arguments)
        case "partition", "rpartition": return try partition(text, name, arguments)
        case "ljust", "rjust", "center", "zfill": return .text(try padded(text, name, arguments))
        default:
            guard name.hasPrefix("is") else { throw TemplateError(.unsupported, "the method str.\(name) is not known") }
            try expectNone(arguments, name)
            try chargeCase(text)
            return .bool(try text.isAll(name))
        }
    }

    private func cased(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Text {
        try expectNone(arguments, name)
        try chargeCase(text)
        switch name {
        case "upper": return text.uppercased
        case "title": return text.titled
        case "capitalize": return text.capitalized
        case "swapcase": return text.caseSwapped
        case "casefold" where !text.isASCII:
            throw TemplateError(.unsupported, "str.casefold is known for ASCII text only: use lower")
        default: return text.lowercased
        }
    }

    func textArgument(_ value: Value, _ callee: String) throws(TemplateError) -> Text {
        guard case .text(let text) = value else { throw failure("\(callee) needs text, found \(value.typeName)") }
        return text
    }

    func textArgument(_ value: Value?, _ callee: String, default absent: Text) throws(TemplateError) -> Text {
        guard let value else { return absent }
        return try textArgument(value, callee)
    }

    /// Text, or nil when there is none.
    func optionalText(_ value: Value?) throws(TemplateError) -> Text? {
        switch value {
        case nil, .some(.none): return nil
        case .some(let value): return try textArgument(value, "the method")
        }
    }

    func integerArgument(_ value: Value?, _ callee: String, default absent: Int) throws(TemplateError) -> Int {
        guard let value else { return absent }
        return try integerArgument(value, callee)
    }

    func integerArgument(_ value: Value, _ callee: String) throws(TemplateError) -> Int {
        guard let integer = value.integer else { throw failure("\(callee) needs an integer, found \(value.typeName)") }
        return integer
    }

    private func split(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.bound(["sep", "maxsplit"], required: 0, in: name)
        let separator = try optionalText(values[0])
        if let separator, separator.isEmpty { throw failure("\(name) needs a separator that is not empty") }
        let limit = try integerArgument(values[1], name, default: -1)
        let parts = name == "split" ? text.split(separator, limit: limit) : text.splitFromEnd(separator, limit: limit)
        return .list(try list(parts.map { .text($0) }))
    }

    private func beginsOrEnds(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Bool {
        let values = try arguments.unnamed(1...3, in: name)
        var part = text
        if values.count > 1 {
            let from = try optionalInteger(values[1], name)
            let to = try values.count > 2 ? optionalInteger(values[2], name) : nil
            guard case .text(let cut) = try slice(.text(text), from: from, to: to, step: nil) else { return false }
            part = cut
        }
        let candidates: [Value]
        if case .tuple(let list) = values[0] { candidates = list.items } else { candidates = [values[0]] }
        for candidate in candidates {
            let wanted = try textArgument(candidate, name)
            if name == "startswith" ? part.hasPrefix(wanted) : part.hasSuffix(wanted) { return true }
        }
        return false
    }

    private func optionalInteger(_ value: Value, _ callee: String) throws(TemplateError) -> Int? {
        if case .none = value { return nil }
        return try integerArgument(value, callee)
    }

    private func replaced(_ text: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
        let values = try arguments.unnamed(2...3, in: "replace")
        let limit = try values.count == 3 ? integerArgument(values[2], "replace") : -1
        return try replaced(text, try textArgument(values[0], "replace"), try textArgument(values[1], "replace"), limit)
    }

    func replaced(_ text: Text, _ old: Text, _ new: Text, _ limit: Int) throws(TemplateError) -> Text {
        try chargeReading(text.utf8.count)
        let found = text.count(of: old)
        let count = limit < 0 ? found : min(found, limit)
        let (growth, overflow) = max(0, new.utf8.count - old.utf8.count).multipliedReportingOverflow(by: count)
        try chargeText(overflow ? Int.max / 4 : text.utf8.count + growth)
        return text.replacing(old, with: new, limit: limit)
    }

    /// Items with `separator` between; `strict` refuses what is not text, as `str.join` does and the filter does not.
    func joined(_ items: [Value], _ separator: Text, strict: Bool) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        for (index, item) in items.enumerated() {
            let text = strict ? try textArgument(item, "join") : try string(item)
            try chargeText(text.utf8.count + separator.utf8.count)
            if index > 0 { out += separator.utf8 }
            out += text.utf8
        }
        return Text(out)
    }

    private func search(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let values = try arguments.unnamed(1...3, in: name)
        let wanted = try textArgument(values[0], name)
        let length = text.length
        var start = 0
        var part = text
        if values.count > 1 {
            let from = try optionalInteger(values[1], name)
            let to = try values.count > 2 ? optionalInteger(values[2], name) : nil
            start = from.map { $0 < 0 ? max(0, $0 < -length ? 0 : $0 + length) : $0 } ?? 0
            guard start <= length, case .text(let cut) = try slice(.text(text), from: from, to: to, step: nil) else {
                if name == "count" { return .int(0) }
                if name == "index" || name == "rindex" { throw failure("the text is not in there") }
                return .int(-1)
            }
            part = cut
        }
        if name == "count" { return .int(part.count(of: wanted)) }
        let found = name == "find" || name == "index" ? part.find(wanted) : part.findLast(wanted)
        guard let found else {
            if name == "index" || name == "rindex" { throw failure("the text is not in there") }
            return .int(-1)
        }
        return .int(start + Text(part.utf8[..<found]).length)
    }

    private func partition(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Value {
        let separator = try textArgument(try arguments.unnamed(1...1, in: name)[0], name)
        guard !separator.isEmpty else { throw failure("\(name) needs a separator that is not empty") }
        let fromEnd = name == "rpartition"
        guard let found = fromEnd ? text.findLast(separator) : text.find(separator) else {
            let parts: [Value] = fromEnd ? [.text(""), .text(""), .text(text)] : [.text(text), .text(""), .text("")]
            return .tuple(try list(parts))
        }
        let after = Text(text.utf8[(found + separator.utf8.count)...])
        return .tuple(try list([.text(Text(text.utf8[..<found])), .text(separator), .text(after)]))
    }

    private func padded(_ text: Text, _ name: String, _ arguments: CallArguments) throws(TemplateError) -> Text {
        let values = try arguments.unnamed(1...(name == "zfill" ? 1 : 2), in: name)
        let width = try integerArgument(values[0], name)
        let fill = try values.count == 2 ? textArgument(values[1], name) : name == "zfill" ? "0" : " "
        guard fill.length == 1 else { throw failure("\(name) fills with exactly one character") }
        let missing = width > 0 ? width - text.length : 0
        guard missing > 0 else { return text }
        if name == "ljust" { return Text(text.utf8 + (try repeated(fill, missing)).utf8) }
        if name == "rjust" { return Text((try repeated(fill, missing)).utf8 + text.utf8) }
        if name == "zfill" {
            let signs = text.hasPrefix("-") || text.hasPrefix("+") ? 1 : 0
            return Text(text.utf8[..<signs] + (try repeated(fill, missing)).utf8 + text.utf8[signs...])
        }
        return try centered(text, width: width, fill: fill)
    }

    /// Python puts the odd blank left when the width is odd.
    func centered(_ text: Text, width: Int, fill: Text = " ") throws(TemplateError) -> Text {
        let missing = width > 0 ? width - text.length : 0
        guard missing > 0 else { return text }
        let left = missing / 2 + (missing & width & 1)
        return Text((try repeated(fill, left)).utf8 + text.utf8 + (try repeated(fill, missing - left)).utf8)
    }
}
