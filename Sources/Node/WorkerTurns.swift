import ClusterCore
import Glibc
import Logging
import Synchronization
import ZeroMQ

/// The worker's loop and whose turn it is to work in it: its socket thread's or its stage thread's. A step is computed and handed on by the thread
/// that received it then, and no other has to wake for it.
///
/// One of the two keeps watch: it sleeps at the sockets. A stage thread that has nothing to compute does, and the socket thread stands by. While
/// that computes, messages wait, but not for long: after `aloneMs` the socket thread takes the watch over, and has it until the stage thread has
/// nothing to compute again. So it does where the stage thread does not come back from its sleep.
///
/// libzmq lets sockets go from thread to thread over a full fence, which the lock is. Who keeps watch holds it but while it sleeps in poll(2), where
/// it touches descriptors and no socket. What the compiler can't prove is that nobody gets at the loop without the lock: only what begins with
/// `locked`, `trylock` or `lock` does.
final class WorkerTurns: @unchecked Sendable {
    /// How long the stage thread's present step may take to end after the machine has.
    static let stageEndMs = 1_000
    /// How long the last messages may take to leave after the machine has ended.
    static let flushMs = 50
    /// For so long the stage thread may compute with nobody at the sockets: more than a step of a small model, much less than any silence.
    static let aloneMs: Int64 = 10
    /// The stage thread comes back from its sleep at least so often, and the socket thread looks whether it did.
    static let watchMsMax: Int64 = 50
    static let standByMs = 75

    private enum Turn {
        case ended
        case standBy(since: UInt64)
        case watch(nanoseconds: Int64, since: UInt64)
    }

    /// Not Swift's, because whoever counts what the stage thread asks of the heap has to see from outside when its turns are.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    /// Posted by the stage thread and not handled yet. What is computed later may not come before them.
    let reportsWaiting = Atomic<Int>(0)
    private let inquiries: Inquiries<WorkerReport>
    /// Wakes the socket thread that stands by.
    private let alarm: Alarm
    /// Who keeps watch: the stage thread, or the socket thread. Changed under the lock.
    private let isStageWatching = Atomic<Bool>(false)
    // Under the lock.
    /// `nil` before it runs and after.
    private var loop: WorkerLoop?
    /// Since when the stage thread computes, with the watch or without.
    private var computingSince: Instant?
    /// When the alarm rings; past: it is not set. It may be set for a step before, and is set anew when it rings too early.
    private var alarmAt = Instant(nanoseconds: 0)
    /// Of the stage thread. One that came while the socket thread slept may have taken away what that was woken for.
    private var turnsTaken: UInt64 = 0
    /// What ended a watch of the stage thread; the socket thread ends of it.
    private var failure: (any Error)?
    /// Only the stage thread's, also without the lock.
    private var stagePoller = Poller()

