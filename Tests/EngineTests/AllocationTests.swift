#if canImport(AllocationCounter)
    import AllocationCounter
    import ModelFiles
    import Testing

    @testable import Engine

    /// A step of a steady decode asks nothing of the heap: what it needs was made before.
    @Suite(.serialized) struct AllocationTests {
        private func decode(sequences: Int, position: Int) -> StageBatch {
            let token = Int32(position % 173)
            let segments = (0..<sequences).map { number in
                BatchSegment(sequence: UInt64(number), start: position, tokens: [token], newBlocks: [], samples: true)
            }
            return StageBatch(segments: segments)
        }

        /// Allocations of the calling thread in each of some steps, after some that nobody counts.
        private func allocations(sequences: Int, threads: Int, sampling: SamplingSettings, type: TensorType) throws -> [Int64] {
            let tiny = try TinyModel(type)
            let stage = try #require(Pipeline(tiny, threads: threads).stages.first)
            // Tables of 16 blocks and tokens up to the next power of two are room for what follows.
            let prompt = tiny.tokens(300, seed: 60)
            let ids = (0..<sequences).map { UInt64($0) }
            var first = StageBatch(segments: [])
            var second = StageBatch(segments: [])
            for id in ids {
                let blocks = Array(Int32(id * 16)..<Int32(id * 16 + 16))
                first.opens.append(SequenceOpening(sequence: id, tokens: prompt, promptLength: 300, sampling: sampling))
                first.segments.append(BatchSegment(sequence: id, start: 0, tokens: Array(prompt[..<150]), newBlocks: blocks, samples: false))
                second.segments.append(BatchSegment(sequence: id, start: 150, tokens: Array(prompt[150...]), newBlocks: [], samples: true))
            }
            _ = try stage.run(first)
            _ = try stage.run(second)
            return try (300..<340).map { position in
                let batch = decode(sequences: sequences, position: position)
                let before = allocations_of_this_thread()
                let result = try stage.run(batch)
                let after = allocations_of_this_thread()
                #expect(result.samples.count == sequences)
                return after - before
            }
        }

        /// Optimised, nothing at all. Unoptimised code boxes what it hands to the library's generic functions: then it is nearly always the
        /// same number, so nothing grows. Not always: two tokens whose hashes collide, by this process's seed, are compared, and that boxes too.
        private func expectNone(_ counts: [Int64], _ what: String) {
            #if DEBUG
                let usual = counts.sorted()[counts.count / 2]
                #expect(counts.allSatisfy { abs($0 - usual) <= 16 } && counts.count { $0 != usual } <= counts.count / 4, "\(what): \(counts)")
            #else
                #expect(counts.allSatisfy { $0 == 0 }, "\(what): \(counts)")
            #endif
        }

        @Test func theCounterCounts() {
            let before = allocations_of_this_thread()
            let all = allocations_of_all_threads()
            let array = Array(repeating: 7, count: before > 1 << 40 ? 1 : 1000)
            #expect(array.count == 1000 && allocations_of_this_thread() > before && allocations_of_all_threads() > all)
        }

        @Test(arguments: [TensorType.q4_0, .f32], [1, 3])
        func aDecodeStepAllocatesNothing(type: TensorType, threads: Int) throws {
            for sequences in [1, 4] {
                let counts = try allocations(sequences: sequences, threads: threads, sampling: .greedy, type: type)
                expectNone(Array(counts.dropFirst(4)), "\(sequences) sequences")
            }
        }

        @Test func norDoesAStepThatDraws() throws {
            let counts = try allocations(
                sequences: 2, threads: 2, sampling: SamplingSettings(temperature: 0.8, topP: 0.9, seed: 5), type: .q8_0)
            expectNone(Array(counts.dropFirst(4)), "drawing")
        }
    }
#endif
