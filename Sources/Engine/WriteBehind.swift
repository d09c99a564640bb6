/// When a file that is written from its first byte to its last is brought to the disk: piece by piece, right behind the writing.
///
/// What waits in the system's cache to be written is everybody's matter. Where it is much, the system makes whoever writes wait, and the file
/// system has all changes of a folder wait for each other, be they a line of a log; a process that only wanted to say that it lives does
/// not say so meanwhile. A value: it says what is to be done, and its owner does it.
struct WriteBehind {
    /// Of these, one is filled while another is written: no file has more than two, and what is written at once, waiting for its disk.
    static let windowBytes = 8 << 20

    enum Call: Hashable {
        /// To be written now, and not waited for.
        case begin(Range<Int>)
        /// To be waited for.
        case finish(Range<Int>)
    }

    /// All before it is on the disk, or on its way there.
    private var begun = 0
    /// What is on its way.
    private var underWay = 0..<0

    /// The file is written up to here.
    mutating func wrote(upTo end: Int) -> [Call] {
        guard end - begun >= Self.windowBytes else { return [] }
        defer { (begun, underWay) = (end, begun..<end) }
        // In this order the disk always has something to do.
        return [.begin(begun..<end)] + (underWay.isEmpty ? [] : [.finish(underWay)])
    }
}
