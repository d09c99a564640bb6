/// One file of a GGUF model, with the place of each of its tensors checked against the file's size.
///
/// The data section begins at the first multiple of the alignment after the header. Each tensor begins at a multiple of
/// the alignment and is followed by less than one alignment of padding, the last one too: bytes that no tensor claims
/// mean that the file is not what its header says, so they are refused and not ignored.
struct GGUFPart: Sendable {
    static let defaultAlignment = 32

    let file: FileBytes
    let version: Int
    let alignment: Int
    let metadata: Metadata
    /// Offset of the first byte after the pairs.
    let metadataEnd: Int
    /// Offset of the first byte after the tensor descriptions.
    let headerEnd: Int
    let reservedBytes: Int
    /// In file order.
    let tensors: [Tensor]

    init(file: FileBytes, number: Int) throws(ModelFileError) {
        var reader = ByteReader(bytes: file.bytes, name: file.name)
        let head = try GGUFHeaderReader.readHead(&reader)
        metadata = try GGUFHeaderReader.readMetadata(&reader, count: head.metadataCount)
        metadataEnd = reader.offset
        let descriptions = try GGUFHeaderReader.readTensors(&reader, count: head.tensorCount)
        headerEnd = reader.offset
        reservedBytes = reader.reservedBytes
        alignment = try GGUFPart.alignment(of: metadata, name: file.name)
        version = head.version
        self.file = file

        let dataStart = (headerEnd + alignment - 1) / alignment * alignment
        try GGUFPart.checkPlaces(descriptions, dataStart: dataStart, alignment: alignment, file: file)
        tensors = descriptions.map {
            Tensor(
                name: $0.name, type: $0.type, shape: $0.shape, part: number,
                fileOffset: dataStart + Int($0.offset), storage: file)
        }
    }

    static func alignment(of metadata: Metadata, name: String) throws(ModelFileError) -> Int {
        guard let alignment = try metadata.int("general.alignment") else { return defaultAlignment }
        let allowed = ModelFileLimits.alignmentBytesMin...ModelFileLimits.alignmentBytesMax
        guard allowed.contains(alignment), alignment & (alignment - 1) == 0 else {
            throw ModelFileError(
                .invalidValue,
                "\(name): general.alignment is \(alignment); a power of two from \(allowed.lowerBound) to \(allowed.upperBound) is needed. The file is damaged or from a faulty converter."
            )
        }
        return alignment
    }

    /// Checks that the tensors fill the data section: inside it, aligned, in no other's place, nothing left over.
    private static func checkPlaces(
        _ tensors: [GGUFHeaderReader.TensorDescription], dataStart: Int, alignment: Int, file: FileBytes
    ) throws(ModelFileError) {
        let available = max(0, file.bytes.count - dataStart)
        for tensor in tensors {
            guard tensor.offset % UInt64(alignment) == 0 else {
                throw ModelFileError(
                    .misalignedTensor,
                    "\(file.name): the tensor '\(tensor.name)' begins at offset \(tensor.offset), which is not a multiple of the alignment \(alignment). The file is damaged or from a faulty converter."
                )
            }
            guard tensor.offset <= UInt64(available), tensor.byteCount <= available - Int(tensor.offset) else {
                throw ModelFileError(
                    .tensorOutsideFile,
                    "\(file.name): the tensor '\(tensor.name)' needs \(tensor.byteCount) bytes at offset \(tensor.offset) of a data section of \(available). The file is cut short or damaged; fetch it again."
                )
            }
        }

        var end = 0
        var previous: String?
        for tensor in tensors.sorted(by: { $0.offset < $1.offset }) {
            let start = Int(tensor.offset)
            guard start >= end else {
                throw ModelFileError(
                    .overlappingTensors,
                    "\(file.name): the tensors '\(previous ?? "")' and '\(tensor.name)' share bytes. The file is damaged; fetch it again.")
            }
            guard start - end < alignment else {
                throw ModelFileError(
                    .unclaimedBytes,
                    "\(file.name): \(start - end) bytes before the tensor '\(tensor.name)' belong to no tensor, more than padding to \(alignment) explains. The file is damaged or from a faulty converter."
                )
            }
            end = start + tensor.byteCount
            previous = tensor.name
        }
        guard available - end < alignment else {
            throw ModelFileError(
                .trailingBytes,
                "\(file.name): \(available - end) bytes follow the last tensor, more than padding to \(alignment) explains. The file is damaged or two files were joined; fetch it again."
            )
        }
    }
}
