/// Finds the blocks of a known beginning: a tree of full blocks, each known by the block before it and its own tokens.
///
/// Tokens are compared, not only hashed: a collision would give a client another prompt's answer.
///
/// A block stays only as long as the one before it does; `BlockAllocator` sees to that, and so the id of the block before stands for the whole
/// chain up to it.
struct PrefixIndex: Sendable {
    private struct Place: Hashable {
        var parent: BlockID?
        /// Some models compute long prompts otherwise from their first token on: two trees that share nothing.
        var isLong: Bool
        var tokens: [TokenID]
    }

    /// Only ever asked by place.
    private var blocks: [Place: BlockID] = [:]
    /// By block: where it stands, `nil` for one that is not in the tree.
    private var places: [Place?]
    private var written: [Bool]

    init(total: Int) {
        places = [Place?](repeating: nil, count: total)
        written = [Bool](repeating: false, count: total)
    }

    func contains(_ block: BlockID) -> Bool { places[Int(block.value)] != nil }
    func isWritten(_ block: BlockID) -> Bool { written[Int(block.value)] }

    func match(_ tokens: [TokenID], most: Int, isLong: Bool) -> [BlockID] {
        var found: [BlockID] = []
        let size = Limits.positionsPerBlock
        while found.count < most, (found.count + 1) * size <= tokens.count {
            let place = Place(parent: found.last, isLong: isLong, tokens: Array(tokens[found.count * size..<(found.count + 1) * size]))
            guard let block = blocks[place] else { break }
            found.append(block)
        }
        return found
    }

    mutating func insert(_ block: BlockID, after parent: BlockID?, tokens: ArraySlice<TokenID>, isLong: Bool) -> Bool {
        precondition(tokens.count == Limits.positionsPerBlock, "only full blocks are shared")
        precondition(places[Int(block.value)] == nil, "a block stands in one place")
        let place = Place(parent: parent, isLong: isLong, tokens: Array(tokens))
        guard blocks[place] == nil else { return false }
        blocks[place] = block
        places[Int(block.value)] = place
        return true
    }

    mutating func markWritten(_ block: BlockID) {
        precondition(contains(block), "only blocks of the tree are marked")
        written[Int(block.value)] = true
    }

    /// What the block held is not there any more, and will be again.
    mutating func markUnwritten(_ block: BlockID) { written[Int(block.value)] = false }

    /// Does nothing for a block that is not in the tree.
    mutating func remove(_ block: BlockID) {
        guard let place = places[Int(block.value)] else { return }
        blocks[place] = nil
        places[Int(block.value)] = nil
        written[Int(block.value)] = false
    }
}
