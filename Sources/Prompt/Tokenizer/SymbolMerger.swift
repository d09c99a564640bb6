/// The merging at the heart of both kinds of BPE: again and again, of all neighbouring symbols that the table merges,
/// the pair of the lowest rank becomes one symbol, the leftmost of equals first.
///
/// Scratch memory of one encoding, reused from word to word. Words up to `scanSymbolsMax` symbols are scanned for the
/// lowest rank each time, which is fastest in practice; longer ones go through a heap over a linked list, so that a
/// word of n symbols costs n log n at worst, whatever it is.
struct SymbolMerger: ~Copyable {
    /// From this many symbols on the heap is faster than scanning (quadratic) even for words that merge little.
    static let scanSymbolsMax = 48

    /// The word: before `merge` its smallest symbols, after it what could not be merged further.
    private(set) var symbols: [Symbol] = []
    private var next: [UInt32] = []
    private var previous: [UInt32] = []
    private var heap = RankHeap()

    struct Symbol {
        /// Id in the merge table, or -1 for a symbol that merges with nothing.
        var id: Int32
        /// Rank of the merge with the symbol to the right; kept here because looking it up is the expensive part.
        var rank = MergeTable.noRank
        /// Where the symbol starts in the word, in bytes; it ends where the next one starts.
        var start: UInt32
    }

    mutating func removeAll() { symbols.removeAll(keepingCapacity: true) }

    mutating func append(id: Int32, start: Int) { symbols.append(Symbol(id: id, start: UInt32(start))) }

    mutating func merge(_ table: borrowing MergeTable) {
        guard symbols.count > 1 else { return }
        for index in 0..<(symbols.count - 1) {
            symbols[index].rank = table.find(symbols[index].id, symbols[index + 1].id).rank
        }
        if symbols.count <= Self.scanSymbolsMax {
            mergeByScanning(table)
        } else {
            mergeByHeap(table)
        }
    }

    private mutating func mergeByScanning(_ table: borrowing MergeTable) {
        symbols.withUnsafeMutableBufferPointer { symbols in
            var count = symbols.count
            while true {
                var best = 0
                var rank = MergeTable.noRank
                for index in 0..<(count - 1) where symbols[index].rank < rank {
                    best = index
                    rank = symbols[index].rank
                }
                guard rank != MergeTable.noRank else { break }

                symbols[best].id = table.find(symbols[best].id, symbols[best + 1].id).symbol
                count -= 1
                for index in (best + 1)..<max(best + 1, count) { symbols[index] = symbols[index + 1] }
                symbols[best].rank =
                    best + 1 < count ? table.find(symbols[best].id, symbols[best + 1].id).rank : MergeTable.noRank
                if best > 0 { symbols[best - 1].rank = table.find(symbols[best - 1].id, symbols[best].id).rank }
            }
            remaining = count
        }
        symbols.removeLast(symbols.count - remaining)
    }

    /// How many symbols `mergeByScanning` left; a property because a closure over the array cannot also shorten it.
    private var remaining = 0

    private mutating func mergeByHeap(_ table: borrowing MergeTable) {
        let none = UInt32.max
        let count = symbols.count
        next = (0..<UInt32(count)).map { $0 + 1 < count ? $0 + 1 : none }
        previous = (0..<UInt32(count)).map { $0 > 0 ? $0 - 1 : none }
        heap.removeAll()
        for (index, symbol) in symbols.enumerated() where symbol.rank != MergeTable.noRank {
            heap.push(rank: symbol.rank, position: UInt32(index))
        }
        while let entry = heap.pop() {
            let left = Int(entry.position)
            // A pair that has changed since has another rank by now, or none; if it has the same rank again, it is due.
            guard symbols[left].rank == entry.rank, next[left] != none else { continue }
            let right = Int(next[left])
            symbols[left].id = table.find(symbols[left].id, symbols[right].id).symbol
            symbols[right].rank = MergeTable.noRank
            next[left] = next[right]
            next[right] = none
            if next[left] != none { previous[Int(next[left])] = UInt32(left) }
            updateRank(at: left, table)
            if previous[left] != none { updateRank(at: Int(previous[left]), table) }
        }
        var kept = 0
        var index = UInt32(0)
        while index != none {
            symbols[kept] = symbols[Int(index)]
            kept += 1
            index = next[Int(index)]
        }
        symbols.removeLast(count - kept)
    }

    private mutating func updateRank(at left: Int, _ table: borrowing MergeTable) {
        let right = next[left]
        guard right != UInt32.max else {
            symbols[left].rank = MergeTable.noRank
            return
        }
        let rank = table.find(symbols[left].id, symbols[Int(right)].id).rank
        symbols[left].rank = rank
        if rank != MergeTable.noRank { heap.push(rank: rank, position: UInt32(left)) }
    }
}

/// A binary heap of pairs: lowest rank on top, leftmost of equals first.
struct RankHeap {
    /// rank << 32 | position.
    private var entries: [UInt64] = []

    mutating func removeAll() { entries.removeAll(keepingCapacity: true) }

    mutating func push(rank: UInt32, position: UInt32) {
        let entry = UInt64(rank) << 32 | UInt64(position)
        var index = entries.count
        entries.append(entry)
        while index > 0, entries[(index - 1) / 2] > entry {
            entries[index] = entries[(index - 1) / 2]
            index = (index - 1) / 2
        }
        entries[index] = entry
    }

    mutating func pop() -> (rank: UInt32, position: UInt32)? {
        guard let top = entries.first, let last = entries.popLast() else { return nil }
        if !entries.isEmpty {
            var index = 0
            while true {
                var child = 2 * index + 1
                guard child < entries.count else { break }
                if child + 1 < entries.count, entries[child + 1] < entries[child] { child += 1 }
                guard entries[child] < last else { break }
                entries[index] = entries[child]
                index = child
            }
            entries[index] = last
        }
        return (UInt32(top >> 32), UInt32(truncatingIfNeeded: top))
    }
}
