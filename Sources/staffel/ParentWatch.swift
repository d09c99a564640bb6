import Foundation

/// Ends this process when the one that started it is gone: its end of our stdin closes, also when it was killed.
enum ParentWatch {
    /// Used by the children of `staffel up`. SIGINT is left to the parent, which ends its children in order.
    static func start() {
        signal(SIGINT, SIG_IGN)
        let thread = Thread {
            var byte: UInt8 = 0
            while true {
                let count = read(STDIN_FILENO, &byte, 1)
                if count == 0 || (count < 0 && errno != EINTR) { break }
            }
            kill(getpid(), SIGTERM)
        }
        thread.stackSize = 64 << 10
        thread.start()
    }
}
