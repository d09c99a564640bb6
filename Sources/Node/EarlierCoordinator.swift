extension StateDirectory {
    private static let startedFile = "started"

    /// Whether a coordinator was started with this folder before; from now on one was.
    func noteStart() throws -> Bool {
        if try read(Self.startedFile) != nil { return true }
        try write(Self.startedFile, "A coordinator was started with this folder. The next one first waits for the workers that still serve its plan.\n")
        return false
    }
}
