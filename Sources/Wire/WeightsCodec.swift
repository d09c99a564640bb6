import CWire
import ClusterCore

// What goes between a worker that fetches weights, the coordinator and those who have them; and the manifest, which is a file too.

extension WireCodec {
    package static func encode(_ request: WeightsRequest) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.weightsRequest(request), .weightsRequest, arena)
    }

    package static func encode(_ reply: WeightsReply) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.weightsReply(reply), .weightsReply, arena)
    }

    package static func decodeWeightsRequest(_ frame: UnsafeRawBufferPointer) throws(WireError) -> WeightsRequest {
        let body = try FrameHeader.body(of: frame, .weightsRequest)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__weights_request__unpack, Unpack.weightsRequest)
    }

    package static func decodeWeightsReply(_ frame: UnsafeRawBufferPointer) throws(WireError) -> WeightsReply {
        let body = try FrameHeader.body(of: frame, .weightsReply)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__weights_reply__unpack, Unpack.weightsReply)
    }

    /// The one encoding of a manifest, whose SHA-256 is the manifest's digest.
    package static func encode(_ manifest: WeightManifest) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.weightManifest(manifest), .weightManifest, arena)
    }

    /// Refuses whatever is not the encoding of a manifest to the last bit. That each extent's digest is the hash of its chunks' hashes is for
    /// those to check who can hash.
    package static func decodeWeightManifest(_ frame: UnsafeRawBufferPointer) throws(WireError) -> WeightManifest {
        guard frame.count <= Limits.manifestBytesMax else {
            throw WireError(.tooLarge, "a manifest of \(frame.count) bytes came in, at most \(Limits.manifestBytesMax) are read")
        }
        let body = try FrameHeader.body(of: frame, .weightManifest)
        var budget = UnpackBudget(frameBytes: frame.count)
        let manifest = try budget.withUnpacked(body, staffel__v1__weight_manifest__unpack, Unpack.weightManifest)
        guard frame.elementsEqual(encode(manifest)) else {
            throw WireError(.malformed, "a manifest is not written as manifests are; it was damaged or forged")
        }
        return manifest
    }
}

extension PackArena {
    func weightsQuery(_ model: ModelDigest) -> UnsafeMutablePointer<Staffel__V1__WeightsQuery> {
        make(staffel__v1__weights_query__init) { m in (m.has_model_digest, m.model_digest) = (1, data(model.bytes)) }
    }

    func weightsOffer(_ value: WeightsOffer) -> UnsafeMutablePointer<Staffel__V1__WeightsOffer> {
        make(staffel__v1__weights_offer__init) { m in
            (m.has_model_digest, m.model_digest) = (1, data(value.modelDigest.bytes))
            if let manifest = value.manifest { (m.has_manifest_digest, m.manifest_digest) = (1, data(manifest.bytes)) }
            (m.has_hashed_bytes, m.hashed_bytes) = (1, value.hashedBytes)
            (m.has_total_bytes, m.total_bytes) = (1, value.totalBytes)
            (m.n_sources, m.sources) = (value.sources.count, table(value.sources, stagePeer))
        }
    }

    func weightsFetchers(_ keys: [PeerKey]) -> UnsafeMutablePointer<Staffel__V1__WeightsFetchers> {
        make(staffel__v1__weights_fetchers__init) { m in (m.n_keys, m.keys) = (keys.count, copy(keys.map { data($0.bytes) })) }
    }

    func weightsRequest(_ value: WeightsRequest) -> UnsafeMutablePointer<Staffel__V1__WeightsRequest> {
        make(staffel__v1__weights_request__init) { m in
            m.has_model_digest = 1
            switch value {
            case .manifest(let model):
                m.model_digest = data(model.bytes)
                (m.kind_case, m.manifest) = (STAFFEL__V1__WEIGHTS_REQUEST__KIND_MANIFEST, make(staffel__v1__empty__init))
            case .held(let model):
                m.model_digest = data(model.bytes)
                (m.kind_case, m.held) = (STAFFEL__V1__WEIGHTS_REQUEST__KIND_HELD, make(staffel__v1__empty__init))
            case .chunk(let model, let index):
                m.model_digest = data(model.bytes)
                (m.kind_case, m.chunk) = (STAFFEL__V1__WEIGHTS_REQUEST__KIND_CHUNK, UInt32(index))
            }
        }
    }

    func weightsReply(_ value: WeightsReply) -> UnsafeMutablePointer<Staffel__V1__WeightsReply> {
        make(staffel__v1__weights_reply__init) { m in
            switch value {
            case .manifest(let model):
                (m.has_model_digest, m.model_digest) = (1, data(model.bytes))
                (m.kind_case, m.manifest) = (STAFFEL__V1__WEIGHTS_REPLY__KIND_MANIFEST, make(staffel__v1__empty__init))
            case .held(let model, let count):
                (m.has_model_digest, m.model_digest) = (1, data(model.bytes))
                (m.kind_case, m.held) = (STAFFEL__V1__WEIGHTS_REPLY__KIND_HELD, UInt32(count))
            case .chunk(let model, let index):
                (m.has_model_digest, m.model_digest) = (1, data(model.bytes))
                (m.kind_case, m.chunk) = (STAFFEL__V1__WEIGHTS_REPLY__KIND_CHUNK, UInt32(index))
            case .missing(let request):
                (m.kind_case, m.missing) = (STAFFEL__V1__WEIGHTS_REPLY__KIND_MISSING, weightsRequest(request))
            }
        }
    }

