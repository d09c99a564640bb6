import CWire
import ClusterCore

/// Checks of single fields: each returns the value, or throws a `WireError` that names the field.
enum FieldCheck {
    static func fail(_ field: String, _ found: String) -> WireError { WireError(.invalidField, "\(field) \(found)") }

    static func present<Value>(_ pointer: UnsafeMutablePointer<Value>?, _ field: String) throws(WireError) -> Value {
        guard let pointer else { throw fail(field, "is missing") }
        return pointer.pointee
    }

    static func number(_ value: some BinaryInteger, _ range: ClosedRange<Int>, _ field: String) throws(WireError) -> Int {
        guard let number = Int(exactly: value), range.contains(number) else { throw fail(field, "is \(value), not in \(range)") }
        return number
    }

    static func finite(_ value: Double, atLeast minimum: Double, _ field: String) throws(WireError) -> Double {
        guard value.isFinite, value >= minimum else { throw fail(field, "is \(value)") }
        return value
    }

    static func float(_ value: Float, _ range: ClosedRange<Float>, _ field: String) throws(WireError) -> Float {
        guard range.contains(value) else { throw fail(field, "is \(value), not in \(range)") }
        return value
    }

    static func kind<Kind: RawRepresentable>(_ value: UInt32, _ field: String) throws(WireError) -> Kind where Kind.RawValue == UInt8 {
        guard let raw = UInt8(exactly: value), let kind = Kind(rawValue: raw) else { throw fail(field, "is \(value), which is unknown") }
        return kind
    }

    static func text(_ pointer: UnsafeMutablePointer<CChar>?, bytesMax: Int, _ field: String) throws(WireError) -> String {
        guard let pointer, let text = String(validatingCString: pointer) else { throw fail(field, "is no UTF-8") }
        guard text.utf8.count <= bytesMax else { throw fail(field, "has \(text.utf8.count) bytes, at most \(bytesMax) are taken") }
        return text
    }

    static func bytes(_ data: ProtobufCBinaryData, _ count: Int, _ field: String) throws(WireError) -> [UInt8] {
        guard data.len == count, let start = data.data else { throw fail(field, "has \(data.len) bytes, not \(count)") }
        return Array(UnsafeBufferPointer(start: start, count: count))
    }

    static func key(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> PeerKey {
        PeerKey(bytes: try bytes(data, PeerKey.byteCount, field))!
    }

    static func digest(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> ModelDigest {
        ModelDigest(bytes: try bytes(data, ModelDigest.byteCount, field))!
    }

    static func epoch(_ value: UInt64, _ field: String) throws(WireError) -> Epoch {
        guard value <= Limits.epochMax else { throw fail(field, "is \(value), at most \(Limits.epochMax) is taken") }
        return Epoch(value)
    }

    /// May be empty only where `emptyIsFine`.
    static func layers(_ pointer: UnsafeMutablePointer<Staffel__V1__Range>?, emptyIsFine: Bool = false, _ field: String) throws(WireError) -> Range<Int> {
        let range = try present(pointer, field)
        guard range.lower <= range.upper, range.upper <= UInt32(Limits.layersMax), emptyIsFine || range.lower < range.upper else {
            throw fail(field, "is \(range.lower)..<\(range.upper), which is no range of at most \(Limits.layersMax) layers")
        }
        return Int(range.lower)..<Int(range.upper)
    }

    /// `tcp://host:port` with a port of 1...65535.
    static func endpoint(_ pointer: UnsafeMutablePointer<CChar>?, _ field: String) throws(WireError) -> String {
        let text = try text(pointer, bytesMax: Limits.endpointBytesMax, field)
        guard Endpoint.isValid(text) else { throw fail(field, "is '\(text)', not tcp://host:port") }
        return text
    }

    static func tokens(_ pointer: UnsafeMutablePointer<UInt32>?, _ count: Int, max: Int, _ field: String) throws(WireError) -> [TokenID] {
        guard count <= max else { throw fail(field, "has \(count) tokens, at most \(max) are taken") }
        let values = UnsafeBufferPointer(start: pointer, count: count)
        for value in values where value >= UInt32(Limits.vocabularyMax) { throw fail(field, "has a token \(value), which no vocabulary has") }
        return values.map(TokenID.init)
    }

    /// Elements of a repeated message.
    static func list<Element, Value>(
        _ pointers: UnsafeMutablePointer<UnsafeMutablePointer<Element>?>?, _ count: Int, max: Int, _ field: String,
        _ decode: (Element) throws(WireError) -> Value
    ) throws(WireError) -> [Value] {
        guard count <= max else { throw fail(field, "has \(count) entries, at most \(max) are taken") }
        var values: [Value] = []
        values.reserveCapacity(count)
        for index in 0..<count { values.append(try decode(try present(pointers?[index], field))) }
        return values
    }
}
