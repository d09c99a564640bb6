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
                var machines = Machines()
                var count = 0
                return { input in
                    try outcome {
                        let message = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeToCoordinator(bytes) }
                        let again = WireCodec.encode(message)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeToCoordinator(bytes) }
                        precondition(same == message)
                        count += 1
                        if count % freshEvery == 0 { machines = Machines() }
                        switch count % 3 {
                        case 0: machines.say(message, as: Machines.worker, .worker)
                        case 1: machines.say(message, as: Machines.gateway, .gateway)
                        default: machines.say(message, as: Machines.other, .worker)
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
                var machines = Machines()
                var count = 0
                return { input in
                    try outcome {
                        let message = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeFromCoordinator(bytes) }
                        let again = WireCodec.encode(message)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeFromCoordinator(bytes) }
                        precondition(same == message)
                        count += 1
                        if count % freshEvery == 0 { machines = Machines() }
                        if count % 2 == 0 { machines.tellStage(.received(message)) } else { machines.tellLink(message) }
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
                var machines = Machines()
                var count = 0
                return { input in
                    try outcome {
                        let frame = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeStepFrame(bytes) }
                        let again = WireCodec.encode(frame)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeStepFrame(bytes) }
                        precondition(same == frame)
                        count += 1
                        if count % freshEvery == 0 { machines = Machines() }
                        // To a worker that is the first stage of its plan, and as a step of its coordinator's.
                        machines.tellStage(.activation(frame, payload: PayloadHandle(UInt64(count)), from: Machines.other))
                        machines.tellStage(.received(.step(frame.step)))
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

    /// Machines that ended, or are in a corner, are made anew after so many messages.
    static let freshEvery = 40

    /// The name of an enum's case.
    static func name(of message: Any) -> String { Mirror(reflecting: message).children.first?.label ?? "\(message)" }

    static func outcome(_ body: () throws -> String) throws -> String {
        do { return try body() } catch let error as WireError {
            guard error.code == .joinLineInvalid else { return "\(error.code.rawValue) \(error.field)" }
            return String(error.message.dropFirst(24).prefix(24).filter { !$0.isNumber })
        }
    }
}
