import ClusterCore
import Testing

@testable import Node

@Suite struct ArrivalForecastTests {
    private func waits(_ microseconds: [UInt64], _ forecast: inout ArrivalForecast, from start: UInt64 = 1_000_000_000) -> UInt64 {
        var now = start
        for wait in microseconds {
            forecast.becameIdle(at: Instant(nanoseconds: now))
            now += wait * 1_000
            forecast.stepCame(at: Instant(nanoseconds: now))
            now += 2_000_000
        }
        forecast.becameIdle(at: Instant(nanoseconds: now))
        return now
    }

    @Test func evenWaitsOpenAWindowAroundTheNextStep() throws {
        var forecast = ArrivalForecast()
        #expect(forecast.window == nil)
        let idle = waits([UInt64](repeating: 2_500, count: ArrivalForecast.waitsMin), &forecast)
        let window = try #require(forecast.window)
        #expect(window.contains(Instant(nanoseconds: idle + 2_500_000)))
        #expect(window.lowerBound.nanoseconds == idle + 2_500_000 - ArrivalForecast.leadNanoseconds)
        #expect(window.upperBound.nanoseconds == idle + 2_500_000 + ArrivalForecast.trailNanoseconds)
        forecast.stepCame(at: window.lowerBound)
        #expect(forecast.window == nil, "a step is here")
    }

    @Test func fewUnevenOrLongWaitsOpenNone() {
        var few = ArrivalForecast()
        _ = waits([UInt64](repeating: 2_500, count: ArrivalForecast.waitsMin - 1), &few)
        #expect(few.window == nil)
        var uneven = ArrivalForecast()
        _ = waits((0..<40).map { $0 % 2 == 0 ? 1_000 : 3_000 }, &uneven)
        #expect(uneven.window == nil)
        var paused = ArrivalForecast()
        _ = waits([UInt64](repeating: 2_500, count: 20) + [60_000], &paused)
        #expect(paused.window == nil)
    }

    /// The window never begins before the stage was idle.
    @Test func shortWaitsAreLookedForAtOnce() throws {
        var forecast = ArrivalForecast()
        let idle = waits([UInt64](repeating: 100, count: 20), &forecast)
        #expect(try #require(forecast.window).lowerBound == Instant(nanoseconds: idle))
    }
}
