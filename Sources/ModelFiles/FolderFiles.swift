#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The files of a folder, by name: mapped from a disk, or given in memory.
struct FolderFiles {
    /// The folder's path, or what stands for it in messages.
    let name: String
    /// nil: on disk.
    private let memory: [String: [UInt8]]?

    init(path: String) throws(ModelFileError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw ModelFileError(.cannotOpen, "The folder '\(path)' cannot be opened. Check the path and its permissions.", cause: SystemError.last())
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw ModelFileError(.notAFile, "A Hugging Face folder was asked for, but '\(path)' is no folder.")
        }
        name = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        memory = nil
    }

    init(name: String, files: [String: [UInt8]]) {
        self.name = name
        memory = files
    }

    /// The last part of the folder's path; of a download cache (`models--MAKER--NAME/snapshots/HASH`) the model's name.
    var lastName: String {
        var path = name
        if memory == nil, let real = realpath(name, nil) {
            path = String(cString: real)
            free(real)
        }
        let parts = path.split(separator: "/")
        if parts.count >= 3, parts[parts.count - 2] == "snapshots", parts[parts.count - 3].hasPrefix("models--") {
            // "models", maker and name; a name may have two dashes of its own.
            let words = parts[parts.count - 3].split(separator: "--", maxSplits: 2)
            if let name = words.last, words.count == 3 { return String(name) }
        }
        return parts.last.map(String.init) ?? "model"
    }

    func path(_ file: String) -> String { "\(name)/\(file)" }

    func has(_ file: String) -> Bool {
        if let memory { return memory[file] != nil }
        return access(path(file), F_OK) == 0
    }

    /// nil where there is none; throws where it cannot be read.
    func open(_ file: String) throws(ModelFileError) -> FileBytes? {
        if let memory { return memory[file].map { FileBytes(copying: $0, name: path(file)) } }
        guard has(file) else { return nil }
        return try FileBytes(mapping: path(file))
    }

    /// The same for a text or a JSON, which is not longer than `bytesMax`.
    func openText(_ file: String, bytesMax: Int = ModelFileLimits.jsonFileBytesMax) throws(ModelFileError) -> FileBytes? {
        guard let found = try open(file) else { return nil }
        guard found.bytes.count <= bytesMax else {
            throw ModelFileError(.limitExceeded, "\(found.name) has \(found.bytes.count) bytes, more than the \(bytesMax) that are read.")
        }
        return found
    }
}

extension FileBytes {
    /// The whole file as text. Throws `invalidText` where it is no UTF-8.
    var text: String {
        get throws(ModelFileError) {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw ModelFileError(.invalidText, "\(name) is not valid UTF-8. The file is damaged; fetch it again.")
            }
            return text
        }
    }

    /// The object that the file's JSON is.
    var jsonObject: JSONObject {
        get throws(ModelFileError) {
            let value = try JSONValue(json: bytes, name: name)
            guard let object = value.object else {
                throw ModelFileError(.invalidJSON, "\(name) should be a JSON object, but is \(value.kind). The file is damaged; fetch it again.")
            }
            return object
        }
    }
}
