/// How much one template may cost. A template is a program that comes with a model file or a request,
/// so everything it can make grow has a limit; reaching one is a `TemplateError` with code `limit`.
package struct TemplateLimits: Sendable, Equatable {
    /// Template text, in UTF-8 bytes.
    package var sourceBytesMax = 256 << 10
    /// Rendered text, in UTF-8 bytes.
    package var outputBytesMax = 16 << 20
    /// Evaluation steps of one rendering: one for each node evaluated, each list element made or visited, and
    /// each 64 bytes of text made or searched.
    package var stepsMax = 4_000_000
    /// All text made by one rendering (output included), in UTF-8 bytes: bounds memory, whoever holds the pieces.
    package var textBytesMax = 64 << 20
    /// Turns of all loops of one rendering together.
    package var loopTurnsMax = 500_000
    /// Elements of one `range`, one repeated list or one padded list. Python's sandbox has the same number for ranges.
    package var sequenceItemsMax = 100_000
    /// Nested brackets, blocks and operators while parsing.
    package var parseDepthMax = 80
    /// Nested evaluations (macro calls, blocks, expressions) while rendering. Measured in a release build: the deepest
    /// templates that the three depth limits let through need more than 64 and less than 128 KiB of stack; a thread
    /// that renders should have 512 KiB or more, and several times that in a debug build.
    package var evaluationDepthMax = 160
    /// Nested lists and dictionaries in one value, also of JSON that comes in.
    package var valueDepthMax = 96

    package init() {}

    package static let standard = TemplateLimits()
}
