import ArgumentParser
import CKernels

/// The feed-forward layer of a model of experts.
enum ExpertShape: String, CaseIterable, ExpressibleByArgument {
    case granite1b = "granite-1b"
    case granite3b = "granite-3b"
    case mixtral

    struct Sizes: Codable {
        var model: String
        var experts: Int
        var used: Int
        var hidden: Int
        /// Of an expert's gate.
        var width: Int
    }

    var sizes: Sizes {
        switch self {
        case .granite1b: Sizes(model: "Granite 3.0 1B-A400M", experts: 32, used: 8, hidden: 1024, width: 512)
        case .granite3b: Sizes(model: "Granite 3.0 3B-A800M", experts: 40, used: 8, hidden: 1536, width: 512)
        case .mixtral: Sizes(model: "Mixtral 8x7B", experts: 8, used: 2, hidden: 4096, width: 14_336)
        }
    }

    var router: sk_router {
        let sizes = sizes
        return sk_router(
            kind: self == .mixtral ? SK_ROUTER_SOFTMAX_TOP : SK_ROUTER_TOP_SOFTMAX, experts: Int32(sizes.experts), used: Int32(sizes.used),
            renormalise: self == .mixtral)
    }
}

/// Which rows go to which expert, drawn evenly; slots are the rows in the order of their experts.
struct ExpertDraw {
    /// Rows of each expert.
    var rows: [Int]
    var touched: Int { rows.count { $0 > 0 } }

    init(_ sizes: ExpertShape.Sizes, rows count: Int, using random: inout BenchRandom) {
        rows = Array(repeating: 0, count: sizes.experts)
        for _ in 0..<count {
            for expert in (0..<sizes.experts).shuffled(using: &random).prefix(sizes.used) { rows[expert] += 1 }
        }
    }
}
