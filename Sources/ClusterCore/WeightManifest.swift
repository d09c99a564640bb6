/// A SHA-256 of content.
package struct ContentDigest: Hashable, Comparable, Sendable, CustomStringConvertible {
    package static let byteCount = 32
    package let bytes: [UInt8]

    /// `nil` unless `bytes` holds exactly 32 bytes.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    package static func < (a: ContentDigest, b: ContentDigest) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }

    /// 64 hexadecimal digits.
    package var description: String { bytes.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined() }
}

/// What a model's bytes are, to the last one: whoever trusts a manifest can take the bytes from anybody.
///
/// A model is cut into extents (the header of each part, each tensor) and these into chunks, which are numbered through. The order is
/// that of `WeightExtent` in ModelFiles. Its own digest is the SHA-256 of its one encoding on the wire (`Wire`).
package struct WeightManifest: Hashable, Sendable {
    /// Bytes of a chunk; an extent's last one is shorter. Small enough that a lost one costs little and a few in flight are bounded
    /// memory, large enough that asking for one costs nothing beside sending it.
    package static let chunkBytes = 4 << 20

    package struct Extent: Hashable, Sendable {
        /// The tensor's name; empty for a header.
        package var name: String
        /// GGUF's number of the tensor's type; 0 for a header.
        package var type: Int
        /// Empty for a header.
        package var shape: [Int]
        package var part: Int
        package var offset: Int
        package var byteCount: Int
        /// SHA-256 over `chunkHashes`. (Over the bytes themselves a large tensor could not be hashed by several threads.)
        package var digest: ContentDigest
        /// SHA-256 of each chunk's bytes, 32 bytes each, end to end.
        package var chunkHashes: [UInt8]

        package init(
            name: String, type: Int, shape: [Int], part: Int, offset: Int, byteCount: Int, digest: ContentDigest, chunkHashes: [UInt8]
        ) {
            self.name = name
            self.type = type
            self.shape = shape
            self.part = part
            self.offset = offset
            self.byteCount = byteCount
            self.digest = digest
            self.chunkHashes = chunkHashes
        }

        package var isHeader: Bool { name.isEmpty }
        package var chunkCount: Int { (byteCount + WeightManifest.chunkBytes - 1) / WeightManifest.chunkBytes }
    }

    /// Of the headers, as everywhere in the cluster.
    package let modelDigest: ModelDigest
    /// Bytes of each part's file.
    package let partBytes: [Int]
    /// Of a Hugging Face folder, under which name each part lies in it; empty for GGUF files, whose names follow from their number.
    package let partNames: [String]
    package let extents: [Extent]
    /// For each extent the number of its first chunk; one more than the last at the end.
    private let firstChunks: [Int]

    /// `nil` unless extents lie inside their parts, in order and apart, each part begins with its one header, each chunk has a hash, and
    /// either no part has a name or each has one of its own that `isPartName`. Only a part with a name may be empty, as texts are.
    package init?(modelDigest: ModelDigest, partBytes: [Int], partNames: [String] = [], extents: [Extent]) {
        let bytesMin = partNames.isEmpty ? 1 : 0
        guard (1...Limits.modelPartsMax).contains(partBytes.count), extents.count <= Limits.tensorsMax + partBytes.count,
            partBytes.allSatisfy({ (bytesMin...Limits.partBytesMax).contains($0) }),
            partNames.isEmpty || partNames.count == partBytes.count, Set(partNames).count == partNames.count,
            partNames.allSatisfy(Self.isPartName)
        else { return nil }
        var firstChunks = [0]
        var part = -1
        var end = 0
        for extent in extents {
            if extent.isHeader { (part, end) = (part + 1, 0) }
            guard extent.part == part, part < partBytes.count, !extent.isHeader || extent.offset == 0 && extent.shape.isEmpty,
                extent.isHeader || !extent.shape.isEmpty, extent.offset >= end, extent.byteCount >= (extent.isHeader ? bytesMin : 1),
                extent.offset <= partBytes[part], extent.byteCount <= partBytes[part] - extent.offset,
                extent.chunkHashes.count == extent.chunkCount * ContentDigest.byteCount
            else { return nil }
            end = extent.offset + extent.byteCount
            firstChunks.append(firstChunks.last! + extent.chunkCount)
        }
        guard part == partBytes.count - 1, firstChunks.last! <= Limits.manifestChunksMax else { return nil }
        self.modelDigest = modelDigest
        self.partBytes = partBytes
        self.partNames = partNames
        self.extents = extents
        self.firstChunks = firstChunks
    }

    /// Whether a file of this name is a file of the folder that it is put into, and no other one: no path, nothing hidden, nothing that does
    /// not print.
    package static func isPartName(_ name: String) -> Bool {
        (1...Limits.partNameBytesMax).contains(name.utf8.count) && name.utf8.first != 0x2E
            && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != 0x2F && $0 != 0x5C }
    }

    package var chunkCount: Int { firstChunks.last! }

    /// Where a chunk's bytes lie.
    package struct Place: Hashable, Sendable {
        package var part: Int
        package var offset: Int
        package var byteCount: Int

        package init(part: Int, offset: Int, byteCount: Int) {
            self.part = part
            self.offset = offset
            self.byteCount = byteCount
        }
    }

    /// `index` in `0..<chunkCount`.
    package func place(of index: Int) -> Place {
        let extent = extents[extent(of: index)]
        let start = (index - firstChunks[self.extent(of: index)]) * Self.chunkBytes
        return Place(part: extent.part, offset: extent.offset + start, byteCount: min(Self.chunkBytes, extent.byteCount - start))
    }

    package func hash(of index: Int) -> ArraySlice<UInt8> {
        let number = extent(of: index)
        let start = (index - firstChunks[number]) * ContentDigest.byteCount
        return extents[number].chunkHashes[start..<start + ContentDigest.byteCount]
    }

    private func extent(of chunk: Int) -> Int {
        precondition((0..<chunkCount).contains(chunk), "chunk \(chunk) of \(chunkCount)")
        var (low, high) = (0, extents.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if firstChunks[middle] <= chunk { low = middle } else { high = middle }
        }
        return low
    }

    /// The chunks of the extents that `isWanted` takes, ascending.
    package func chunks(where isWanted: (Extent) -> Bool) -> [Int] {
        extents.indices.filter { isWanted(extents[$0]) }.flatMap { firstChunks[$0]..<firstChunks[$0 + 1] }
    }

    /// The chunks that a stage with these layers is made of, ascending: all headers, its layers' tensors, what stands outside of layers
    /// where the first or last stage needs it. A tied head is the embedding.
    package func chunks(ofLayers layers: Range<Int>, isFirst: Bool, isLast: Bool) -> [Int] {
        let hasHead = extents.contains { $0.use == .head }
        return chunks { extent in
            switch extent.use {
            case .everywhere: true
            case .layer(let layer): layers.contains(layer)
            case .embedding: isFirst || isLast && !hasHead
            case .head, .tail: isLast
            }
        }
    }
}

