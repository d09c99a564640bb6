/// A cursor over the header of a GGUF file. It never reads beyond the end, and it is the only place where the header's
/// reader reserves memory for contents: each reservation is for elements whose bytes were first found to be there, so
/// `reservedBytes` stays at or below the bytes read.
struct ByteReader {
    let bytes: UnsafeRawBufferPointer
    /// The file's name for messages.
    let name: String
    private(set) var offset = 0
    /// Bytes of memory reserved for texts and the contents of arrays so far.
    private(set) var reservedBytes = 0
    /// Inner arrays met so far, bounded by `ModelFileLimits.innerArraysMax`.
    var innerArrays = 0

    init(bytes: UnsafeRawBufferPointer, name: String) {
        self.bytes = bytes
        self.name = name
    }

    var remaining: Int { bytes.count - offset }

    /// The next little-endian integer.
    mutating func integer<Number: FixedWidthInteger>(
        _ what: @autoclosure () -> String, as type: Number.Type = Number.self
    ) throws(ModelFileError) -> Number {
        let size = MemoryLayout<Number>.size
        guard remaining >= size else { throw truncated(what(), needed: size) }
        let number = bytes.loadUnaligned(fromByteOffset: offset, as: Number.self)
        offset += size
        return Number(littleEndian: number)
    }

    /// The next count of things of at least `bytesMin` bytes each, which follow it.
    mutating func count(
        ofAtLeast bytesMin: Int, _ what: @autoclosure () -> String
    ) throws(ModelFileError) -> Int {
        // In two steps: as an argument, the number would be read after `self` was copied for the call, and the check
        // would see the bytes before it.
        let claimed = try integer(what(), as: UInt64.self)
        return try check(claimed, ofAtLeast: bytesMin, what())
    }

    /// A claimed count of things of at least `bytesMin` bytes each: refused, before anything is reserved for them,
    /// unless that many bytes are left.
    func check(
        _ claimed: UInt64, ofAtLeast bytesMin: Int, _ what: @autoclosure () -> String
    ) throws(ModelFileError) -> Int {
        let possible = remaining / bytesMin
        guard claimed <= UInt64(possible) else {
            throw ModelFileError(
                .absurdCount,
                "\(name): \(what()) is \(claimed), but the \(remaining) bytes from byte \(offset) to the end hold at most \(possible). The file is damaged or cut short; fetch it again."
            )
        }
        return Int(claimed)
    }

    /// The bytes of a text whose length stands before it.
    mutating func text(
        bytesMax: Int = .max, _ what: @autoclosure () -> String
    ) throws(ModelFileError) -> UnsafeRawBufferPointer {
        let start = offset
        let length = try count(ofAtLeast: 1, "the length of \(what())")
        guard length <= bytesMax else {
            throw ModelFileError(
                .limitExceeded,
                "\(name): \(what()) at byte \(start) is \(length) bytes long; at most \(bytesMax) are allowed. The file is damaged; fetch it again."
            )
        }
        let text = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + length)])
        guard isUTF8(text) else {
            throw ModelFileError(
                .invalidText,
                "\(name): \(what()) at byte \(start) is not valid UTF-8. The file is damaged or from a faulty converter; fetch or convert it again."
            )
        }
        offset += length
        return text
    }

    mutating func string(
        bytesMax: Int = .max, _ what: @autoclosure () -> String
    ) throws(ModelFileError) -> String {
        let text = try text(bytesMax: bytesMax, what())
        reserve(text.count)
        return String(decoding: text, as: UTF8.self)
    }

    /// `count` numbers that lie side by side; the caller got `count` from `count(ofAtLeast:)` with their size.
    mutating func numbers<Number: BitwiseCopyable>(_ type: Number.Type = Number.self, count: Int) -> [Number] {
        let byteCount = count * MemoryLayout<Number>.stride
        precondition(byteCount <= remaining, "numbers beyond the bytes that were checked")
        let source = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + byteCount)])
        offset += byteCount
        reserve(byteCount)
        return [Number](unsafeUninitializedCapacity: count) { buffer, initialized in
            UnsafeMutableRawBufferPointer(buffer).copyMemory(from: source)
            initialized = count
        }
    }

    /// `count` strings; two passes, so that what is reserved is what is needed and never more than was read.
    mutating func stringArray(count: Int, _ what: @autoclosure () -> String) throws(ModelFileError) -> StringArray {
        let start = offset
        var textBytes = 0
        for _ in 0..<count { textBytes += try text(what()).count }
        guard textBytes <= Int(UInt32.max) else {
            throw ModelFileError(
                .limitExceeded, "\(name): \(what()) holds \(textBytes) bytes of text; at most \(UInt32.max) are allowed.")
        }
        reserve(textBytes + count * MemoryLayout<UInt32>.stride)
        var strings = StringArray()
        strings.reserve(strings: count, bytes: textBytes)
        offset = start
        for _ in 0..<count {
            let length = Int(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            strings.append(utf8: bytes[(offset + 8)..<(offset + 8 + length)])
            offset += 8 + length
        }
        return strings
    }

    /// Counts a reservation; called once the bytes that it is for have been read.
    private mutating func reserve(_ bytes: Int) {
        reservedBytes += bytes
        precondition(reservedBytes <= offset, "\(reservedBytes) bytes reserved for \(offset) bytes read")
    }

    private func isUTF8(_ text: UnsafeRawBufferPointer) -> Bool {
        // Nearly all texts are ASCII, for which one pass over the bytes settles it.
        if text.allSatisfy({ $0 < 0x80 }) { return true }
        return String(validating: text, as: UTF8.self) != nil
    }

    private func truncated(_ what: String, needed: Int) -> ModelFileError {
        ModelFileError(
            .truncated,
            "\(name): \(what) should stand at byte \(offset) (\(needed) bytes), but the file ends at byte \(bytes.count). It is cut short; fetch it again."
        )
    }
}
