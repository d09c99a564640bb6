import Testing

@testable import ZeroMQ

@Suite struct AlarmTests {
    @Test func ringsOnceAtItsMomentOrAtOnce() throws {
        let alarm = try Alarm()
        #expect(!alarm.wait(milliseconds: 0), "nobody has set it")
        alarm.set(afterNanoseconds: 1_000_000)
        #expect(alarm.wait(milliseconds: Server.patienceMs))
        #expect(!alarm.wait(milliseconds: 0), "it rings once")
        alarm.ring()
        #expect(alarm.wait(milliseconds: Server.patienceMs))
        alarm.ring()
        alarm.set(afterNanoseconds: .max)
        #expect(!alarm.wait(milliseconds: 1), "what is set last holds")
    }
}