    init(_ inquiries: Inquiries<WorkerReport>) throws {
        self.inquiries = inquiries
        alarm = try Alarm()
        lock = .allocate(capacity: 1)
        lock.initialize(to: pthread_mutex_t())
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    // MARK: - On the stage thread

    /// Hands a computed step on. False: the report has to be posted.
    func take(with report: StageThread.Report) -> Bool {
        guard case .computed = report, pthread_mutex_trylock(lock) == 0 else { return false }
        var passedOn: WorkerLoop.PassedOn?
        if reportsWaiting.load(ordering: .relaxed) == 0, loop?.takeTurn(with: report, isWatched: !hasStageWatch) == true {
            turnsTaken &+= 1
            passedOn = loop?.takePassedOn()
        }
        pthread_mutex_unlock(lock)
        guard let passedOn else { return false }
        passedOn.wake()
        // On a processor of one core libzmq's thread can send only when this one stops.
        if passedOn.hasStep { sched_yield() }
        // Who has it by now asks the sockets itself, before it sleeps or when it wakes.
        guard pthread_mutex_trylock(lock) == 0 else { return true }
        if !hasStageWatch { loop?.wakeSocketThreadIfNeeded() }
        pthread_mutex_unlock(lock)
        return true
    }

    /// Tells the first stage which token will probably be drawn; false where it can't be told now.
    func foretell(_ sequence: SequenceID, _ position: Int, _ token: TokenID) -> Bool {
        guard pthread_mutex_trylock(lock) == 0 else { return false }
        defer { pthread_mutex_unlock(lock) }
        return loop?.foretell(sequence, position, token) ?? false
    }

    /// Keeps watch until there is something to compute, where that can be. What it then has to compute, `stage` was told and woken for.
    func keepWatch(for stage: StageThread, _ holder: inout StageHolder) {
        if pthread_mutex_trylock(lock) != 0 {
            // A socket thread with the watch brings something to compute, or goes to sleep with it; one without only looks how things stand.
            guard hasStageWatch else { return }
            pthread_mutex_lock(lock)
        }
        defer { pthread_mutex_unlock(lock) }
        guard loop?.hasEnded == false, failure == nil, !stage.hasCommands else { return }
        if !hasStageWatch {
            isStageWatching.store(true, ordering: .relaxed)
            loop?.wakeSocketThread()
        }
        if computingSince != nil {
            computingSince = nil
            // For the next step, which then need not: it costs a dozen microseconds, for which nobody waits now.
            let now = MonotonicClock.now
            if alarmAt.nanoseconds(since: now) < UInt64(Self.aloneMs) * 500_000 { setAlarm(after: 0, since: now) }
        }
        do { try watchUntilCommand(of: stage, &holder) } catch { failure = error }
        // The machine has ended, or the sockets can't be watched.
        if hasStageWatch, computingSince == nil { giveWatchBack() }
    }

    /// With the lock.
    private func watchUntilCommand(of stage: StageThread, _ holder: inout StageHolder) throws {
        while hasStageWatch {
            turnsTaken &+= 1
            guard let sleep = try loop!.watch(&stagePoller) else { return }
            let rehearses = stage.expectsStep(at: MonotonicClock.now)
            pthread_mutex_unlock(lock)
            let longest = rehearses ? Rehearsal.intervalNanoseconds : Self.watchMsMax * 1_000_000
            let slept = Result { try sleepOrGoOn(nanoseconds: min(sleep, longest), &holder) }
            pthread_mutex_lock(lock)
            guard hasStageWatch, loop?.hasEnded == false else { return }
            guard let found = try slept.get() else { continue }
            if rehearses, found == 0 { loop!.rehearse() }
            _ = try stagePoller.take(found)
            try loop!.work(stagePoller, inquiries, reportsWaiting: reportsWaiting)
            let passedOn = loop!.takePassedOn()
            guard passedOn.commands > 0 else {
                if let foretold = loop!.takeForetold() { holder.begin(foretold) }
                continue
            }
            let now = MonotonicClock.now
            computingSince = now
            if alarmAt <= now { setAlarm(after: 0, since: now) }
            return passedOn.wake()
        }
    }

    /// Without the lock. What is foretold is computed as long as nothing comes.
    private func sleepOrGoOn(nanoseconds: Int64, _ holder: inout StageHolder) throws -> Int32? {
        while nanoseconds > 0, holder.goOn() {
            // On a processor of one core libzmq's thread can receive only when this one stops.
            sched_yield()
            if let found = try stagePoller.sleep(nanoseconds: 0), found > 0 { return found }
        }
        return try stagePoller.sleep(nanoseconds: nanoseconds)
    }

    /// With the lock.
    private func setAlarm(after nanoseconds: UInt64, since now: Instant) {
        let left = UInt64(Self.aloneMs) * 1_000_000 - nanoseconds
        alarm.set(afterNanoseconds: Int64(left))
        alarmAt = Instant(nanoseconds: now.nanoseconds &+ left)
    }

    /// With the lock.
    private func giveWatchBack() {
        isStageWatching.store(false, ordering: .relaxed)
        alarm.ring()
        alarmAt = Instant(nanoseconds: 0)
    }

    private var hasStageWatch: Bool { isStageWatching.load(ordering: .relaxed) }

    // MARK: - On the socket thread

    /// Until the machine has ended; throws what ended it.
    func run(_ made: consuming WorkerLoop, started: () -> Void) throws {
        pthread_mutex_lock(lock)
        loop = consume made
        pthread_mutex_unlock(lock)
        // It holds the stage thread, which holds this.
        defer { locked { loop = nil } }
        started()
        locked { loop!.begin() }
        var poller = Poller()
        turns: while true {
            switch try locked({ try nextTurn(&poller) }) {
            case .ended: break turns
            case .standBy(let since):
                let isTime = alarm.wait(milliseconds: Self.standByMs)
                locked { takeWatch(isTime: isTime, since: since) }
            case .watch(let nanoseconds, let since):
                let found = try poller.sleep(nanoseconds: nanoseconds)
                let passedOn: WorkerLoop.PassedOn? = try locked {
                    guard let found, turnsTaken == since else { return nil }
                    _ = try poller.take(found)
                    try loop!.work(poller, inquiries, reportsWaiting: reportsWaiting)
                    return loop!.takePassedOn()
                }
                guard let passedOn else { continue }
                passedOn.wake()
                // On a processor of one core the stage thread or libzmq's own can go on with it only when this thread stops, and before it sleeps
                // it has some dozens of microseconds to do that nobody waits for.
                if passedOn.hasStep { sched_yield() }
            }
        }
        // The last messages leave on libzmq's own thread.
        usleep(UInt32(Self.flushMs * 1000))
        let (stage, end, logger) = locked { loop!.ended() }
        if !stage.end(timeoutMs: Self.stageEndMs) { logger.warning("the stage thread is still in a step; ending without it") }
        try end!.get()
    }

    private func nextTurn(_ poller: inout Poller) throws -> Turn {
        if let failure { throw failure }
        if hasStageWatch { return .standBy(since: turnsTaken) }
        guard let sleep = try loop!.watch(&poller) else { return .ended }
        return .watch(nanoseconds: sleep, since: turnsTaken)
    }

    /// From a stage thread that computes for long, or does not come back from its sleep.
    private func takeWatch(isTime: Bool, since: UInt64) {
        guard hasStageWatch else { return }
        if isTime {
            guard let computingSince else { return }
            let now = MonotonicClock.now
            let alone = now.nanoseconds(since: computingSince)
            guard alone >= UInt64(Self.aloneMs) * 1_000_000 else { return setAlarm(after: alone, since: now) }
        } else if turnsTaken != since {
            return
        }
        isStageWatching.store(false, ordering: .relaxed)
    }

    private func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return try body()
    }
}
