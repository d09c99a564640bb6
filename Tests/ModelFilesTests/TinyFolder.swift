import ModelFiles

/// A Hugging Face folder in memory, small enough to damage ten thousand times.
struct TinyFolder {
    /// One tensor of a safetensors file, rows before columns as the format has it.
    struct Entry {
        var name: String
        var dtype: String
        var shape: [Int]
        var bytes: [UInt8]

        static func f32(_ name: String, _ shape: [Int], from first: Float = 0) -> Entry {
            let values = (0..<shape.reduce(1, *)).map { first + Float($0) / 8 }
            let bytes = values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
            return Entry(name: name, dtype: "F32", shape: shape, bytes: bytes)
        }

        /// F16 or BF16 from bit patterns.
        static func half(_ name: String, _ shape: [Int], _ dtype: String, _ bits: [UInt16]) -> Entry {
            Entry(name: name, dtype: dtype, shape: shape, bytes: bits.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
        }
    }

    /// A safetensors file; `padding`: spaces behind the header.
    static func safetensors(_ entries: [Entry], notes: String? = #"{"format":"pt"}"#, padding: Int = 0) -> [UInt8] {
        var members = notes.map { [#""__metadata__":\#($0)"#] } ?? []
        var data: [UInt8] = []
        for entry in entries {
            let end = data.count + entry.bytes.count
            members.append(#""\#(entry.name)":{"dtype":"\#(entry.dtype)","shape":\#(entry.shape),"data_offsets":[\#(data.count),\#(end)]}"#)
            data += entry.bytes
        }
        return file(header: "{" + members.joined(separator: ",") + "}" + String(repeating: " ", count: padding), data: data)
    }

    static func file(header: String, data: [UInt8] = []) -> [UInt8] {
        withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + data
    }

    static let weights = [
        Entry.f32("model.embed_tokens.weight", [6, 4]), .half("model.norm.weight", [4], "BF16", [0x3F80, 0x4000, 0xC040, 0x0000]),
        .half("lm_head.weight", [2, 3], "F16", [0x3C00, 0x4000, 0xC200, 0x0001, 0x7BFF, 0x8000]),
    ]

    static let tokenizer = #"""
        {"added_tokens":[{"id":3,"content":"<s>","special":true}],"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]},"decoder":{"type":"Fuse"}}
        """#

    var files: [String: [UInt8]] = [
        "config.json": Array(#"{"model_type":"llama","vocab_size":6,"eos_token_id":[2,4]}"#.utf8),
        "model.safetensors": Self.safetensors(Self.weights),
        "tokenizer.json": Array(Self.tokenizer.utf8),
        "tokenizer_config.json": Array(
            #"{"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"add_bos_token":true,"model_max_length":1000000000000000019884624838656,"chat_template":"{{ 1 }}"}"#.utf8),
        "generation_config.json": Array(#"{"eos_token_id":5,"temperature":0.6,"top_p":0.9,"top_k":40,"max_new_tokens":100,"do_sample":true}"#.utf8),
    ]

    /// The same weights in two shards.
    static var sharded: TinyFolder {
        var folder = TinyFolder()
        folder.files["model.safetensors"] = nil
        folder.files["model-00001-of-00002.safetensors"] = safetensors([weights[0]])
        folder.files["model-00002-of-00002.safetensors"] = safetensors([weights[1], weights[2]])
        folder.setIndex([
            ("model.embed_tokens.weight", "model-00001-of-00002.safetensors"), ("model.norm.weight", "model-00002-of-00002.safetensors"),
            ("lm_head.weight", "model-00002-of-00002.safetensors"),
        ])
        return folder
    }

    mutating func setIndex(_ map: [(String, String)]) {
        let members = map.map { #""\#($0)":"\#($1)""# }.joined(separator: ",")
        files["model.safetensors.index.json"] = Array(#"{"metadata":{"total_size":124},"weight_map":{\#(members)}}"#.utf8)
    }

    mutating func set(_ file: String, _ text: String) { files[file] = Array(text.utf8) }

    func open() throws(ModelFileError) -> HFFolder { try HFFolder(name: "tiny", files: files) }
}
