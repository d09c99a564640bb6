/// Which rows of a tensor in a file make up another one: a fused tensor's part, one expert's matrix, or heads whose rows are wanted in
/// another order.
///
/// Rows come in groups: `groupRows` rows from row `groupOffset` of each `groupStride` rows of the file. Inside of a group they may be heads of
/// `headRows` rows whose two halves are interleaved: rows 2i and 2i+1 of a head are the file's i and i + headRows/2. That is how files for
/// engines that turn adjacent pairs differ from those for halves.
package struct RowOrder: Sendable, Equatable {
    /// The first row, as this order counts.
    var first = 0
    var groupRows: Int
    var groupStride: Int
    var groupOffset = 0
    /// nil where rows of a group stay in order.
    var headRows: Int?

    /// The row of the file.
    func source(of row: Int) -> Int {
        let (group, inside) = (first + row).quotientAndRemainder(dividingBy: groupRows)
        return group * groupStride + groupOffset + (headRows.map { RowOrder.interleaved(inside, $0) } ?? inside)
    }

    /// How many rows from this one on lie one after the other in the file.
    func run(at row: Int) -> Int { headRows == nil ? groupRows - (first + row) % groupRows : 1 }

    private static func interleaved(_ row: Int, _ headRows: Int) -> Int {
        let (head, inside) = row.quotientAndRemainder(dividingBy: headRows)
        return head * headRows + inside % 2 * (headRows / 2) + inside / 2
    }
}

extension Tensor {
    /// Whether its rows lie one after the other, so that `bytes` are theirs.
    package var isInOrder: Bool { order == nil && stack.isEmpty }

    /// Some of its rows as a matrix of their own.
    package func rows(_ range: Range<Int>, name: String) -> Tensor {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of '\(self.name)' with \(rows)")
        guard var order else {
            return Tensor(
                name: name, type: type, shape: [columns, range.count], part: part, fileOffset: fileOffset + range.lowerBound * rowBytes,
                storage: storage)
        }
        order.first += range.lowerBound
        return Tensor(name: name, type: type, shape: [columns, range.count], part: part, fileOffset: fileOffset, storage: storage, order: order)
    }

    /// Some elements of a vector. Its type must be a float's.
    func elements(_ range: Range<Int>, name: String) -> Tensor {
        precondition(shape.count == 1 && isInOrder && type.isFloat, "'\(self.name)' is no plain vector")
        return Tensor(
            name: name, type: type, shape: [range.count], part: part, fileOffset: fileOffset + range.lowerBound * type.blockBytes, storage: storage)
    }

    /// Rows of this one, in another order, as a tensor of `shape`. A vector's elements count as rows of one column.
    func ordered(_ order: RowOrder, shape: [Int], name: String) -> Tensor {
        precondition(isInOrder, "an order of an order")
        return Tensor(name: name, type: type, shape: shape, part: part, fileOffset: fileOffset, storage: storage, order: order)
    }
}
