import Prompt

/// The messages and tools of a chat request, checked and in the form that chat templates expect.
struct Conversation {
    let messages: TemplateValue
    let tools: TemplateValue?
    let addsGenerationPrompt: Bool
    /// The last message is the beginning of the answer, which goes on from there.
    let continuesFinalMessage: Bool
    let templateVariables: [(String, TemplateValue)]

    init(_ fields: Fields, limits: GatewayLimits) throws(APIError) {
        guard let items = try fields.array("messages", max: limits.messagesMax), !items.isEmpty else {
            throw .missing("messages", "at least one message")
        }
        var messages: [TemplateValue] = []
        messages.reserveCapacity(items.count)
        for (index, item) in items.enumerated() { messages.append(try Self.message(item, path: "messages[\(index)]")) }
        self.messages = .array(messages)
        tools = try Self.tools(fields, limits: limits)
        continuesFinalMessage = try fields.bool("continue_final_message")
        addsGenerationPrompt = try fields.bool("add_generation_prompt", default: !continuesFinalMessage)
        if continuesFinalMessage {
            guard !addsGenerationPrompt else {
                throw .invalid("continue_final_message", "'continue_final_message' and 'add_generation_prompt' exclude each other.")
            }
            guard try Fields(items[items.count - 1], path: "messages").string("role") == "assistant" else {
                throw .invalid("continue_final_message", "'continue_final_message' needs a last message with role 'assistant'.")
            }
        }
        templateVariables = (try fields.object("chat_template_kwargs"))?.entries.map { ($0.key, $0.value) } ?? []
        try fields.refuse("chat_template", "A request cannot bring a chat template of its own.")
        try fields.refuse("functions", "The older 'functions' are not supported; use 'tools'.")
        try fields.refuse("audio", "Audio output is not supported.")
        for modality in try fields.array("modalities", max: 8) ?? [] where modality != .string("text") {
            throw .unsupported("modalities", "Only text can be answered.")
        }
    }

    // MARK: Messages

    private static let roles = ["system", "developer", "user", "assistant", "tool"]

    private static func message(_ value: TemplateValue, path: String) throws(APIError) -> TemplateValue {
        let fields = try Fields(value, path: path)
        guard let role = try fields.string("role") else { throw .missing(fields.path("role"), "one of \(roles.joined(separator: ", "))") }
        guard roles.contains(role) else {
            throw .invalid(fields.path("role"), "'\(fields.path("role"))' is '\(role)', but must be one of \(roles.joined(separator: ", ")).")
        }
        try fields.refuse("function_call", "The older 'function_call' is not supported; use 'tool_calls'.")
        var message = fields.object
        // Templates know no developers; what OpenAI calls so was the system's role before.
        message["role"] = .string(role == "developer" ? "system" : role)
        let calls = try toolCalls(fields)
        if let calls { message["tool_calls"] = calls }
        message["content"] = .string(try content(fields, isRequired: role != "assistant" || calls == nil))
        return .object(message)
    }

    private static func content(_ fields: Fields, isRequired: Bool) throws(APIError) -> String {
        let path = fields.path("content")
        switch fields.value("content") {
        case .string(let text)?: return text
        case .array(let parts)?:
            var texts: [String] = []
            for (index, part) in parts.enumerated() { texts.append(try text(part, path: "\(path)[\(index)]")) }
            return texts.joined(separator: "\n")
        case nil:
            guard isRequired else { return "" }
            throw .missing(path, "a string or an array of parts")
        case let other?: throw .wrongType(path, wanted: "a string or an array of parts", found: other.kindForPeople)
        }
    }

    private static func text(_ part: TemplateValue, path: String) throws(APIError) -> String {
        let fields = try Fields(part, path: path)
        guard let kind = try fields.string("type") else { throw .missing(fields.path("type"), "the kind of the part, such as 'text'") }
        switch kind {
        case "text", "refusal":
            guard let text = try fields.string(kind) else { throw .missing(fields.path(kind), "a string") }
            return text
        default:
            throw .invalid(
                fields.path("type"), "A part of type '\(kind)' was sent, but this model reads text only. Send parts of type 'text'.",
                code: "not_supported")
        }
    }

    /// The calls with their arguments as objects: clients send JSON text, templates print objects.
    private static func toolCalls(_ fields: Fields) throws(APIError) -> TemplateValue? {
        guard let items = try fields.array("tool_calls", max: 128), !items.isEmpty else { return nil }
        var calls: [TemplateValue] = []
        for (index, item) in items.enumerated() {
            let path = fields.path("tool_calls[\(index)]")
            let call = try Fields(item, path: path)
            guard let function = try call.object("function") else { throw .missing(call.path("function"), "an object with name and arguments") }
            let functionFields = Fields(function, prefix: call.path("function."))
            guard try functionFields.string("name") != nil else { throw .missing(functionFields.path("name"), "a string") }
            var parsedFunction = function
            if case .string(let text)? = functionFields.value("arguments") {
                parsedFunction["arguments"] = try arguments(text, path: functionFields.path("arguments"))
            }
            var parsed = call.object
            parsed["function"] = .object(parsedFunction)
            calls.append(.object(parsed))
        }
        return .array(calls)
    }

    private static func arguments(_ text: String, path: String) throws(APIError) -> TemplateValue {
        guard !text.isEmpty else { return .object(TemplateObject()) }
        do {
            return try TemplateValue(json: Array(text.utf8))
        } catch {
            throw .invalid(path, "'\(path)' must hold JSON: \(error.message)", code: "invalid_json")
        }
    }

    // MARK: Tools

    private static func tools(_ fields: Fields, limits: GatewayLimits) throws(APIError) -> TemplateValue? {
        let tools = try fields.array("tools", max: limits.toolsMax) ?? []
        for (index, tool) in tools.enumerated() {
            let path = fields.path("tools[\(index)]")
            let toolFields = try Fields(tool, path: path)
            guard try toolFields.string("type") == "function" else { throw .unsupported("\(path).type", "Only tools of type 'function' are known.") }
            guard let function = try toolFields.object("function") else { throw .missing("\(path).function", "an object with a name") }
            guard try Fields(function, prefix: "\(path).function.").string("name") != nil else { throw .missing("\(path).function.name", "a string") }
        }
        switch fields.value("tool_choice") {
        case nil, .string("auto")?: return tools.isEmpty ? nil : .array(tools)
        case .string("none")?: return nil
        case .string("required")?, .object?: throw .unsupported("tool_choice", "To force a tool call is not supported yet; 'auto' and 'none' are.")
        case let other?: throw fields.wrongType("tool_choice", "'auto', 'none', 'required' or an object", other)
        }
    }
}
