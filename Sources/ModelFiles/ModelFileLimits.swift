/// Every bound that the reader enforces. They are far above what real files hold and far below what could hurt:
/// together with the rule that no count is trusted beyond the bytes that follow it, they bound the reader's memory by
/// the size of the file plus a small constant.
package enum ModelFileLimits {
    /// Key-value pairs of one file. Real files hold fewer than a hundred.
    package static let metadataEntriesMax = 16_384
    /// Tensors of one model. A 405B Llama has about 1,140.
    package static let tensorsMax = 65_536
    /// The format's own bound on a key.
    package static let keyBytesMax = 65_535
    package static let tensorNameBytesMax = 255
    package static let dimensionsMax = 4
    /// Arrays within arrays: depth, and how many inner arrays one file may hold.
    package static let arrayDepthMax = 4
    package static let innerArraysMax = 4_096
    package static let alignmentBytesMin = 8
    package static let alignmentBytesMax = 1 << 20
    package static let partsMax = 10_000

    // Hugging Face folders
    /// The bound of the safetensors format on its header.
    package static let safetensorsHeaderBytesMax = 100_000_000
    /// One JSON file; the largest tokenizer.json that are published have 35 MB.
    package static let jsonFileBytesMax = 128 << 20
    /// Values in one JSON text; a tokenizer.json of 256,000 tokens and twice as many merges in pairs has two million.
    package static let jsonValuesMax = 8_000_000
    package static let jsonDepthMax = 96
    /// Characters of one number.
    package static let jsonNumberBytesMax = 400
    /// Bytes of a shard's file name, as file systems have it.
    package static let fileNameBytesMax = 255
}
