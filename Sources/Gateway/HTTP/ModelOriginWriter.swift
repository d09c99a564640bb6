import Prompt

extension JSONWriter {
    /// Licence and provenance of a model; null for what its file does not say.
    mutating func origin(of prompting: ModelPrompting) {
        let origin = prompting.origin
        object {
            $0.member("license", orNull: origin.license)
            $0.member("license_name", orNull: origin.licenseName)
            $0.member("license_link", orNull: origin.licenseLink)
            $0.member("restrictions") { $0.array(origin.restrictions) { $0.string($1) } }
            $0.member("non_commercial", origin.isNonCommercial)
            $0.member("author", orNull: origin.author)
            $0.member("organization", orNull: origin.organization)
            $0.member("source", orNull: origin.source)
            $0.member("base_models") { $0.array(origin.baseModels) { $0.string($1) } }
            $0.member("quantized_by", orNull: origin.quantizedBy)
        }
    }
}
