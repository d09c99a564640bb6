/// Writes the Prometheus text format, version 0.0.4.
struct PrometheusText {
    private(set) var bytes: [UInt8] = []

    typealias Labels = [(String, String)]

    mutating func family(_ name: String, _ kind: String, _ help: String) {
        line("# HELP \(name) \(help)")
        line("# TYPE \(name) \(kind)")
    }

    mutating func sample(_ name: String, _ labels: Labels, _ value: some BinaryInteger) { sample(name, labels, text: String(value)) }
    mutating func sample(_ name: String, _ labels: Labels, _ value: Double) { sample(name, labels, text: value.description) }

    mutating func gauge(_ name: String, _ help: String, _ labels: Labels, _ value: some BinaryInteger) {
        family(name, "gauge", help)
        sample(name, labels, value)
    }

    mutating func counter(_ name: String, _ help: String, _ labels: Labels, _ value: some BinaryInteger) {
        family(name, "counter", help)
        sample(name, labels, value)
    }

    mutating func gauge(_ name: String, _ help: String, _ labels: Labels, _ value: Double) {
        family(name, "gauge", help)
        sample(name, labels, value)
    }

    mutating func counter(_ name: String, _ help: String, _ labels: Labels, _ value: Double) {
        family(name, "counter", help)
        sample(name, labels, value)
    }

    /// A histogram that another process counted. The last of `counts` has no bound.
    mutating func histogram(_ name: String, _ help: String, _ labels: Labels, counts: [UInt64], bounds: [Double], sum: Double) {
        family(name, "histogram", help)
        var total: UInt64 = 0
        for (index, count) in counts.enumerated() {
            total &+= count
            sample(name + "_bucket", labels + [("le", index < bounds.count ? bounds[index].description : "+Inf")], total)
        }
        guard !counts.isEmpty else { return }
        sample(name + "_sum", labels, sum)
        sample(name + "_count", labels, total)
    }

    mutating func process(_ process: ProcessUsage) {
        gauge("process_open_fds", "Open file descriptors.", [], process.openDescriptors)
        gauge("process_resident_memory_bytes", "Memory in use.", [], process.residentBytes)
    }

    mutating func histogram(_ name: String, _ labels: Labels, _ histogram: Histogram) {
        var total: UInt64 = 0
        for (index, count) in histogram.counts.enumerated() {
            total += count
            let bound = index < histogram.bounds.count ? histogram.bounds[index].description : "+Inf"
            sample(name + "_bucket", labels + [("le", bound)], total)
        }
        sample(name + "_sum", labels, histogram.sum)
        sample(name + "_count", labels, histogram.count)
    }

    mutating func histogram(_ name: String, _ help: String, _ labels: Labels, _ value: Histogram) {
        family(name, "histogram", help)
        histogram(name, labels, value)
    }

    private mutating func sample(_ name: String, _ labels: Labels, text: String) {
        let inner = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        line(inner.isEmpty ? "\(name) \(text)" : "\(name){\(inner)} \(text)")
    }

    private mutating func line(_ text: String) {
        bytes += text.utf8
        bytes.append(UInt8(ascii: "\n"))
    }

    private static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
