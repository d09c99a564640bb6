import ModelFiles
import Testing

/// Licences and provenance as the metadata have them.
@Suite struct ModelOriginTests {
    private func origin(_ license: String?, name: String? = nil) -> ModelOrigin {
        var metadata = Metadata()
        if let license { metadata.set("general.license", .string(license)) }
        if let name { metadata.set("general.license.name", .string(name)) }
        return ModelOrigin(metadata)
    }

    @Test func restrictionsOfKnownLicences() {
        #expect(origin("apache-2.0").restrictions.isEmpty && origin("MIT").restrictions.isEmpty)
        #expect(origin("cc-by-nc-4.0").restrictions == ["non-commercial use only", "attribution"])
        #expect(origin("cc-by-nc-4.0").isNonCommercial && !origin("cc-by-4.0").isNonCommercial)
        #expect(origin("cc-by-nc-nd-4.0").restrictions.count == 3)
        #expect(origin("llama3.1").restrictions.contains { $0.contains("700 million") })
        #expect(origin("llama3.2").restrictions.contains { $0.contains("EU") } && !origin("llama3.1").restrictions.contains { $0.contains("EU") })
        #expect(origin("gemma").restrictions.count == 1)
        #expect(origin("other", name: "tongyi-qianwen").restrictions.contains { $0.contains("100 million") })
        #expect(origin("other", name: "qwen-research").isNonCommercial)
    }

    /// What is not known is never called free.
    @Test func unknownTermsAreSaidToBeUnknown() {
        #expect(!origin("other").restrictions.isEmpty && !origin("my-own-licence").restrictions.isEmpty)
        #expect(origin(nil).license == nil && origin(nil).licenseLine.contains("not stated"))
        #expect(origin("cc-by-nc-4.0").licenseLine == "cc-by-nc-4.0 (non-commercial use only; attribution)")
    }

    @Test func provenance() {
        var metadata = Metadata()
        metadata.set("general.author", .string("A\u{1B}[2J"))
        metadata.set("general.organization", .uint32(7))
        metadata.set("general.source.url", .string("https://example.org/model"))
        metadata.set("general.base_model.count", .uint32(2))
        metadata.set("general.base_model.0.name", .string("Base"))
        metadata.set("general.base_model.1.repo_url", .string("https://example.org/other"))
        let origin = ModelOrigin(metadata)
        #expect(origin.author == "A [2J" && origin.organization == nil)
        #expect(origin.source == "https://example.org/model" && origin.baseModels == ["Base", "https://example.org/other"])
        #expect(origin.provenanceLine == "by A [2J, from https://example.org/model, made of Base, https://example.org/other")
        metadata.set("general.organization", .string("Acme"))
        metadata.set("general.quantized_by", .string("B"))
        #expect(ModelOrigin(metadata).provenanceLine?.hasPrefix("by A [2J (Acme), from ") == true)
        #expect(ModelOrigin(metadata).provenanceLine?.hasSuffix(", quantised by B") == true)
        #expect(ModelOrigin(Metadata()).provenanceLine == nil)
        metadata.set("general.base_model.count", .uint64(.max))
        #expect(ModelOrigin(metadata).baseModels.isEmpty)
        metadata.set("general.base_model.count", .int64(-5))
        #expect(ModelOrigin(metadata).baseModels.isEmpty)
    }
}
