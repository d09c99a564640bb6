/// SplitMix64: the same seed, the same run, on every machine and in every process.
package struct SeededNumbers: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return mixed(state)
    }

    /// One of 0..<count.
    mutating func below(_ count: Int) -> Int {
        precondition(count > 0, "there is something to choose from")
        return Int(next().multipliedFullWidth(by: UInt64(count)).high)
    }

    mutating func among(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

    mutating func among(_ range: ClosedRange<UInt64>) -> UInt64 {
        range.lowerBound + next().multipliedFullWidth(by: range.upperBound - range.lowerBound + 1).high
    }

    /// True once in `count` times.
    mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    mutating func pick<Element>(_ items: [Element]) -> Element { items[below(items.count)] }

    /// Each octave of `range` as likely as any other: of microseconds to seconds, mostly neither.
    mutating func octaves(_ range: ClosedRange<UInt64>) -> UInt64 {
        let low = UInt64.bitWidth - max(1, range.lowerBound).leadingZeroBitCount - 1
        let high = UInt64.bitWidth - max(1, range.upperBound).leadingZeroBitCount - 1
        let octave = among(low...high)
        let value = (UInt64(1) << UInt64(octave)) + next() % (UInt64(1) << UInt64(octave))
        return min(max(value, range.lowerBound), range.upperBound)
    }
}

/// Every bit of the result depends on every bit of `value`.
@inline(__always) func mixed(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
}

@inline(__always) func mixed(_ a: UInt64, _ b: UInt64) -> UInt64 { mixed(a &* 31 &+ mixed(b &+ 0x9E37_79B9)) }
