// Python's str, repr and json.dumps.
extension Jinja.Interpreter {
    /// `str(value)`
    func string(_ value: Value) throws(TemplateError) -> Text {
        switch value {
        case .text(let text): return text
        case .undefined: return ""
        default: return try repr(value)
        }
    }

    /// `repr(value)`
    func repr(_ value: Value) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        try writeRepr(value, into: &out)
        return Text(out)
    }

    private func writeRepr(_ value: Value, into out: inout [UInt8]) throws(TemplateError) {
        let before = out.count
        switch value {
        case .undefined: out += "Undefined".utf8
        case .none: out += "None".utf8
        case .bool(let value): out += (value ? "True" : "False").utf8
        case .int(let value): out += String(value).utf8
        case .double(let value): out += Jinja.floatText(value).utf8
        case .text(let text): Jinja.writeRepr(text, into: &out)
        default:
            try descend()
            defer { ascend() }
            try writeCompoundRepr(value, into: &out)
            return
        }
        try chargeText(out.count - before)
    }

    private func writeCompoundRepr(_ value: Value, into out: inout [UInt8]) throws(TemplateError) {
        switch value {
        case .list(let list): try writeItems(list.items, "[", "]", into: &out)
        case .tuple(let list): try writeItems(list.items, "(", list.items.count == 1 ? ",)" : ")", into: &out)
        case .dictionary(let dictionary): try writeEntries(dictionary.entries, into: &out)
        case .view(let view):
            out += view.part.rawValue.utf8
            try writeItems(try items(of: .view(view)), "([", "])", into: &out)
        case .namespace(let namespace):
            out += "<Namespace ".utf8
            try writeEntries(namespace.entries.map { (.text($0.key), $0.value) }, into: &out)
            out += ">".utf8
        case .range(let range):
            out += "range(\(range.start), \(range.stop)\(range.step == 1 ? "" : ", \(range.step)"))".utf8
        case .macro(let macro):
            out += "<Macro \(macro.macro.symbol == nil ? "anonymous" : "'\(macro.macro.name)'")>".utf8
        case .loop(let loop): out += "<LoopContext \(loop.index0 + 1)/\(try loop.length())>".utf8
        // Python prints addresses of these, which no two runs share; here they have none.
        default: out += "<\(value.typeName) object>".utf8
        }
    }

    private func writeItems(
        _ items: [Value], _ open: StaticString, _ close: StaticString, into out: inout [UInt8]
    ) throws(TemplateError) {
        out += open.description.utf8
        for (index, item) in items.enumerated() {
            if index > 0 { out += ", ".utf8 }
            try writeRepr(item, into: &out)
        }
        out += close.description.utf8
    }

    private func writeEntries(_ entries: [(key: Value, value: Value)], into out: inout [UInt8]) throws(TemplateError) {
        out += "{".utf8
        for (index, entry) in entries.enumerated() {
            if index > 0 { out += ", ".utf8 }
            try writeRepr(entry.key, into: &out)
            out += ": ".utf8
            try writeRepr(entry.value, into: &out)
        }
        out += "}".utf8
    }
}

extension Jinja {
    /// How `tojson` lays its text out.
    struct JSONLayout {
        var indent: Text?
        var ensureASCII = false
        var itemSeparator: Text = ", "
        var keySeparator: Text = ": "
        var sortsKeys = false
    }

    /// A text in quotes as Python's `repr` writes it.
    static func writeRepr(_ text: Text, into out: inout [UInt8]) {
        let quote: UInt8 = text.utf8.contains(UInt8(ascii: "'")) && !text.utf8.contains(UInt8(ascii: "\"")) ? 0x22 : 0x27
        out.append(quote)
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != quote && $0 != UInt8(ascii: "\\") }) {
            out += text.utf8
        } else {
            for scalar in text.string.unicodeScalars { writeReprScalar(scalar, quote, into: &out) }
        }
        out.append(quote)
    }

    private static func writeReprScalar(_ scalar: Unicode.Scalar, _ quote: UInt8, into out: inout [UInt8]) {
        switch scalar {
        case "\\": out += "\\\\".utf8
        case "\n": out += "\\n".utf8
        case "\r": out += "\\r".utf8
        case "\t": out += "\\t".utf8
        case _ where scalar.value == UInt32(quote): out += [UInt8(ascii: "\\"), quote]
        case _ where isPrintable(scalar): out += UTF8.encode(scalar)!
        default: out += escaped(scalar).utf8
        }
    }

    static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.value < 0x7F { return scalar.value >= 0x20 }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
            return false
        default: return true
        }
    }
}

