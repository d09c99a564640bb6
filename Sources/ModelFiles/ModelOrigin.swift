/// Where a model comes from and under which terms, as far as its metadata say: the keys `general.license`, `.author`, `.source.url` & co.
/// Nothing is guessed from names.
package struct ModelOrigin: Sendable, Equatable, Encodable {
    /// As the file has it: "apache-2.0", "cc-by-nc-4.0", "llama3.1"; nil where it does not say.
    package var license: String?
    /// The licence's own name, where `license` is "other" or the file gives one.
    package var licenseName: String?
    package var licenseLink: String?
    /// What the licence asks that people forget, in short; empty for a licence that only asks to be kept with the files.
    package var restrictions: [String] = []
    package var author: String?
    package var organization: String?
    /// Where the weights were published.
    package var source: String?
    /// What it was trained or quantised from.
    package var baseModels: [String] = []
    package var quantizedBy: String?

    package init() {}

    /// Never fails: a value of another type than its key has is left out.
    package init(_ metadata: Metadata) {
        func text(_ keys: String...) -> String? {
            for key in keys {
                if let found = (try? metadata.string(key)) ?? nil, !found.isEmpty { return ModelOrigin.printable(found) }
                if let list = (try? metadata.strings(key)) ?? nil, !list.isEmpty { return ModelOrigin.printable(list.joined(separator: ", ")) }
            }
            return nil
        }
        license = text("general.license")
        licenseName = text("general.license.name")
        licenseLink = text("general.license.link")
        author = text("general.author")
        organization = text("general.organization")
        source = text("general.source.url", "general.source.repo_url", "general.source.huggingface.repository", "general.url", "general.repo_url")
        quantizedBy = text("general.quantized_by")
        let bases = min((try? metadata.int("general.base_model.count")) ?? nil ?? 0, ModelOrigin.baseModelsMax)
        for index in 0..<max(0, bases) {
            let base = "general.base_model.\(index)."
            if let name = text(base + "repo_url", base + "name") { baseModels.append(name) }
        }
        restrictions = Self.restrictions(license, licenseName)
    }

    private static let baseModelsMax = 16
    private static let textCharactersMax = 300

    /// One line for a person: "cc-by-nc-4.0 (non-commercial use only; attribution)".
    package var licenseLine: String {
        guard let license else { return "not stated by the model: find out before you serve it" }
        var line = license
        if let licenseName, licenseName.lowercased() != license.lowercased() { line += ", " + licenseName }
        if !restrictions.isEmpty { line += " (" + restrictions.joined(separator: "; ") + ")" }
        return line + (licenseLink.map { ", " + $0 } ?? "")
    }

    /// One line for a person: "by A (B), from https://example.org/model, made of C, quantised by D"; nil where nothing of that is stated.
    package var provenanceLine: String? {
        var parts: [String] = []
        let makers = [author, organization].compactMap { $0 }
        if let first = makers.first { parts.append("by " + first + (makers.count > 1 && makers[1] != first ? " (\(makers[1]))" : "")) }
        if let source { parts.append("from " + source) }
        if !baseModels.isEmpty { parts.append("made of " + baseModels.joined(separator: ", ")) }
        if let quantizedBy { parts.append("quantised by " + quantizedBy) }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }

    /// Whether the licence rules out use for money.
    package var isNonCommercial: Bool { restrictions.contains(Self.nonCommercial) }

    // MARK: Licences

    static let nonCommercial = "non-commercial use only"
    private static let attribution = "attribution"

    /// What is asked, by the identifiers that model hubs use. A licence that is in no list is called unknown rather than free.
    static func restrictions(_ license: String?, _ name: String?) -> [String] {
        guard let license else { return [] }
        let id = license.lowercased()
        if ["other", "unknown", "custom"].contains(id) {
            let named = name.map { restrictions($0, nil) } ?? []
            return named.isEmpty ? ["a licence of its own: read it before you serve the model"] : named
        }
        if free.contains(id) { return [] }
        if id.hasPrefix("cc-") || id.hasPrefix("cc0") { return creativeCommons(id) }
        for (prefix, terms) in others where id.hasPrefix(prefix) { return terms }
        return ["terms not known here: read the licence before you serve the model"]
    }

    private static let free: Set<String> = [
        "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense", "wtfpl", "cc0-1.0", "0bsd", "afl-3.0",
        "artistic-2.0", "ms-pl", "postgresql", "ncsa", "cdla-permissive-1.0", "cdla-permissive-2.0", "pddl",
    ]

    private static func creativeCommons(_ id: String) -> [String] {
        let parts = id.split(separator: "-")
        var terms: [String] = []
        if parts.contains("nc") { terms.append(nonCommercial) }
        if parts.contains("nd") { terms.append("no changed versions") }
        if parts.contains("sa") { terms.append("changed versions under the same licence") }
        if parts.contains("by") { terms.append(attribution) }
        return terms
    }

    private static func meta(_ notice: String) -> [String] {
        [notice, "acceptable use policy", "services with more than 700 million monthly users need Meta's leave"]
    }

    /// By prefix; the first that fits counts.
    private static let others: [(String, [String])] = [
        ("llama2", meta("attribution to Llama 2")), ("llama3.3", meta("must show \"Built with Llama\"")),
        ("llama3.2", meta("must show \"Built with Llama\"") + ["no rights to its multimodal models in the EU"]),
        ("llama3", meta("must show \"Built with Llama\" (3: \"Built with Meta Llama 3\")")), ("llama4", meta("must show \"Built with Llama\"")),
        ("gemma", ["prohibited use policy of Google"]),
        ("qwen-research", [nonCommercial]), ("tongyi-qianwen-research", [nonCommercial]),
        ("tongyi-qianwen", ["services with more than 100 million monthly users need Alibaba's leave"]),
        ("qwen", ["services with more than 100 million monthly users need Alibaba's leave", "attribution"]),
        ("mrl", [nonCommercial]), ("mnpl", [nonCommercial]), ("mistral-ai-research", [nonCommercial]), ("fair-noncommercial", [nonCommercial]),
        ("deepseek", ["use restrictions in the licence's attachment"]),
        ("openrail", ["use restrictions in the licence's attachment"]), ("creativeml-openrail", ["use restrictions in the licence's attachment"]),
        ("bigscience", ["use restrictions in the licence's attachment"]), ("bigcode-openrail", ["use restrictions in the licence's attachment"]),
        ("agpl", ["source of changed versions also to users over a network"]), ("gpl", ["changed versions under the same licence"]),
        ("lgpl", ["changed versions under the same licence"]), ("mpl", ["changed files under the same licence"]),
        ("osl", ["changed versions under the same licence"]), ("eupl", ["changed versions under the same licence"]),
    ]

    /// A model's text must not move the cursor of whoever reads it, nor fill the screen.
    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(textCharactersMax).map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
}
