extension Jinja {
    /// `\xhh`, `\uhhhh` or `\Uhhhhhhhh`, as Python writes a character it cannot show.
    static func escaped(_ scalar: Unicode.Scalar) -> String {
        let hex = String(scalar.value, radix: 16)
        let (mark, width) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        return "\\" + mark + String(repeating: "0", count: width - hex.count) + hex
    }

    /// Python's `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16.
    static func floatText(_ value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
        let (digits, exponent) = shortestDigits(value.magnitude)
        let sign = value < 0 ? "-" : ""
        if exponent < -4 || exponent >= 16 {
            let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
            let power = String(exponent.magnitude)
            return sign + digits.prefix(1) + fraction + (exponent < 0 ? "e-" : "e+") + (power.count < 2 ? "0" : "") + power
        }
        if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits }
        if digits.count <= exponent + 1 {
            return sign + digits + String(repeating: "0", count: exponent + 1 - digits.count) + ".0"
        }
        return sign + digits.prefix(exponent + 1) + "." + digits.dropFirst(exponent + 1)
    }

    /// Significant digits without zeros at either end, and the power of ten of the first one. `value` is positive.
    private static func shortestDigits(_ value: Double) -> (digits: String, exponent: Int) {
        let parts = value.description.split(separator: "e")
        let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        let whole = mantissa[0]
        let fraction = mantissa.count > 1 ? mantissa[1] : ""
        let all = whole + fraction
        let lead = all.prefix { $0 == "0" }.count
        var digits = all.dropFirst(lead)
        while digits.last == "0" { digits.removeLast() }
        let power = parts.count > 1 ? Int(parts[1])! : 0
        return (String(digits), whole.count - 1 - lead + power)
    }

    /// A float as Python's `json.dumps` writes it.
    static func jsonNumber(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        return floatText(value)
    }

    /// A string as Python's `json.dumps` writes it, quotes included.
    static func writeJSONString(_ utf8: [UInt8], ensureASCII: Bool, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        if ensureASCII, !utf8.allSatisfy({ $0 < 0x7F }) {
            for scalar in String(decoding: utf8, as: UTF8.self).unicodeScalars {
                if scalar.value < 0x7F { writeJSONByte(UInt8(scalar.value), into: &out) } else { writeJSONEscape(scalar, into: &out) }
            }
        } else {
            for byte in utf8 { writeJSONByte(byte, into: &out) }
        }
        out.append(UInt8(ascii: "\""))
    }

    private static func writeJSONByte(_ byte: UInt8, into out: inout [UInt8]) {
        switch byte {
        case UInt8(ascii: "\""): out += "\\\"".utf8
        case UInt8(ascii: "\\"): out += "\\\\".utf8
        case 0x08: out += "\\b".utf8
        case 0x09: out += "\\t".utf8
        case 0x0A: out += "\\n".utf8
        case 0x0C: out += "\\f".utf8
        case 0x0D: out += "\\r".utf8
        case 0..<0x20: writeJSONEscape(Unicode.Scalar(byte), into: &out)
        default: out.append(byte)
        }
    }

    private static func writeJSONEscape(_ scalar: Unicode.Scalar, into out: inout [UInt8]) {
        for unit in UTF16.encode(scalar)! {
            let hex = String(unit, radix: 16)
            out += ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8
        }
    }
}