// JSON.
extension Jinja.Interpreter {
    func json(_ value: Value, _ layout: Jinja.JSONLayout) throws(TemplateError) -> Text {
        var out: [UInt8] = []
        try writeJSON(value, layout, level: 0, into: &out)
        return Text(out)
    }

    private func writeJSON(
        _ value: Value, _ layout: Jinja.JSONLayout, level: Int, into out: inout [UInt8]
    ) throws(TemplateError) {
        let before = out.count
        switch value {
        case .none: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .int(let value): out += String(value).utf8
        case .double(let value): out += Jinja.jsonNumber(value).utf8
        case .text(let text): Jinja.writeJSONString(text.utf8, ensureASCII: layout.ensureASCII, into: &out)
        case .list(let list), .tuple(let list):
            try descend()
            defer { ascend() }
            try writeArray(list.items, layout, level: level, into: &out)
            return
        case .dictionary(let dictionary):
            try descend()
            defer { ascend() }
            try writeObject(dictionary, layout, level: level, into: &out)
            return
        default: throw failure("a \(value.typeName) cannot be written as JSON")
        }
        try chargeText(out.count - before)
    }

    private func writeArray(
        _ items: [Value], _ layout: Jinja.JSONLayout, level: Int, into out: inout [UInt8]
    ) throws(TemplateError) {
        out.append(UInt8(ascii: "["))
        for (index, item) in items.enumerated() {
            if index > 0 { out += layout.itemSeparator.utf8 }
            try breakLine(layout, level + 1, into: &out)
            try writeJSON(item, layout, level: level + 1, into: &out)
        }
        if !items.isEmpty { try breakLine(layout, level, into: &out) }
        out.append(UInt8(ascii: "]"))
    }

    private func writeObject(
        _ dictionary: Jinja.Dictionary, _ layout: Jinja.JSONLayout, level: Int, into out: inout [UInt8]
    ) throws(TemplateError) {
        var entries = dictionary.entries
        if layout.sortsKeys {
            let order = try sortedPlaces(entries.map(\.key), reverse: false)
            entries = order.map { entries[$0] }
        }
        out.append(UInt8(ascii: "{"))
        for (index, entry) in entries.enumerated() {
            if index > 0 { out += layout.itemSeparator.utf8 }
            try breakLine(layout, level + 1, into: &out)
            let key = try jsonKey(entry.key)
            try chargeText(key.utf8.count)
            Jinja.writeJSONString(key.utf8, ensureASCII: layout.ensureASCII, into: &out)
            out += layout.keySeparator.utf8
            try writeJSON(entry.value, layout, level: level + 1, into: &out)
        }
        if !entries.isEmpty { try breakLine(layout, level, into: &out) }
        out.append(UInt8(ascii: "}"))
    }

    private func jsonKey(_ key: Value) throws(TemplateError) -> Text {
        switch key {
        case .text(let text): return text
        case .none: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .int(let value): return Text(String(value))
        case .double(let value): return Text(Jinja.jsonNumber(value))
        default: throw failure("a \(key.typeName) cannot be a key in JSON")
        }
    }

    private func breakLine(_ layout: Jinja.JSONLayout, _ level: Int, into out: inout [UInt8]) throws(TemplateError) {
        guard let indent = layout.indent else { return }
        let (width, overflow) = indent.utf8.count.multipliedReportingOverflow(by: level)
        try chargeText(overflow ? Int.max / 4 : width + 1)
        out.append(0x0A)
        for _ in 0..<level { out += indent.utf8 }
    }
}
