import ArgumentParser

/// Flags that `staffel up` gives to its children.
struct ChildOptions: ParsableArguments {
    @Flag(help: .hidden)
    var exitWithStdin = false

    func apply() {
        if exitWithStdin { ParentWatch.start() }
    }
}
