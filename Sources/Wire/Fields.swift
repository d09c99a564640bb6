import CWire
import ClusterCore

/// Reads fields of one message and refuses what is missing or out of range, with the field's name.
struct Fields {
    let message: StaticString

    init(_ message: StaticString) { self.message = message }

    func invalid(_ field: StaticString, _ found: @autoclosure () -> String) -> WireError {
        WireError(
            .invalidField, "\(message).\(field) \(found()); the frame is refused, check that all machines run the same release",
            field: "\(message).\(field)")
    }

    func require(_ condition: Bool, _ field: StaticString, _ found: @autoclosure () -> String) throws(WireError) {
        guard condition else { throw invalid(field, found()) }
    }

    func present<Value>(_ has: protobuf_c_boolean, _ value: Value, _ field: StaticString) throws(WireError) -> Value {
        try require(has != 0, field, "is missing")
        return value
    }

    func submessage<Message>(_ pointer: UnsafeMutablePointer<Message>?, _ field: StaticString) throws(WireError) -> UnsafePointer<Message> {
        guard let pointer else { throw invalid(field, "is missing") }
        return UnsafePointer(pointer)
    }

    func integer(_ has: protobuf_c_boolean, _ value: UInt32, _ field: StaticString, _ allowed: ClosedRange<Int>) throws(WireError) -> Int {
        let number = Int(try present(has, value, field))
        try require(allowed.contains(number), field, "is \(number), allowed is \(allowed)")
        return number
    }

    func counter(
        _ has: protobuf_c_boolean, _ value: UInt64, _ field: StaticString, atMost max: UInt64 = WireLimits.counterMax
    ) throws(WireError) -> UInt64 {
        let number = try present(has, value, field)
        try require(number <= max, field, "is \(number), allowed is at most \(max)")
        return number
    }

    /// A count that earlier releases of the same protocol did not send, and that is left out where it is zero.
    func counterOrZero(
        _ has: protobuf_c_boolean, _ value: UInt64, _ field: StaticString, atMost max: UInt64 = WireLimits.counterMax
    ) throws(WireError) -> UInt64 {
        has == 0 ? 0 : try counter(has, value, field, atMost: max)
    }

    func epoch(_ has: protobuf_c_boolean, _ value: UInt64, _ field: StaticString = "epoch") throws(WireError) -> Epoch {
        Epoch(try counter(has, value, field, atMost: Limits.epochMax))
    }

    func sequence(_ has: protobuf_c_boolean, _ value: UInt64) throws(WireError) -> SequenceID { SequenceID(try counter(has, value, "sequence")) }

    func float(_ has: protobuf_c_boolean, _ value: Float, _ field: StaticString, _ allowed: ClosedRange<Float>) throws(WireError) -> Float {
        let number = try present(has, value, field)
        // NaN is in no range.
        try require(allowed.contains(number), field, "is \(number), allowed is \(allowed)")
        return number
    }

    func rate(_ has: protobuf_c_boolean, _ value: Double, _ field: StaticString, atMost max: Double = .greatestFiniteMagnitude) throws(WireError)
        -> Double
    {
        let number = try present(has, value, field)
        try require((0...max).contains(number), field, "is \(number), allowed is 0...\(max)")
        return number
    }

    func text(
        _ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString, _ kind: Text.Kind, bytesMax: Int
    ) throws(WireError) -> String {
        let data = try present(has, value, field)
        try require(data.len <= bytesMax, field, "has \(data.len) bytes, allowed are \(bytesMax)")
        guard let text = String(validating: UnsafeBufferPointer(start: data.data, count: data.len), as: UTF8.self) else {
            throw invalid(field, "is no UTF-8")
        }
        try require(text.unicodeScalars.allSatisfy { Text.isAllowed($0, kind) }, field, "has a control character")
        return text
    }

    func name(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> String {
        try text(has, value, field, .name, bytesMax: Limits.nameBytesMax)
    }

    func sentence(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> String {
        try text(has, value, field, .sentence, bytesMax: Limits.messageBytesMax)
    }

    func endpoint(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> String {
        let endpoint = try text(has, value, field, .name, bytesMax: Limits.endpointBytesMax)
        try require(Endpoint.isConnectable(endpoint), field, "is \"\(endpoint)\", expected tcp://host:port")
        return endpoint
    }

    func key(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> PeerKey {
        let data = try present(has, value, field)
        guard let key = PeerKey(bytes: UnsafeBufferPointer(start: data.data, count: data.len)) else {
            throw invalid(field, "has \(data.len) bytes, a key has \(PeerKey.byteCount)")
        }
        return key
    }

    func digest(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> ModelDigest {
        let data = try present(has, value, field)
        try require(data.len == ModelDigest.byteCount, field, "has \(data.len) bytes, a digest has \(ModelDigest.byteCount)")
        return ModelDigest(bytes: Array(UnsafeBufferPointer(start: data.data, count: data.len)))!
    }

    func layers(_ pointer: UnsafeMutablePointer<Staffel__V1__LayerRange>?, _ field: StaticString, mayBeEmpty: Bool = false) throws(WireError)
        -> Range<Int>
    {
        let range = try submessage(pointer, field).pointee
        let first = Int(try present(range.has_first, range.first, field))
        let end = Int(try present(range.has_end, range.end, field))
        try require(first < end || mayBeEmpty && first == end, field, "is \(first)..<\(end), which is no range of layers")
        try require(end <= Limits.layersMax, field, "ends at \(end), allowed is \(Limits.layersMax)")
        return first..<end
    }

    func tokens(_ count: Int, _ pointer: UnsafeMutablePointer<Int32>?, _ field: StaticString, _ allowed: ClosedRange<Int>) throws(WireError)
        -> [TokenID]
    {
        try require(allowed.contains(count), field, "has \(count) tokens, allowed are \(allowed)")
        let tokens = UnsafeBufferPointer(start: pointer, count: count)
        // Negative ids are huge as unsigned numbers; one comparison an id, no early exit, so that the loop is a vector loop.
        var largest: UInt32 = 0
        for token in tokens { largest = max(largest, UInt32(bitPattern: token)) }
        try require(largest < UInt32(Limits.vocabularyMax), field, "has token \(Int32(bitPattern: largest)), allowed is 0..<\(Limits.vocabularyMax)")
        return Array(tokens)
    }

    /// Repeated submessages, at most `max`.
    func list<Message, Value>(
        _ count: Int, _ pointers: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, _ field: StaticString, atMost max: Int,
        _ unpack: (UnsafePointer<Message>) throws(WireError) -> Value
    ) throws(WireError) -> [Value] {
        try require(count <= max, field, "has \(count) entries, allowed are \(max)")
        var values: [Value] = []
        values.reserveCapacity(count)
        for index in 0..<count { values.append(try unpack(submessage(pointers![index], field))) }
        return values
    }

    func requireDistinct<Value: Comparable>(_ values: [Value], _ field: StaticString) throws(WireError) {
        // Honest lists come in order, mostly.
        if Self.isAscending(values) { return }
        try require(Self.isAscending(values.sorted()), field, "names one twice")
    }

    func requireAscending<Value: Comparable>(_ values: [Value], _ field: StaticString) throws(WireError) {
        try require(Self.isAscending(values), field, "is not in ascending order, or names one twice")
    }

    private static func isAscending<Value: Comparable>(_ values: [Value]) -> Bool {
        var index = 1
        while index < values.count {
            if values[index - 1] >= values[index] { return false }
            index += 1
        }
        return true
    }
}
