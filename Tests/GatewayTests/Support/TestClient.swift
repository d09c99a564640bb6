import Foundation

/// A client on a plain socket, so that tests decide when it reads, stops reading, half-closes or breaks off.
///
/// Blocking calls run on threads of their own, never on Swift's or Dispatch's pool, which serve the gateway under test.
final class TestClient: Sendable {
    struct Reply {
        var status: Int
        /// Names in lower case.
        var headers: [String: String]
        /// With chunks joined.
        var body: String
    }

    struct Trouble: Error { var message: String }

    private let descriptor: Int32

    init(port: Int, receiveBufferBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var size = receiveBufferBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        // A test that would wait for ever fails instead.
        var patience = timeval(tv_sec: 300, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { throw Trouble(message: "connect: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    // MARK: Sending

    func send(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 {
                // A server may answer and close before it has read everything; what it said can still be read.
                if errno == EPIPE || errno == ECONNRESET { return }
                throw Trouble(message: "send: \(String(cString: strerror(errno)))")
            }
            rest = rest.dropFirst(count)
        }
    }

    func request(_ method: String, _ path: String, body: [UInt8] = [], headers: [String: String] = [:], closing: Bool = true) throws {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: test\r\n"
        if closing { head += "Connection: close\r\n" }
        if !body.isEmpty || method == "POST" { head += "Content-Length: \(body.count)\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        try send(Array((head + "\r\n").utf8) + body)
    }

    /// The sending side only.
    func halfClose() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// With a reset, as a killed process' kernel may do it.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    func breakOff() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    // MARK: Receiving

    /// What has come once `isEnough` says so or the server closed.
    func receive(until isEnough: @escaping @Sendable (String) -> Bool) async throws -> String {
        let descriptor = descriptor
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try Self.read(descriptor, until: isEnough) })
            }
        }
    }

    func reply() async throws -> Reply {
        try Self.parse(try await receive { _ in false })
    }

    private static func read(_ descriptor: Int32, until isEnough: (String) -> Bool) throws -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count >= 0 else {
                if errno == ECONNRESET { break }
                throw Trouble(message: "recv: \(String(cString: strerror(errno))) after \(String(decoding: bytes, as: UTF8.self))")
            }
            if count == 0 { break }
            bytes += buffer[..<count]
            if isEnough(String(decoding: bytes, as: UTF8.self)) { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func parse(_ text: String) throws -> Reply {
        guard let end = text.range(of: "\r\n\r\n") else { throw Trouble(message: "no whole head in: \(text)") }
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        guard let status = lines[0].split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw Trouble(message: "no status in: \(lines[0])")
        }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces) }
        }
        let body = String(text[end.upperBound...])
        let isChunked = headers["transfer-encoding"]?.lowercased() == "chunked"
        return Reply(status: status, headers: headers, body: isChunked ? joined(chunks: Array(body.utf8)) : body)
    }

    private static func joined(chunks bytes: [UInt8]) -> String {
        var body: [UInt8] = []
        var rest = bytes[...]
        while let end = rest.firstIndex(of: 13), let size = Int(String(decoding: rest[..<end], as: UTF8.self), radix: 16), size > 0 {
            let start = end + 2
            body += rest[start..<min(start + size, rest.endIndex)]
            guard start + size + 2 <= rest.endIndex else { break }
            rest = rest[(start + size + 2)...]
        }
        return String(decoding: body, as: UTF8.self)
    }
}
