import ModelFiles

extension TemplateValue {
    /// Reads one JSON text (RFC 8259) as Python's `json.loads` does: key order kept, a number is an integer unless it
    /// has a point or an exponent.
    /// - Parameters:
    ///   - json: UTF-8 bytes of one value, with white space around it or not.
    ///   - depthMax: nested arrays and objects.
    /// - Throws: code `json` for damaged text, an integer beyond 64 bits or a half of a surrogate pair (neither has a
    ///   place in a prompt); code `limit` for nesting deeper than `depthMax`.
    package init(json: [UInt8], depthMax: Int = TemplateLimits.standard.valueDepthMax) throws(TemplateError) {
        let result = json.withUnsafeBytes { text in Result { () throws(JSONFault) in try JSONReader.value(of: text, JSONRules(depthMax: depthMax)) } }
        switch result {
        case .success(let value): self.init(value)
        case .failure(let fault): throw fault.inTemplate
        }
    }

    /// The value as JSON text, in the layout of Python's `json.dumps(value, ensure_ascii=False)`. Undefined is null.
    package var json: [UInt8] {
        var out: [UInt8] = []
        Self.write(self, into: &out)
        return out
    }

    private static func write(_ value: TemplateValue, into out: inout [UInt8]) {
        switch value {
        case .undefined, .null: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .int(let value): out += String(value).utf8
        case .double(let value): out += Jinja.jsonNumber(value).utf8
        case .string(let value): Jinja.writeJSONString(Array(value.utf8), ensureASCII: false, into: &out)
        case .array(let items):
            out.append(UInt8(ascii: "["))
            for (index, item) in items.enumerated() {
                if index > 0 { out += ", ".utf8 }
                write(item, into: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let object):
            out.append(UInt8(ascii: "{"))
            for (index, entry) in object.entries.enumerated() {
                if index > 0 { out += ", ".utf8 }
                Jinja.writeJSONString(Array(entry.key.utf8), ensureASCII: false, into: &out)
                out += ": ".utf8
                write(entry.value, into: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }
}

extension TemplateValue {
    private init(_ value: JSONValue) {
        switch value {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .int(let value): self = .int(value)
        case .double(let value): self = .double(value)
        case .string(let value): self = .string(value)
        case .array(let items): self = .array(items.map(TemplateValue.init))
        case .object(let object): self = .object(TemplateObject(distinct: object.members.map { ($0.key, TemplateValue($0.value)) }))
        }
    }
}

extension JSONFault {
    fileprivate var inTemplate: TemplateError {
        switch kind {
        case .damaged, .repeatedKey: TemplateError(.json, "JSON text is damaged at byte \(at): \(found)")
        case .tooDeep, .tooMany: TemplateError(.limit, "JSON text \(found)")
        }
    }
}
