import Foundation

/// One target's run, in a process that may trap: each input stands in a file of its own before it is read, so whoever waits for the process can
/// keep the one that ended it.
///
/// Inputs whose outcome is new join those that mutants are made of: no measure of coverage, but each kind of refusal and success is a step
/// further in.
struct FuzzRun {
    static let poolMax = 1_024
    /// An input that takes so long is as bad as one that traps.
    static let secondsMax: UInt32 = 20
    /// Address space that a run may add once it has begun.
    static let allowanceBytes = 2 << 30

    static var seed: UInt64 { number("STAFFEL_SEED") ?? 20_261_121 }
    /// 0: as many inputs as each target says.
    static var seconds: Double { Double(number("STAFFEL_FUZZ_SECONDS") ?? 0) }

    private static func number(_ name: String) -> UInt64? { ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } }

    /// Where a run of this process' child keeps the input that it reads.
    static func lastInput(of name: String) -> String { NSTemporaryDirectory() + "/staffel-fuzz-\(name)-\(getuid()).bin" }

    let target: FuzzTarget

    init(_ name: String) {
        target = FuzzTarget.all.first { $0.name == name }!
    }

    /// Prints what became of the inputs.
    func run() throws {
        let last = try LastInput(path: Self.lastInput(of: target.name))
        let reader = try target.make()
        var outcomes: [String: Int] = [:]
        func read(_ input: [UInt8]) throws -> Bool {
            last.keep(input)
            alarm(Self.secondsMax)
            let outcome = try reader(input)
            outcomes[outcome, default: 0] += 1
            return outcomes[outcome] == 1
        }
        var pool = try target.corpusFiles().map { try [UInt8](Data(contentsOf: URL(fileURLWithPath: $0))) } + target.seeds()
        for input in pool { _ = try read(input) }
        capAddressSpace()

        var mutator = Mutator(seed: Self.seed, target: target)
        let began = ContinuousClock.now
        let share = Self.seconds / Double(FuzzTarget.all.count)
        var count = 0
        while share > 0 ? began.duration(to: .now) < .seconds(share) : count < target.inputs {
            let input = mutator.mutant(of: pool)
            count += 1
            if try read(input) {
                if pool.count < Self.poolMax { pool.append(input) } else { pool[count % Self.poolMax] = input }
            }
        }
        alarm(0)
        let common = outcomes.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(8).map { "\($0.key) \($0.value)" }
        print("\(target.name): seed \(Self.seed), \(count) inputs, \(outcomes.count) outcomes: \(common.joined(separator: ", "))")
        // A target that refuses everything alike reads nothing.
        precondition(outcomes.count > 3, "the mutants of \(target.name) have \(outcomes.count) outcomes only")
    }

    /// A count from outside that becomes a reservation fails here and not on a user's machine.
    private func capAddressSpace() {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8), let pages = Int(text.split(separator: " ")[0]) else { return }
        let bytes = rlim_t(pages * Int(getpagesize()) + Self.allowanceBytes)
        var limit = rlimit(rlim_cur: bytes, rlim_max: bytes)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }
}

/// A file in memory: what is written there outlives the process, without a call of the system for each input.
struct LastInput {
    private let bytes: UnsafeMutableRawPointer
    private static let room = 1 << 20

    init(path: String) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0, ftruncate(descriptor, off_t(Self.room)) == 0,
            let bytes = mmap(nil, Self.room, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), bytes != MAP_FAILED
        else { throw CocoaError(.fileWriteUnknown) }
        close(descriptor)
        self.bytes = bytes
    }

    func keep(_ input: [UInt8]) {
        let count = min(input.count, Self.room - 8)
        bytes.storeBytes(of: UInt64(count), as: UInt64.self)
        input.withUnsafeBytes { (bytes + 8).copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(bytes), byteCount: count) }
    }

    static func read(path: String) -> [UInt8]? {
        guard let data = FileManager.default.contents(atPath: path), data.count >= 8 else { return nil }
        let count = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        return [UInt8](data.dropFirst(8).prefix(count))
    }
}
