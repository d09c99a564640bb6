#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif
import Prompt

/// The time of day, for answers' `created` and templates' dates; durations come from the monotonic clock.
enum WallClock {
    static var secondsSinceEpoch: Int {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int(now.tv_sec)
    }

    static var templateClock: TemplateClock { templateClock(at: secondsSinceEpoch) }

    /// The host's local time, as `strftime_now` of the reference tells it.
    static func templateClock(at secondsSinceEpoch: Int) -> TemplateClock {
        var seconds = time_t(secondsSinceEpoch)
        var local = tm()
        localtime_r(&seconds, &local)
        return TemplateClock(secondsSinceEpoch: Int(seconds), utcOffsetSeconds: Int(local.tm_gmtoff))
    }
}
