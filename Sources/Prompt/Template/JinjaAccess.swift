// Attributes, items, slices, and walking.
extension Jinja.Interpreter {
    /// `base.name`: Python's attribute first, then the item of that name.
    func attribute(_ name: Text, of base: Value) throws(TemplateError) -> Value {
        switch base {
        case .undefined: try checkDefined(base)
        case .dictionary(let dictionary):
            if let method = try method(name, of: base) { return method }
            try step(dictionary.entries.count / 8)
            if let value = dictionary.value(name) { return value }
        case .namespace(let namespace):
            try step(namespace.entries.count / 8)
            if let value = namespace.value(name) { return value }
        case .loop(let loop):
            if let value = try attribute(name.string, of: loop) { return value }
        case .macro(let macro):
            if let value = try attribute(name.string, of: macro) { return value }
        default:
            if let value = try method(name, of: base) { return value }
        }
        return missingItem(name.string, of: base)
    }

    /// `base[key]`: the item first, then Python's attribute of that name.
    func item(_ key: Value, of base: Value) throws(TemplateError) -> Value {
        try checkDefined(base)
        switch (base, key) {
        case (.dictionary(let dictionary), _):
            if case .list = key { break }
            if case .dictionary = key { break }
            if let value = try value(of: key, in: dictionary) { return value }
        case (.list(let list), _) where key.integer != nil, (.tuple(let list), _) where key.integer != nil:
            if let place = place(key.integer!, among: list.items.count) { return list.items[place] }
        case (.range(let range), _) where key.integer != nil:
            if let place = place(key.integer!, among: range.count) { return range.item(place) }
        case (.text(let text), _) where key.integer != nil:
            try chargeReading(text.utf8.count)
            if let place = place(key.integer!, among: text.length) { return .text(text.character(place)) }
        default: break
        }
        guard case .text(let name) = key else { return missingItem(try repr(key).string, of: base) }
        if case .dictionary = base, let method = try method(name, of: base) { return method }
        if case .dictionary = base { return missingItem(name.string, of: base) }
        return try attribute(name, of: base)
    }

    private func place(_ index: Int, among count: Int) -> Int? {
        let place = index < 0 ? index + count : index
        return place >= 0 && place < count ? place : nil
    }

    func missingItem(_ name: String, of base: Value) -> Value {
        .undefined(Jinja.Undefined("'\(base.typeName) object' has no attribute or item \(name)"))
    }

    /// `base[from:to:step]`
    func slice(_ base: Value, from: Int?, to: Int?, step: Int?) throws(TemplateError) -> Value {
        try checkDefined(base)
        guard step != 0 else { throw failure("a slice's step cannot be zero") }
        switch base {
        case .list(let list): return .list(try self.list(try sliced(list.items, from, to, step)))
        case .tuple(let list): return .tuple(try self.list(try sliced(list.items, from, to, step)))
        case .text(let text):
            try chargeText(text.utf8.count)
            if text.isASCII { return .text(Text(try sliced(text.utf8, from, to, step))) }
            return .text(Text(try sliced(text.scalars, from, to, step)))
        case .range(let range):
            let indices = sliceIndices(range.count, from, to, step)
            let (product, overflow) = range.step.multipliedReportingOverflow(by: step ?? 1)
            let (stopDistance, tooFar) = range.step.multipliedReportingOverflow(by: indices.end)
            let (stop, beyond) = range.start.addingReportingOverflow(stopDistance)
            let (startDistance, tooFarStart) = range.step.multipliedReportingOverflow(by: indices.start)
            let (start, beyondStart) = range.start.addingReportingOverflow(startDistance)
            guard !overflow, !tooFar, !beyond, !tooFarStart, !beyondStart else { throw failure("a slice of a range does not fit 64 bits") }
            return .range(Jinja.Range(start: start, stop: stop, step: product, count: indices.count))
        default: throw failure("a \(base.typeName) cannot be sliced")
        }
    }

