extension Jinja {
    /// A value while a template runs. Lists and dictionaries never change (transformers renders in the immutable
    /// sandbox, where `append` and kin are refused); only namespaces and half-used iterators do, so those are classes
    /// with an identity.
    enum Value {
        case undefined(Undefined)
        case none
        case bool(Bool)
        case int(Int)
        case double(Double)
        case text(Text)
        case list(List)
        case tuple(List)
        case dictionary(Dictionary)
        case view(View)
        case range(Range)
        case iterator(Iterator)
        case namespace(Namespace)
        case macro(MacroValue)
        case loop(LoopState)
        case function(Function)
        case method(Method)
        case cycler(Cycler)
        case joiner(Joiner)
    }

    /// Something that is not there, with the words to say so if the template insists.
    final class Undefined {
        let message: String
        init(_ message: String) { self.message = message }
    }

    final class List {
        let items: [Value]
        /// Levels of containers, this one included: bounded, so that walking and freeing a value is bounded.
        let depth: Int
        init(_ items: [Value], depth: Int) {
            self.items = items
            self.depth = depth
        }
    }

    /// Keys in the order they came. Looked up in a row: dictionaries in templates are small, and each look is charged.
    final class Dictionary {
        let entries: [(key: Value, value: Value)]
        let depth: Int
        init(_ entries: [(key: Value, value: Value)], depth: Int) {
            self.entries = entries
            self.depth = depth
        }

        func value(_ name: Text) -> Value? {
            for entry in entries {
                if case .text(let key) = entry.key, key.utf8 == name.utf8 { return entry.value }
            }
            return nil
        }
    }

    /// What `keys()`, `values()` and `items()` give: can be walked many times, not indexed.
    final class View {
        enum Part: String { case keys = "dict_keys", values = "dict_values", items = "dict_items" }
        let dictionary: Dictionary
        let part: Part
        init(_ dictionary: Dictionary, _ part: Part) {
            self.dictionary = dictionary
            self.part = part
        }
    }

    final class Range {
        let start: Int
        let step: Int
        let count: Int
        let stop: Int
        init(start: Int, stop: Int, step: Int, count: Int) {
            self.start = start
            self.stop = stop
            self.step = step
            self.count = count
        }

        func item(_ index: Int) -> Value { .int(start + index * step) }
    }

    /// What the lazy filters of jinja2 give: can be walked once. The items are made at once here.
    final class Iterator {
        private let items: [Value]
        private var used = 0
        /// Python's name of the type, for printing and messages.
        let typeName: String
        let depth: Int

        init(_ items: [Value], typeName: String, depth: Int) {
            self.items = items
            self.typeName = typeName
            self.depth = depth
        }

        func next() -> Value? {
            guard used < items.count else { return nil }
            used += 1
            return items[used - 1]
        }

        func rest() -> [Value] {
            defer { used = items.count }
            return Array(items[used...])
        }
    }

    final class Namespace {
        var entries: [(key: Text, value: Value)] = []

        func value(_ name: Text) -> Value? { entries.first { $0.key.utf8 == name.utf8 }?.value }

        func set(_ name: Text, _ value: Value) {
            if let place = entries.firstIndex(where: { $0.key.utf8 == name.utf8 }) {
                entries[place].value = value
            } else {
                entries.append((name, value))
            }
        }
    }

    final class MacroValue {
        let macro: Macro
        /// Where the macro was defined: it sees that scope as it is when the macro is called.
        let scope: Scope
        init(_ macro: Macro, _ scope: Scope) {
            self.macro = macro
            self.scope = scope
        }
    }

    final class Method {
        let receiver: Value
        let name: String
        let depth: Int
        init(_ receiver: Value, _ name: String, depth: Int) {
            self.receiver = receiver
            self.name = name
            self.depth = depth
        }
    }

    final class Cycler {
        let items: [Value]
        let depth: Int
        var at = 0
        init(_ items: [Value], depth: Int) {
            self.items = items
            self.depth = depth
        }
    }

    final class Joiner {
        let separator: Text
        var used = false
        init(_ separator: Text) { self.separator = separator }
    }

    /// The functions every template finds.
    enum Function: String, CaseIterable {
        case range, dict, namespace, cycler, joiner
        case raiseException = "raise_exception"
        case strftimeNow = "strftime_now"
    }

    enum Names {
        /// Symbols with a fixed number, in this order.
        static let builtin = ["loop", "caller", "varargs", "kwargs", "self"] + Function.allCases.map(\.rawValue)
        static let loop = 0
        static let caller = 1
        static let varargs = 2
        static let kwargs = 3
        static let firstFunction = 5
        static let constants: Set<String> = ["true", "false", "none", "True", "False", "None"]
    }

    /// Variables of one block. A name is looked up here, then outwards.
    final class Scope {
        let parent: Scope?
        private var symbols: [Symbol] = []
        private var values: [Value] = []
        var isRegistered = false

        init(parent: Scope?) { self.parent = parent }

        func find(_ symbol: Symbol) -> Value? {
            var scope = self
            while true {
                if let place = scope.symbols.firstIndex(of: symbol) { return scope.values[place] }
                guard let parent = scope.parent else { return nil }
                scope = parent
            }
        }

        func set(_ symbol: Symbol, _ value: Value) {
            if let place = symbols.firstIndex(of: symbol) {
                values[place] = value
            } else {
                symbols.append(symbol)
                values.append(value)
            }
        }

        func clear() {
            symbols = []
            values = []
        }
    }
}

extension Jinja.Value {
    typealias Value = Jinja.Value

    static var missing: Value { .undefined(Jinja.Undefined("the value is undefined")) }

    static func string(_ text: String) -> Value { .text(Jinja.Text(text)) }

    /// Levels of containers.
    var depth: Int {
        switch self {
        case .list(let list), .tuple(let list): list.depth
        case .dictionary(let dictionary): dictionary.depth
        case .view(let view): view.dictionary.depth + 1
        case .iterator(let iterator): iterator.depth
        case .loop(let loop): loop.depth
        case .method(let method): method.depth
        case .cycler(let cycler): cycler.depth
        default: 0
        }
    }

    var isUndefined: Bool {
        if case .undefined = self { return true }
        return false
    }

    /// Python's truth.
    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let value): value
        case .int(let value): value != 0
        case .double(let value): value != 0
        case .text(let text): !text.isEmpty
        case .list(let list), .tuple(let list): !list.items.isEmpty
        case .dictionary(let dictionary): !dictionary.entries.isEmpty
        case .view(let view): !view.dictionary.entries.isEmpty
        case .range(let range): range.count > 0
        case .iterator, .namespace, .macro, .loop, .function, .method, .cycler, .joiner: true
        }
    }

    /// The value as an integer where Python takes one: True is 1.
    var integer: Int? {
        switch self {
        case .int(let value): value
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }

    var number: Double? {
        switch self {
        case .double(let value): value
        default: integer.map(Double.init)
        }
    }

    /// Python's name of the type, for messages.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .int: "int"
        case .double: "float"
        case .text: "str"
        case .list: "list"
        case .tuple: "tuple"
        case .dictionary: "dict"
        case .view(let view): view.part.rawValue
        case .range: "range"
        case .iterator(let iterator): iterator.typeName
        case .namespace: "Namespace"
        case .macro: "Macro"
        case .loop: "LoopContext"
        case .function: "function"
        case .method: "builtin_function_or_method"
        case .cycler: "Cycler"
        case .joiner: "Joiner"
        }
    }
}