    func weightManifest(_ value: WeightManifest) -> UnsafeMutablePointer<Staffel__V1__WeightManifest> {
        make(staffel__v1__weight_manifest__init) { m in
            (m.has_model_digest, m.model_digest) = (1, data(value.modelDigest.bytes))
            (m.has_chunk_bytes, m.chunk_bytes) = (1, UInt32(WeightManifest.chunkBytes))
            (m.n_part_bytes, m.part_bytes) = (value.partBytes.count, copy(value.partBytes.map(UInt64.init)))
            (m.n_extents, m.extents) = (value.extents.count, table(value.extents, weightExtent))
            (m.n_part_names, m.part_names) = (value.partNames.count, copy(value.partNames.map { data(Array($0.utf8)) }))
        }
    }

    private func weightExtent(_ value: WeightManifest.Extent) -> UnsafeMutablePointer<Staffel__V1__WeightExtent> {
        make(staffel__v1__weight_extent__init) { m in
            if !value.isHeader {
                (m.has_name, m.name) = (1, data(Array(value.name.utf8)))
                (m.has_type, m.type) = (1, UInt32(value.type))
            }
            (m.n_shape, m.shape) = (value.shape.count, copy(value.shape.map(UInt64.init)))
            (m.has_part, m.part) = (1, UInt32(value.part))
            (m.has_offset, m.offset) = (1, UInt64(value.offset))
            (m.has_byte_count, m.byte_count) = (1, UInt64(value.byteCount))
            (m.has_sha256, m.sha256) = (1, data(value.digest.bytes))
            (m.has_chunk_hashes, m.chunk_hashes) = (1, data(value.chunkHashes))
        }
    }
}

extension Unpack {
    static func weightsQuery(_ p: UnsafePointer<Staffel__V1__WeightsQuery>) throws(WireError) -> ModelDigest {
        try Fields("WeightsQuery").digest(p.pointee.has_model_digest, p.pointee.model_digest, "model_digest")
    }

    static func weightsOffer(_ p: UnsafePointer<Staffel__V1__WeightsOffer>) throws(WireError) -> WeightsOffer {
        let f = Fields("WeightsOffer")
        let m = p.pointee
        var manifest: ContentDigest?
        if m.has_manifest_digest != 0 { manifest = try f.contentDigest(m.has_manifest_digest, m.manifest_digest, "manifest_digest") }
        let total = try f.counter(m.has_total_bytes, m.total_bytes, "total_bytes", atMost: WireLimits.bytesMax)
        // All workers and the coordinator.
        let sources = try f.list(m.n_sources, m.sources, "sources", atMost: Limits.workersMax + 1, stagePeer)
        try f.requireDistinct(sources.map(\.key), "sources")
        return WeightsOffer(
            modelDigest: try f.digest(m.has_model_digest, m.model_digest, "model_digest"), manifest: manifest,
            hashedBytes: try f.counter(m.has_hashed_bytes, m.hashed_bytes, "hashed_bytes", atMost: total), totalBytes: total, sources: sources)
    }

    static func weightsFetchers(_ p: UnsafePointer<Staffel__V1__WeightsFetchers>) throws(WireError) -> [PeerKey] {
        let f = Fields("WeightsFetchers")
        let m = p.pointee
        try f.require(m.n_keys <= Limits.workersMax, "keys", "has \(m.n_keys) entries, allowed are \(Limits.workersMax)")
        var keys: [PeerKey] = []
        for index in 0..<m.n_keys { keys.append(try f.key(1, m.keys[index], "keys")) }
        try f.requireAscending(keys, "keys")
        return keys
    }

    static func weightsRequest(_ p: UnsafePointer<Staffel__V1__WeightsRequest>) throws(WireError) -> WeightsRequest {
        let f = Fields("WeightsRequest")
        let m = p.pointee
        let model = try f.digest(m.has_model_digest, m.model_digest, "model_digest")
        switch m.kind_case {
        case STAFFEL__V1__WEIGHTS_REQUEST__KIND_MANIFEST: return .manifest(model)
        case STAFFEL__V1__WEIGHTS_REQUEST__KIND_HELD: return .held(model)
        case STAFFEL__V1__WEIGHTS_REQUEST__KIND_CHUNK: return .chunk(model, try chunk(m.chunk, f))
        default: throw WireError(.unknownMessage, "a request for weights is of a kind that this release does not know")
        }
    }

