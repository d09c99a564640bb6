import Testing

@testable import Engine

/// What a writer leaves in the system's cache stays within two windows and what it writes at once.
@Suite struct WriteBehindTests {
    private static let window = WriteBehind.windowBytes

    @Test func thePieceBeforeIsWaitedForWhileTheNextIsWritten() {
        var behind = WriteBehind()
        let half = Self.window / 2
        #expect(behind.wrote(upTo: half) == [])
        #expect(behind.wrote(upTo: 2 * half) == [.begin(0..<2 * half)])
        #expect(behind.wrote(upTo: 3 * half) == [])
        #expect(behind.wrote(upTo: 4 * half) == [.begin(2 * half..<4 * half), .finish(0..<2 * half)])
        #expect(behind.wrote(upTo: 7 * half) == [.begin(4 * half..<7 * half), .finish(2 * half..<4 * half)])
    }

    @Test(arguments: [1 << 10, 1 << 20, 2 << 20, 3 << 20, 20 << 20]) func unwrittenBytesAreBounded(step: Int) {
        var behind = WriteBehind()
        var begun = 0
        var finished = 0
        for end in stride(from: step, through: 200 << 20, by: step) {
            for call in behind.wrote(upTo: end) {
                switch call {
                case .begin(let range):
                    #expect(range.lowerBound == begun && range.upperBound == end, "nothing is left out, nothing written twice")
                    begun = range.upperBound
                case .finish(let range):
                    #expect(range.lowerBound == finished && range.upperBound < begun)
                    finished = range.upperBound
                }
            }
            #expect(end - finished < 2 * (Self.window + step), "at \(end)")
        }
        #expect(finished > 0)
    }
}
