extension Jinja {
    typealias Position = TemplateError.Position
    /// The number of a name in the template's name table.
    typealias Symbol = Int

    /// A template, read. All values in it are constants, so one tree serves any number of renderings at once.
    struct Program: Sendable {
        let body: [Statement]
        /// Names by symbol. The first are `Names.builtin`, in their order.
        let names: [String]
        let symbols: [String: Symbol]
    }

    indirect enum Statement: Sendable {
        case data(Text)
        case output(Expression, Position)
        case branch([(test: Expression, body: [Statement])], otherwise: [Statement], Position)
        case loop(Loop)
        case assign(Target, Expression, Position)
        /// `{% set x | filter %}…{% endset %}`
        case assignBlock(Target, filters: [Application], body: [Statement], Position)
        case macro(Macro)
        case callBlock(Macro, call: Expression, Position)
        case filterBlock([Application], body: [Statement], Position)
        case with([(Target, Expression)], body: [Statement], Position)
        /// `{% generation %}` marks what a model said; it changes nothing but opens a scope.
        case scope([Statement])
        case leaveLoop
        case nextTurn
    }

    struct Loop: Sendable {
        let target: Target
        let iterable: Expression
        let test: Expression?
        let body: [Statement]
        let otherwise: [Statement]
        let recursive: Bool
        let position: Position
    }

    struct Macro: Sendable {
        let name: String
        let symbol: Symbol?
        let parameters: [(name: String, symbol: Symbol)]
        /// The defaults of the last parameters.
        let defaults: [Expression]
        let body: [Statement]
        let takesVarargs: Bool
        let takesKwargs: Bool
        let takesCaller: Bool
        let position: Position
    }

    indirect enum Target: Sendable {
        case name(Symbol)
        case attribute(of: Symbol, Text)
        case tuple([Target])
    }

    /// A filter or test with its arguments: `name(arguments)`.
    struct Application: Sendable {
        let name: String
        let arguments: Arguments
        let position: Position
    }

    struct Arguments: Sendable {
        var positional: [Expression] = []
        var named: [(name: String, value: Expression)] = []
        /// `*value` and `**value`
        var spread: Expression?
        var spreadNamed: Expression?

        var isEmpty: Bool { positional.isEmpty && named.isEmpty && spread == nil && spreadNamed == nil }
    }

    enum BinaryOperator: Sendable { case add, subtract, multiply, divide, floorDivide, modulo, power }
    enum Comparison: Sendable { case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, isIn, isNotIn }

    indirect enum Expression: Sendable {
        case none
        case bool(Bool)
        case int(Int)
        case double(Double)
        case text(Text)
        case name(Symbol)
        case list([Expression])
        case tuple([Expression])
        case dictionary([(key: Expression, value: Expression)])
        case attribute(Expression, Text)
        case item(Expression, Expression)
        case slice(Expression, from: Expression?, to: Expression?, step: Expression?)
        case call(Expression, Arguments)
        case filter(Expression, Application)
        case test(Expression, Application)
        case negate(Expression)
        case plus(Expression)
        case not(Expression)
        /// Operators of one rank in a row, worked from the left: flat, so that long sums need no depth.
        case arithmetic(Expression, [(BinaryOperator, Expression)])
        case concatenate([Expression])
        case compare(Expression, [(Comparison, Expression)])
        case and([Expression])
        case or([Expression])
        case choose(test: Expression, then: Expression, otherwise: Expression?)
    }
}
