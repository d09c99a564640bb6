import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The processors that this process may use: which of them share a core, and which memory lies beside them.
package struct ProcessorTopology: Hashable, Sendable {
    package struct Processor: Hashable, Sendable {
        package var number: Int32
        /// The lowest processor of the same core.
        package var core: Int32
        /// The memory (NUMA) node.
        package var node: Int32
    }

    /// Ascending by number.
    package let processors: [Processor]
    package var nodes: Int { Set(processors.map(\.node)).count }
    package var cores: Int { Set(processors.map(\.core)).count }

    package static let processorsMax = 1024

    /// This machine, as far as the calling thread may use it.
    package static func current() -> ProcessorTopology {
        var allowed = [Int32](repeating: 0, count: processorsMax)
        let count = Int(sk_processors_allowed(&allowed, Int32(processorsMax)))
        return ProcessorTopology(allowed: Array(allowed.prefix(count))) { systemFile("/sys/devices/system/" + $0) }
    }

    /// `read` gives the text of a file below /sys/devices/system, nil where there is none. What can't be read counts as a
    /// core of its own on node 0: placement is then worse, never wrong.
    init(allowed: [Int32], read: (_ path: String) -> String?) {
        var nodes: [Int32: Int32] = [:]
        for node in read("node/online").flatMap(Self.list) ?? [] {
            for processor in read("node/node\(node)/cpulist").flatMap(Self.list) ?? [] { nodes[processor] = node }
        }
        processors = allowed.sorted().map { number in
            let siblings = read("cpu/cpu\(number)/topology/thread_siblings_list").flatMap(Self.list) ?? []
            return Processor(number: number, core: siblings.min() ?? number, node: nodes[number] ?? 0)
        }
    }

    // MARK: Placing threads

    /// The order in which threads take processors: one on each core before a core gets its second, nodes in turn.
    private var takingOrder: [Processor] {
        struct Place {
            let processor: Processor
            /// How many processors of its core come before it.
            let rank: Int
            /// How many of its node and rank come before it.
            let turn: Int
            var order: (Int, Int, Int32) { (rank, turn, processor.node) }
        }
        var places: [Place] = []
        for processor in processors {
            let rank = places.count { $0.processor.core == processor.core }
            let turn = places.count { $0.rank == rank && $0.processor.node == processor.node }
            places.append(Place(processor: processor, rank: rank, turn: turn))
        }
        return places.sorted { $0.order < $1.order }.map(\.processor)
    }

    /// A processor for each of `threads` threads, nil where there are fewer. Threads of one node have consecutive numbers, so
    /// that each node holds, and computes, one contiguous part of every matrix.
    package func placement(threads: Int) -> [Int32]? {
        guard threads <= processors.count else { return nil }
        return takingOrder.prefix(threads).sorted { ($0.node, $0.number) < ($1.node, $1.number) }.map(\.number)
    }

    /// Those named, node by node: nodes in the order of their first, processors of one node in the order given. All together where a
    /// place is unknown: -1, or not in this topology.
    package func byNode(_ named: [Int32]) -> [[Int32]] {
        var nodes: [Int32] = []
        var parts: [[Int32]] = []
        for number in named {
            guard let node = processors.first(where: { $0.number == number })?.node else { return [named] }
            if let part = nodes.firstIndex(of: node) {
                parts[part].append(number)
            } else {
                nodes.append(node)
                parts.append([number])
            }
        }
        return parts
    }

    /// Processors for several processes of so many threads each that share this machine, no two on the same; nil where
    /// there are not enough.
    package func placements(processes: Int, threads: Int) -> [[Int32]]? {
        placement(threads: processes * threads).map { all in
            (0..<processes).map { Array(all[($0 * threads)..<(($0 + 1) * threads)]) }
        }
    }

    /// Where threads are pinned when nobody says: only when they fill what the process may use, its processors or its
    /// cores. With fewer, another process may have been given the rest, and both would choose the same.
    package func automaticPlacement(threads: Int) -> [Int32]? {
        threads == processors.count || threads == cores ? placement(threads: threads) : nil
    }

    // MARK: Lists of processors

    /// Numbers as Linux writes them, such as 0-3,8; nil for anything else.
    package static func list(_ text: String) -> [Int32]? {
        let trimmed = text.split(whereSeparator: \.isWhitespace)
        guard trimmed.count == 1 else { return nil }
        var numbers: [Int32] = []
        for part in trimmed[0].split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { UInt16($0) }
            guard let first = ends.first!, let last = ends.last!, first <= last, last < processorsMax else { return nil }
            numbers += (first...last).map { Int32($0) }
        }
        return numbers
    }
}

/// A small file of the system as text.
private func systemFile(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &bytes, bytes.count)
    return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
}
