import ClusterCore

@testable import Wire

// Frames: what decodes must encode to a frame that decodes to the same, and must not confuse a machine that is at work.

extension FuzzTarget {
    static let wire: [FuzzTarget] = [
        FuzzTarget(
            name: "to-coordinator",
            seeds: {
                var random = Seeded(1)
                let invented = (0..<Seeded.toCoordinatorKinds).map { WireCodec.encode(random.toCoordinator(kind: $0)) }
                return invented + Machines().heardByCoordinator.map { WireCodec.encode($0) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let message = try roundTrip(input, WireCodec.decodeToCoordinator) { WireCodec.encode($0) }
                        work.countOne()
                        switch work.count % 3 {
                        case 0: work.machines.say(message, as: Machines.worker, .worker)
                        case 1: work.machines.say(message, as: Machines.gateway, .gateway)
                        default: work.machines.say(message, as: Machines.other, .worker)
                        }
                        return "took \(name(of: message))"
                    }
                }
            }),
        FuzzTarget(
            name: "from-coordinator",
            seeds: {
                var random = Seeded(2)
                let invented = (0..<Seeded.fromCoordinatorKinds).map { WireCodec.encode(random.fromCoordinator(kind: $0)) }
                return invented + Machines().heardFromCoordinator.map { WireCodec.encode($0) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let message = try roundTrip(input, WireCodec.decodeFromCoordinator) { WireCodec.encode($0) }
                        work.countOne()
                        if work.count % 2 == 0 { work.machines.tellStage(.received(message)) } else { work.machines.tellLink(message) }
                        return "took \(name(of: message))"
                    }
                }
            }),
        FuzzTarget(
            name: "step-frame",
            seeds: {
                var random = Seeded(3)
                return (0..<8).map { _ in WireCodec.encode(random.stepFrame()) } + Machines().steps.map { WireCodec.encode($0) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let frame = try roundTrip(input, WireCodec.decodeStepFrame) { WireCodec.encode($0) }
                        work.countOne()
                        // To a worker that is the first stage of its plan, and as a step of its coordinator's.
                        work.machines.tellStage(.activation(frame, payload: PayloadHandle(UInt64(work.count)), from: Machines.other))
                        work.machines.tellStage(.received(.step(frame.step)))
                        return "took \(min(frame.step.segments.count, 9)) segments"
                    }
                }
            }),
        FuzzTarget(
            name: "join-line",
            seeds: {
                let key = PeerKey(bytes: [UInt8](repeating: 0xA5, count: 32))!
                return try ["tcp://10.0.0.1:7300", "tcp://[fe80::1%25eth0]:7300", "tcp://box-1.lan:1"].map {
                    Array(try JoinLine(endpoint: $0, serverKey: key, tokenSecret: [UInt8](repeating: 0x5A, count: 32)).text.utf8)
                }
            }, dictionary: ["staffel1:", "tcp://", ":", "[", "]", "%", "0.0.0.0", "*", "\u{0130}"], isText: true,
            make: {
                { input in
                    // The check digits would hide everything behind them from a mutant: every second one gets those that fit.
                    var text = String(decoding: input, as: UTF8.self)
                    if input.count % 2 == 0, let end = text.lastIndex(of: ":") {
                        text = text[..<end] + ":" + JoinLine.check(String(text[..<end]))
                    }
                    return try outcome {
                        let line = try JoinLine(parsing: text)
                        let again = try JoinLine(parsing: line.text)
                        precondition(again == line)
                        return "took \(line.endpoint.hasPrefix("tcp://[") ? "an IPv6 address" : "a host")"
                    }
                }
            }),
    ]

    /// Machines that hear one message after the other. Those that ended, or are in a corner, are made anew after so many.
    struct AtWork {
        private static let freshEvery = 40

        var machines = Machines()
        private(set) var count = 0

        mutating func countOne() {
            count += 1
            if count % Self.freshEvery == 0 { machines = Machines() }
        }
    }

    /// What `input` decodes to, which must encode to a frame that decodes to the same.
    static func roundTrip<Value: Equatable>(
        _ input: [UInt8], _ decode: (UnsafeRawBufferPointer) throws(WireError) -> Value, _ encode: (Value) -> [UInt8]
    ) throws -> Value {
        let value = try input.withUnsafeBytes(decode)
        let same = try encode(value).withUnsafeBytes(decode)
        precondition(same == value)
        return value
    }

    /// The name of an enum's case.
    static func name(of message: Any) -> String { Mirror(reflecting: message).children.first?.label ?? "\(message)" }

    static func outcome(_ body: () throws -> String) throws -> String {
        do { return try body() } catch let error as WireError {
            guard error.code == .joinLineInvalid else { return "\(error.code.rawValue) \(error.field)" }
            return String(error.message.dropFirst(24).prefix(24).filter { !$0.isNumber })
        }
    }
}
