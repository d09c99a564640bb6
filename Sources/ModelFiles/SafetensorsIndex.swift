/// Which shard of a model holds which tensor: `model.safetensors.index.json`.
struct SafetensorsIndex {
    /// Shards by name, in the order of their names, which is that of the model's parts.
    let shards: [String]
    /// Tensor name → place in `shards`.
    let places: [String: Int]

    /// `value`: the file's JSON; `name` stands for the file. Throws `invalidValue`, `invalidFileName` or `limitExceeded`.
    init(_ value: JSONValue, name: String) throws(ModelFileError) {
        guard let map = value.object?["weight_map"]?.object, !map.members.isEmpty else {
            throw ModelFileError(.invalidValue, "\(name) has no 'weight_map' with the tensors' files. The file is damaged; fetch it again.")
        }
        guard map.members.count <= ModelFileLimits.tensorsMax else {
            throw ModelFileError(.limitExceeded, "\(name) lists \(map.members.count) tensors, more than the \(ModelFileLimits.tensorsMax) that are allowed.")
        }
        var files: [String] = []
        for member in map.members {
            guard let file = member.value.string else {
                throw ModelFileError(.invalidValue, "\(name): the file of the tensor '\(member.key)' should be a name, but is \(member.value.kind). Fetch it again.")
            }
            try Self.check(file, name)
            files.append(file)
        }
        shards = Set(files).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        guard shards.count <= ModelFileLimits.partsMax else {
            throw ModelFileError(.limitExceeded, "\(name) names \(shards.count) files, more than the \(ModelFileLimits.partsMax) that are allowed.")
        }
        let numbers = Dictionary(uniqueKeysWithValues: shards.enumerated().map { ($1, $0) })
        var places: [String: Int] = [:]
        for (member, file) in zip(map.members, files) where places.updateValue(numbers[file]!, forKey: member.key) != nil {
            throw ModelFileError(.duplicateTensor, "\(name): the tensor '\(member.key)' appears twice. Fetch it again.")
        }
        self.places = places
    }

    /// A shard is a file of the folder: whatever an index says, nothing outside of it is opened.
    private static func check(_ file: String, _ name: String) throws(ModelFileError) {
        let bytes = file.utf8
        guard bytes.count <= ModelFileLimits.fileNameBytesMax, file.hasSuffix(".safetensors"), bytes.first != UInt8(ascii: "."),
            !bytes.contains(UInt8(ascii: "/")), !bytes.contains(UInt8(ascii: "\\")), bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
        else {
            throw ModelFileError(
                .invalidFileName, "\(name) names the file '\(file.prefix(100))'; only .safetensors files of the same folder are opened. The folder is damaged or hostile; fetch it again.")
        }
    }

    /// That each shard holds the tensors that the index gives it, and no others. `firstPart`: the first shard's number among the model's parts.
    func check(_ tensors: [Tensor], firstPart: Int, name: String) throws(ModelFileError) {
        var found: Set<String> = []
        for tensor in tensors {
            let shard = tensor.part - firstPart
            guard places[tensor.name] == shard else {
                throw ModelFileError(
                    .contradiction,
                    "\(shards[shard]) holds the tensor '\(tensor.name)', which \(name) \(places[tensor.name].map { "expects in \(shards[$0])" } ?? "does not list"). The folder is a mixture; fetch it again."
                )
            }
            guard found.insert(tensor.name).inserted else {
                throw ModelFileError(.duplicateTensor, "\(name): the tensor '\(tensor.name)' appears twice. The folder is damaged; fetch it again.")
            }
        }
        guard found.count == places.count else {
            let lost = places.keys.filter { !found.contains($0) }.min()!
            throw ModelFileError(
                .missingTensor, "\(name) expects the tensor '\(lost)' in \(shards[places[lost]!]), which does not hold it. The folder is incomplete; fetch it again.")
        }
    }
}
