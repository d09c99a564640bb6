/// Models of which only the header is there: what they are called, how large each tensor is and of which type. Enough to plan with, without the
/// weights having been fetched or made.
///
/// Tensors' bytes read as zeros, RoPE's divisors as ones; nothing should compute with them.
extension GGUFFile {
    /// The model whose header stands at the front of the file at `path`; what is behind it is not looked at, and may be missing.
    package static func outline(path: String) throws(ModelFileError) -> GGUFFile {
        let file = try FileBytes(mapping: path)
        return try outline(header: file.bytes, name: path)
    }

    /// What `file` would be in other formats.
    package static func outline(of file: any ModelSource, as recipe: ConversionRecipe) throws(ModelFileError) -> GGUFFile {
        var writer = GGUFWriter(metadata: ModelConversion.metadata(file, recipe, nil, weighted: 0))
        for tensor in file.tensors {
            writer.add(tensor.name, type: recipe.type(of: tensor, in: file), shape: tensor.shape) { (_) throws(ModelFileError) in
                preconditionFailure("an outline has no bytes")
            }
        }
        let header = try writer.headerBytes()
        let copy = FileBytes(copying: header, name: file.paths.first ?? "model.gguf")
        defer { withExtendedLifetime(copy) {} }
        return try outline(header: copy.bytes, name: copy.name)
    }

    /// What a folder with this config.json would be as a file: weights in `type`, norms and biases in F32. Throws as `HFModel.init` does.
    package static func outline(config: JSONObject, name: String, path: String, type: TensorType) throws(ModelFileError) -> GGUFFile {
        let members = HFMembers(object: config, file: path)
        let model = try HFConfigurationReader(config: members, name: name, tensors: ModelConfiguration.TensorFacts()).read()
        // As in a folder, whose tensors bound it; a layer's name alone takes more than a byte of a header.
        guard model.layers * (model.experts == nil ? 12 : 10) <= ModelFileLimits.tensorsMax else {
            throw ModelFileError(.limitExceeded, "\(path) speaks of \(model.layers) layers, more than any model has. The file is damaged; fetch it again.")
        }
        var writer = GGUFWriter()
        try model.write(to: &writer.metadata)
        let unread: GGUFWriter.Producer = { (_) throws(ModelFileError) in preconditionFailure("an outline has no bytes") }
        let layers = (0..<model.layers).flatMap { ModelTensors.wanted(layer: $0, model) }
        for wanted in ModelTensors.wantedOutsideLayers(model) + layers {
            writer.add(wanted.name, type: wanted.isVector ? .f32 : type, shape: wanted.shape, produce: unread)
        }
        for (name, floats) in model.ropeTensors { writer.add(name, type: .f32, shape: [floats.count], produce: unread) }
        let copy = FileBytes(copying: try writer.headerBytes(), name: path)
        defer { withExtendedLifetime(copy) {} }
        return try outline(header: copy.bytes, name: path)
    }

    private static func outline(header: UnsafeRawBufferPointer, name: String) throws(ModelFileError) -> GGUFFile {
        var reader = ByteReader(bytes: header, name: name)
        let head = try GGUFHeaderReader.readHead(&reader)
        let metadata = try GGUFHeaderReader.readMetadata(&reader, count: head.metadataCount)
        let tensors = try GGUFHeaderReader.readTensors(&reader, count: head.tensorCount)
        let alignment = try GGUFPart.alignment(of: metadata, name: name)
        let start = (reader.offset + alignment - 1) / alignment * alignment
        var end = start
        for tensor in tensors {
            // Far above any model, far below what an Int can add up.
            guard tensor.offset < 1 << 56, tensor.byteCount < 1 << 56 else {
                throw ModelFileError(.tensorOutsideFile, "\(name): the tensor '\(tensor.name)' lies beyond what any file holds. The header is damaged; fetch it again.")
            }
            end = max(end, start + Int(tensor.offset) + tensor.byteCount)
        }
        let names = [ModelTensors.ropeDivisors, ModelTensors.ropeShort, ModelTensors.ropeLong]
        let divisors = tensors.filter { names.contains($0.name) && $0.type == .f32 }
        let bytes = try FileBytes(prefix: UnsafeRawBufferPointer(rebasing: header[..<reader.offset]), size: end, name: name) { memory in
            for tensor in divisors {
                for offset in stride(from: 0, to: tensor.byteCount, by: 4) {
                    memory.storeBytes(of: Float(1).bitPattern, toByteOffset: start + Int(tensor.offset) + offset, as: UInt32.self)
                }
            }
        }
        return try GGUFFile(files: [bytes])
    }
}
