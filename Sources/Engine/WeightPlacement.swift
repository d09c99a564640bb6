import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where the pages of a slice's weights lie.
package enum WeightPlacement: Sendable {
    /// On machines with one memory node: kept weights are mapped, so that processes share them, and packed ones lie wherever
    /// the thread stood that packed them.
    case anywhere
    /// On machines with several, and for a pool of several: each page is first touched, and so placed, by the thread that will multiply it.
    /// Kept weights are copied for that: pages of a mapped file belong to the system's file cache and lie on the node of the thread that once
    /// read or wrote them, whoever maps them, and the system moves none. The cache's own pages can go when memory is short. Pays only for
    /// threads that stay on their nodes. Where a huge page spans two threads' parts, it lies with the first that touches it.
    case nearTheirThreads

    /// What suits this machine and the nodes that a pool stands on.
    package static func suiting(_ pool: ComputePool) -> WeightPlacement {
        pool.threadsOfNodes.count > 1 || memoryNodes > 1 ? .nearTheirThreads : .anywhere
    }

    /// Memory nodes with processors: folders /sys/devices/system/node/node0, node1, …
    private static var memoryNodes: Int {
        var count = 0
        while access("/sys/devices/system/node/node\(count)", F_OK) == 0 { count += 1 }
        return max(1, count)
    }

    /// The rows of a matrix, in whole row groups, that thread `thread` of `threads` multiplies when a product is shared out
    /// by weight bytes.
    static func rows(_ place: WeightLayout.MatrixPlace, thread: Int, threads: Int) -> Range<Int> {
        let group = Int(SK_ROW_GROUP)
        var matrix = sk_matrix(type: place.type, rows: Int32(place.rows), columns: Int32(place.columns), packed: nil)
        var (first, last): (Int32, Int32) = (0, 0)
        sk_matmul_share(&matrix, Int32(thread), Int32(threads), &first, &last)
        return Int(first) * group..<Int(last) * group
    }

    /// First touch: every page of `memory`, which nobody has written to, by the thread that will use its first byte.
    static func touch(_ layouts: [(layout: WeightLayout, base: UnsafeMutableRawPointer)], pool: ComputePool) {
        eachPage(layouts, pool: pool) { _, page in page.storeBytes(of: 0, as: UInt8.self) }
    }

    /// Calls `body` on each thread of the pool with the first byte of every page that begins in the part of a matrix that it multiplies.
    static func eachPage(
        _ layouts: [(layout: WeightLayout, base: UnsafeMutableRawPointer)], pool: ComputePool,
        _ body: (_ thread: Int, _ page: UnsafeMutableRawPointer) -> Void
    ) {
        pool.runEach { thread, threads in
            for (layout, base) in layouts {
                for source in layout.matrices {
                    let rows = rows(source.place, thread: thread, threads: threads)
                    guard !rows.isEmpty else { continue }
                    let end = base + source.place.offset(ofRow: rows.upperBound)
                    var address = (base + source.place.offset(ofRow: rows.lowerBound)).alignedUp(toMultipleOf: pageBytes)
                    while address < end {
                        body(thread, address)
                        address += pageBytes
                    }
                }
            }
        }
    }

    static let pageBytes = 4096
}
