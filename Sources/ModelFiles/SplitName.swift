/// The naming of split models: `NAME-00002-of-00005.gguf`, five digits each, counted from 1.
struct SplitName: Equatable {
    /// Path and name before the numbers.
    var prefix: String
    /// Counted from 1.
    var number: Int
    var count: Int

    /// Nil where `path` is not named like a part.
    init?(path: String) {
        let suffix = ".gguf"
        guard path.hasSuffix(suffix) else { return nil }
        let stem = path.utf8.dropLast(suffix.utf8.count)
        // "-00002-of-00005"
        guard stem.count > 15 else { return nil }
        let tail = Array(stem.suffix(15))
        guard tail[0] == UInt8(ascii: "-"), Array(tail[6..<10]) == Array("-of-".utf8),
            let number = SplitName.digits(tail[1..<6]), let count = SplitName.digits(tail[10..<15]),
            let prefix = String(stem.dropLast(15))
        else { return nil }
        self.prefix = prefix
        self.number = number
        self.count = count
    }

    init(prefix: String, number: Int, count: Int) {
        self.prefix = prefix
        self.number = number
        self.count = count
    }

    var path: String {
        "\(prefix)-\(SplitName.fiveDigits(number))-of-\(SplitName.fiveDigits(count)).gguf"
    }

    /// The paths of all parts of the model that `path` belongs to; `path` alone where it is not named like a part.
    static func allParts(of path: String) throws(ModelFileError) -> [String] {
        guard let name = SplitName(path: path) else { return [path] }
        guard (1...ModelFileLimits.partsMax).contains(name.count), (1...name.count).contains(name.number) else {
            throw ModelFileError(
                .splitMismatch,
                "'\(path)' is named as part \(name.number) of \(name.count), which cannot be. Give the file its original name.")
        }
        return (1...name.count).map { SplitName(prefix: name.prefix, number: $0, count: name.count).path }
    }

    /// Checks that the parts belong together: each says its own number and the count, the first says how many tensors
    /// there are in all.
    static func checkParts(_ parts: [GGUFPart], tensorCount: Int) throws(ModelFileError) {
        for (index, part) in parts.enumerated() {
            let count = try part.metadata.int("split.count") ?? (parts.count == 1 ? 1 : nil)
            // A single file may carry the keys of a split into one, or `split.count` 0 for "not split".
            guard let count, count == parts.count || (count == 0 && parts.count == 1) else {
                throw ModelFileError(
                    .splitMismatch,
                    "\(part.file.name) says it is one of \(count.map(String.init) ?? "an unknown number of") parts, but \(parts.count) were found by name. Keep all parts under their original names (NAME-00001-of-0000N.gguf) in one folder, and give any one of them."
                )
            }
            let number = try part.metadata.int("split.no") ?? (parts.count == 1 ? 0 : nil)
            guard number == index else {
                throw ModelFileError(
                    .splitMismatch,
                    "\(part.file.name) should be part \(index + 1), but its metadata says \(number.map { "split.no \($0), counted from 0" } ?? "nothing about parts"). Give the files their original names."
                )
            }
            if let expected = try part.metadata.int("split.tensors.count"), expected != tensorCount {
                throw ModelFileError(
                    .splitMismatch,
                    "\(part.file.name) says the model has \(expected) tensors, but its parts hold \(tensorCount). Parts of different models were mixed; fetch them again."
                )
            }
        }
    }

    private static func digits(_ bytes: ArraySlice<UInt8>) -> Int? {
        var number = 0
        for byte in bytes {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }

    private static func fiveDigits(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
}
