import ClusterCore
import Glibc
import Logging
import Synchronization
import ZeroMQ

/// The worker's loop and whose turn it is to work in it: its socket thread's, or, while that sleeps, the stage thread's with what it has just
/// computed. A step is handed on by who computed it then, without a third thread that would first have to wake.
///
/// libzmq lets sockets go from thread to thread over a full fence, which the lock is. The socket thread holds it but while it sleeps in poll(2),
/// where it touches descriptors and no socket; the stage thread never waits for it. What the compiler can't prove is that nobody gets at the
/// loop without the lock: only `locked` and `take` do.
final class WorkerTurns: @unchecked Sendable {
    /// How long the stage thread's present step may take to end after the machine has.
    static let stageEndMs = 1_000
    /// How long the last messages may take to leave after the machine has ended.
    static let flushMs = 50

    /// Not Swift's, because whoever counts what the stage thread asks of the heap has to see from outside when its turns are.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    /// Posted by the stage thread and not handled yet. What is computed later may not come before them.
    let reportsWaiting = Atomic<Int>(0)
    /// `nil` before it runs and after.
    private var loop: WorkerLoop?
    /// Turns that the stage thread took. One that came while the socket thread slept may have taken away what that was woken for.
    private var turnsTaken: UInt64 = 0

    init() {
        lock = .allocate(capacity: 1)
        lock.initialize(to: pthread_mutex_t())
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    /// On the stage thread, which may not wait: hands a computed step on. False: the report has to be posted.
    func take(with report: StageThread.Report) -> Bool {
        guard case .computed = report, pthread_mutex_trylock(lock) == 0 else { return false }
        var passedOn: WorkerLoop.PassedOn?
        if reportsWaiting.load(ordering: .relaxed) == 0, loop?.takeTurn(with: report) == true {
            turnsTaken += 1
            passedOn = loop?.takePassedOn()
        }
        pthread_mutex_unlock(lock)
        guard let passedOn else { return false }
        passedOn.wake()
        // On a processor of one core libzmq's thread can send only when this one stops.
        if passedOn.hasStep { sched_yield() }
        // Who has it by now asks the sockets itself, before it sleeps or when it wakes.
        guard pthread_mutex_trylock(lock) == 0 else { return true }
        loop?.wakeSocketThreadIfNeeded()
        pthread_mutex_unlock(lock)
        return true
    }

    /// On the socket thread, until the machine has ended; throws what ended it.
    func run(_ made: consuming WorkerLoop, _ inquiries: Inquiries<WorkerReport>, started: () -> Void) throws {
        pthread_mutex_lock(lock)
        loop = consume made
        pthread_mutex_unlock(lock)
        // It holds the stage thread, which holds this.
        defer { locked { loop = nil } }
        started()
        locked { loop!.begin() }
        var poller = Poller()
        while true {
            let (sleep, turn) = try locked { (try loop!.watch(&poller), turnsTaken) }
            guard let sleep else { break }
            let found = try poller.sleep(nanoseconds: sleep)
            let passedOn: WorkerLoop.PassedOn? = try locked {
                guard let found, turnsTaken == turn else { return nil }
                _ = try poller.take(found)
                try loop!.work(poller, inquiries, reportsWaiting: reportsWaiting)
                return loop!.takePassedOn()
            }
            guard let passedOn else { continue }
            passedOn.wake()
            // On a processor of one core the stage thread or libzmq's own can go on with it only when this thread stops, and before it sleeps it
            // has some dozens of microseconds to do that nobody waits for.
            if passedOn.hasStep { sched_yield() }
        }
        // The last messages leave on libzmq's own thread.
        usleep(UInt32(Self.flushMs * 1000))
        let (stage, end, logger) = locked { loop!.ended() }
        if !stage.end(timeoutMs: Self.stageEndMs) { logger.warning("the stage thread is still in a step; ending without it") }
        try end!.get()
    }

    private func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return try body()
    }
}