    static func weightsReply(_ p: UnsafePointer<Staffel__V1__WeightsReply>) throws(WireError) -> WeightsReply {
        let f = Fields("WeightsReply")
        let m = p.pointee
        if m.kind_case == STAFFEL__V1__WEIGHTS_REPLY__KIND_MISSING { return .missing(try weightsRequest(f.submessage(m.missing, "missing"))) }
        let model = try f.digest(m.has_model_digest, m.model_digest, "model_digest")
        switch m.kind_case {
        case STAFFEL__V1__WEIGHTS_REPLY__KIND_MANIFEST: return .manifest(model)
        case STAFFEL__V1__WEIGHTS_REPLY__KIND_HELD: return .held(model, count: try f.integer(1, m.held, "held", 0...Limits.manifestChunksMax))
        case STAFFEL__V1__WEIGHTS_REPLY__KIND_CHUNK: return .chunk(model, try chunk(m.chunk, f))
        default: throw WireError(.unknownMessage, "a reply about weights is of a kind that this release does not know")
        }
    }

    private static func chunk(_ value: UInt32, _ f: Fields) throws(WireError) -> Int {
        try f.integer(1, value, "chunk", 0...Limits.manifestChunksMax - 1)
    }

    static func weightManifest(_ p: UnsafePointer<Staffel__V1__WeightManifest>) throws(WireError) -> WeightManifest {
        let f = Fields("WeightManifest")
        let m = p.pointee
        _ = try f.integer(m.has_chunk_bytes, m.chunk_bytes, "chunk_bytes", WeightManifest.chunkBytes...WeightManifest.chunkBytes)
        try f.require(m.n_part_bytes <= Limits.modelPartsMax, "part_bytes", "has \(m.n_part_bytes) entries, allowed are \(Limits.modelPartsMax)")
        var parts: [Int] = []
        for index in 0..<m.n_part_bytes { parts.append(try bytes(1, m.part_bytes[index], "part_bytes", f)) }
        let extents = try f.list(m.n_extents, m.extents, "extents", atMost: Limits.tensorsMax + Limits.modelPartsMax, weightExtent)
        let model = try f.digest(m.has_model_digest, m.model_digest, "model_digest")
        let names = try partNames(m, parts.count, f)
        guard let manifest = WeightManifest(modelDigest: model, partBytes: parts, partNames: names, extents: extents) else {
            throw f.invalid("extents", "do not lie in their parts in order, or lack hashes")
        }
        return manifest
    }

    /// A name becomes a file's, so it is looked at before anything is made of it.
    private static func partNames(_ m: Staffel__V1__WeightManifest, _ parts: Int, _ f: Fields) throws(WireError) -> [String] {
        try f.require(m.n_part_names == 0 || m.n_part_names == parts, "part_names", "has \(m.n_part_names) entries for \(parts) parts")
        var names: [String] = []
        for index in 0..<m.n_part_names {
            let name = try f.text(1, m.part_names[index], "part_names", .path, bytesMax: Limits.partNameBytesMax)
            try f.require(WeightManifest.isPartName(name), "part_names", "has a name that is no file's of one folder")
            names.append(name)
        }
        try f.requireDistinct(names, "part_names")
        return names
    }

    private static func weightExtent(_ p: UnsafePointer<Staffel__V1__WeightExtent>) throws(WireError) -> WeightManifest.Extent {
        let f = Fields("WeightExtent")
        let m = p.pointee
        var name = ""
        var type = 0
        if m.has_name != 0 {
            name = try f.text(m.has_name, m.name, "name", .path, bytesMax: Limits.nameBytesMax)
            try f.require(!name.isEmpty, "name", "is empty")
            type = try f.integer(m.has_type, m.type, "type", 0...Int(Int32.max))
        }
        try f.require(m.n_shape <= Limits.dimensionsMax, "shape", "has \(m.n_shape) entries, allowed are \(Limits.dimensionsMax)")
        var shape: [Int] = []
        for index in 0..<m.n_shape { shape.append(try bytes(1, m.shape[index], "shape", f)) }
        let hashes = try f.present(m.has_chunk_hashes, m.chunk_hashes, "chunk_hashes")
        return WeightManifest.Extent(
            name: name, type: type, shape: shape, part: try f.integer(m.has_part, m.part, "part", 0...Limits.modelPartsMax - 1),
            offset: try bytes(m.has_offset, m.offset, "offset", f), byteCount: try bytes(m.has_byte_count, m.byte_count, "byte_count", f),
            digest: try f.contentDigest(m.has_sha256, m.sha256, "sha256"),
            chunkHashes: Array(UnsafeBufferPointer(start: hashes.data, count: hashes.len)))
    }

    private static func bytes(_ has: protobuf_c_boolean, _ value: UInt64, _ field: StaticString, _ f: Fields) throws(WireError) -> Int {
        Int(try f.counter(has, value, field, atMost: UInt64(Limits.partBytesMax)))
    }
}

extension Fields {
    func contentDigest(_ has: protobuf_c_boolean, _ value: ProtobufCBinaryData, _ field: StaticString) throws(WireError) -> ContentDigest {
        let data = try present(has, value, field)
        guard let digest = ContentDigest(bytes: UnsafeBufferPointer(start: data.data, count: data.len)) else {
            throw invalid(field, "has \(data.len) bytes, a digest has \(ContentDigest.byteCount)")
        }
        return digest
    }
}
