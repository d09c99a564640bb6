import Foundation

/// The terminal as a full screen of lines, or plain output where stdout is none.
final class Screen {
    struct Size: Equatable {
        var columns: Int
        var rows: Int
    }

    /// What is assumed where there is no terminal to ask.
    static let plainSize = Size(columns: 80, rows: 24)

    let isTerminal: Bool
    /// Nobody sees what is shown any more.
    private(set) var isGone = false
    private var saved: termios?
    private var isRestored = false

    /// Takes the alternate screen, hides the cursor, and has keys come at once and unechoed.
    init() {
        isTerminal = isatty(STDOUT_FILENO) == 1
        guard isTerminal else { return }
        var mode = termios()
        if isatty(STDIN_FILENO) == 1, tcgetattr(STDIN_FILENO, &mode) == 0 {
            saved = mode
            mode.c_lflag &= ~tcflag_t(ICANON | ECHO)
            tcsetattr(STDIN_FILENO, TCSANOW, &mode)
        }
        write("\u{1B}[?1049h\u{1B}[?25l")
    }

    deinit { restore() }

    /// Gives the terminal back as it was. More than once does no harm.
    func restore() {
        guard isTerminal, !isRestored else { return }
        isRestored = true
        write("\u{1B}[?25h\u{1B}[?1049l")
        if var saved { tcsetattr(STDIN_FILENO, TCSANOW, &saved) }
    }

    var size: Size {
        var window = winsize()
        guard isTerminal, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &window) == 0, window.ws_col > 0, window.ws_row > 0 else { return Self.plainSize }
        return Size(columns: Int(window.ws_col), rows: Int(window.ws_row))
    }

    /// Draws over what is there, so that nothing flickers.
    func show(_ lines: [String]) {
        guard isTerminal else { return write(lines.joined(separator: "\n") + "\n\n") }
        write("\u{1B}[H" + lines.map { $0 + "\u{1B}[K" }.joined(separator: "\r\n") + "\u{1B}[J")
    }

    /// Whether q came in since the last call. Other keys are thrown away.
    func isQuitPressed() -> Bool {
        guard saved != nil else { return false }
        var pressed = false
        var item = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        while poll(&item, 1, 0) > 0, item.revents & Int16(POLLIN) != 0 {
            var bytes = [UInt8](repeating: 0, count: 64)
            let count = read(STDIN_FILENO, &bytes, bytes.count)
            guard count > 0 else { break }
            pressed = pressed || bytes[..<count].contains { $0 == UInt8(ascii: "q") || $0 == UInt8(ascii: "Q") }
        }
        return pressed
    }

    /// A reader that is gone (`staffel top | head`) is no fault.
    private func write(_ text: String) {
        do { try FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } catch { isGone = true }
    }
}