    private func sliced<Element>(
        _ items: [Element], _ from: Int?, _ to: Int?, _ step: Int?
    ) throws(TemplateError) -> [Element] {
        let indices = sliceIndices(items.count, from, to, step)
        try self.step(indices.count / 64)
        guard indices.count > 0 else { return [] }
        if indices.step == 1 { return Array(items[indices.start..<indices.start + indices.count]) }
        var out: [Element] = []
        out.reserveCapacity(indices.count)
        for turn in 0..<indices.count { out.append(items[indices.start + turn * indices.step]) }
        return out
    }

    /// Python's `slice.indices`, with the number of items taken; when there are any, each index lies in 0..<count.
    private func sliceIndices(
        _ count: Int, _ from: Int?, _ to: Int?, _ step: Int?
    ) -> (start: Int, end: Int, step: Int, count: Int) {
        // A step longer than the sequence takes at most one item, so it may be shortened without being seen.
        let step = max(-count - 1, min(count + 1, step ?? 1))
        let (low, high) = step > 0 ? (0, count) : (-1, count - 1)
        func clamp(_ index: Int?, _ absent: Int) -> Int {
            guard let index else { return absent }
            if index < 0 { return index < -count ? low : max(low, index + count) }
            return min(index, high)
        }
        let start = clamp(from, step > 0 ? low : high)
        let end = clamp(to, step > 0 ? high : low)
        let taken = step > 0 ? (end - start + step - 1) / step : (start - end - step - 1) / -step
        return (start, end, step, max(0, taken))
    }

    /// What a walk over `value` meets, in order.
    func items(of value: Value) throws(TemplateError) -> [Value] {
        switch value {
        case .undefined: return []
        case .list(let list), .tuple(let list): return list.items
        case .dictionary(let dictionary):
            try step(dictionary.entries.count)
            return dictionary.entries.map(\.key)
        case .view(let view): return try items(of: view)
        case .iterator(let iterator):
            let items = iterator.rest()
            try step(items.count)
            return items
        case .range(let range):
            try step(range.count)
            return (0..<range.count).map { range.item($0) }
        case .text(let text):
            try step(text.utf8.count)
            return text.characters.map { .text($0) }
        default: throw failure("a \(value.typeName) cannot be walked over")
        }
    }

    private func items(of view: Jinja.View) throws(TemplateError) -> [Value] {
        let entries = view.dictionary.entries
        try step(entries.count)
        switch view.part {
        case .keys: return entries.map(\.key)
        case .values: return entries.map(\.value)
        case .items:
            var pairs: [Value] = []
            pairs.reserveCapacity(entries.count)
            for entry in entries { pairs.append(.tuple(try list([entry.key, entry.value]))) }
            return pairs
        }
    }

    /// Python's `len`.
    func length(of value: Value) throws(TemplateError) -> Int {
        switch value {
        case .undefined: return 0
        case .text(let text):
            try chargeReading(text.utf8.count)
            return text.length
        case .list(let list), .tuple(let list): return list.items.count
        case .dictionary(let dictionary): return dictionary.entries.count
        case .view(let view): return view.dictionary.entries.count
        case .range(let range): return range.count
        case .loop(let loop): return try loop.length()
        default: throw failure("a \(value.typeName) has no length")
        }
    }
}

extension Jinja.Text {
    /// The code point at `index`, which must be there.
    func character(_ index: Int) -> Jinja.Text {
        var seen = -1
        for (offset, byte) in utf8.enumerated() where byte & 0xC0 != 0x80 {
            seen += 1
            if seen == index { return Jinja.Text(utf8[offset..<offset + Self.width(byte)]) }
        }
        preconditionFailure("character index \(index) lies outside of the text")
    }

    /// Bytes of the character whose first byte this is.
    static func width(_ lead: UInt8) -> Int { lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4 }
}