extension WeightManifest.Extent {
    /// Which stages hold it.
    enum Use: Equatable {
        case layer(Int)
        case embedding
        case head
        /// Beside the head.
        case tail
        /// Headers, and what else there is, such as RoPE's divisors.
        case everywhere
    }

    /// Told from the name: GGUF's "blk.12.ffn_up.weight", or "model.layers.12.mlp.up_proj.weight" in a folder.
    var use: Use {
        let words = name.split(separator: ".", maxSplits: 3)
        if words.count >= 3, words[0] == "blk", let layer = Int(words[1]) { return .layer(layer) }
        if words.count == 4, words[0] == "model", words[1] == "layers", let layer = Int(words[2]) { return .layer(layer) }
        return switch name {
        case "token_embd.weight", "model.embed_tokens.weight", "model.tok_embeddings.weight": .embedding
        // InternLM2's folders call it as GGUF does.
        case "output.weight", "lm_head.weight": .head
        case "output_norm.weight", "model.norm.weight", "lm_head.bias": .tail
        default: .everywhere
        }
    }
}

/// Some chunks of a model, as a bit each.
package struct ChunkSet: Hashable, Sendable {
    package let count: Int
    /// Chunk i is bit i % 8 of byte i / 8; bits behind the last chunk are zero.
    package private(set) var bytes: [UInt8]

    package init(count: Int, full: Bool = false) {
        precondition(count >= 0)
        self.count = count
        bytes = [UInt8](repeating: full ? 0xFF : 0, count: (count + 7) / 8)
        if full, count % 8 != 0 { bytes[bytes.count - 1] = 0xFF >> UInt8(8 - count % 8) }
    }

    /// `nil` unless `bytes` are exactly those of a set of `count`.
    package init?(count: Int, bytes: [UInt8]) {
        guard count >= 0, bytes.count == (count + 7) / 8 else { return nil }
        if count % 8 != 0, bytes.last! >> UInt8(count % 8) != 0 { return nil }
        self.count = count
        self.bytes = bytes
    }

    package func contains(_ index: Int) -> Bool { (0..<count).contains(index) && bytes[index / 8] >> UInt8(index % 8) & 1 == 1 }

    package mutating func insert(_ index: Int) {
        precondition((0..<count).contains(index), "chunk \(index) of \(count)")
        bytes[index / 8] |= 1 << UInt8(index % 8)
    }

    package mutating func remove(_ index: Int) {
        precondition((0..<count).contains(index), "chunk \(index) of \(count)")
        bytes[index / 8] &= ~(1 << UInt8(index % 8))
    }
}
