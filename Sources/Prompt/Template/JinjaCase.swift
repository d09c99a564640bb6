// Upper, lower and title case, and questions about all characters, as Python's str answers them.
extension Jinja.Text {
    private typealias Scalar = Unicode.Scalar

    var uppercased: Jinja.Text {
        if isASCII { return Jinja.Text(utf8.map { $0 >= 0x61 && $0 <= 0x7A ? $0 - 32 : $0 }) }
        return mapped { $0.properties.uppercaseMapping }
    }

    var lowercased: Jinja.Text {
        if isASCII { return Jinja.Text(utf8.map { $0 >= 0x41 && $0 <= 0x5A ? $0 + 32 : $0 }) }
        let scalars = self.scalars
        var out = ""
        for (index, scalar) in scalars.enumerated() { out += Self.lower(scalar, at: index, in: scalars) }
        return Jinja.Text(out)
    }

    var capitalized: Jinja.Text {
        let scalars = self.scalars
        var out = ""
        for (index, scalar) in scalars.enumerated() {
            out += index == 0 ? scalar.properties.titlecaseMapping : Self.lower(scalar, at: index, in: scalars)
        }
        return Jinja.Text(out)
    }

    /// `str.title`: a letter after none is in title case, one after a letter in lower case.
    var titled: Jinja.Text {
        let scalars = self.scalars
        var out = ""
        var afterCased = false
        for (index, scalar) in scalars.enumerated() {
            out += afterCased ? Self.lower(scalar, at: index, in: scalars) : scalar.properties.titlecaseMapping
            afterCased = scalar.properties.isCased
        }
        return Jinja.Text(out)
    }

    /// The `title` filter's words begin after white space and opening brackets, and before a hyphen's end.
    var wordsTitled: Jinja.Text {
        let scalars = self.scalars
        var out = ""
        var word: [Unicode.Scalar] = []
        func close() {
            guard let first = word.first else { return }
            let rest = Array(word.dropFirst())
            out += first.properties.uppercaseMapping
            for (index, scalar) in rest.enumerated() { out += Self.lower(scalar, at: index, in: rest) }
            word = []
        }
        for scalar in scalars {
            if Jinja.isSpace(scalar.value) || "-({[<".unicodeScalars.contains(scalar) {
                close()
                out.unicodeScalars.append(scalar)
            } else {
                word.append(scalar)
            }
        }
        close()
        return Jinja.Text(out)
    }

    var caseSwapped: Jinja.Text {
        let scalars = self.scalars
        var out = ""
        for (index, scalar) in scalars.enumerated() {
            if scalar.properties.isUppercase {
                out += Self.lower(scalar, at: index, in: scalars)
            } else {
                out += scalar.properties.isLowercase ? scalar.properties.uppercaseMapping : String(Character(scalar))
            }
        }
        return Jinja.Text(out)
    }

    private func mapped(_ change: (Unicode.Scalar) -> String) -> Jinja.Text {
        var out = ""
        for scalar in scalars { out += change(scalar) }
        return Jinja.Text(out)
    }

    /// Lower case; a capital sigma at a word's end becomes the final one (Unicode, "Final_Sigma").
    private static func lower(_ scalar: Unicode.Scalar, at index: Int, in scalars: [Unicode.Scalar]) -> String {
        guard scalar == "\u{03A3}" else { return scalar.properties.lowercaseMapping }
        let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
        let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
        return isFinal ? "\u{03C2}" : "\u{03C3}"
    }

    var isLowercase: Bool { isCase { $0.properties.isLowercase } }
    var isUppercase: Bool { isCase { $0.properties.isUppercase } }

    private func isCase(_ matches: (Unicode.Scalar) -> Bool) -> Bool {
        var found = false
        for scalar in scalars {
            if matches(scalar) {
                found = true
            } else if scalar.properties.isUppercase || scalar.properties.isLowercase
                || scalar.properties.generalCategory == .titlecaseLetter
            {
                return false
            }
        }
        return found
    }

    /// The `is…` methods by name.
    func isAll(_ name: String) throws(TemplateError) -> Bool {
        func all(_ matches: (Unicode.Scalar.Properties) -> Bool) -> Bool {
            !isEmpty && scalars.allSatisfy { matches($0.properties) }
        }
        switch name {
        case "isascii": return isASCII
        case "isspace": return isSpace
        case "islower": return isLowercase
        case "isupper": return isUppercase
        case "isprintable": return scalars.allSatisfy(Jinja.isPrintable)
        case "isalpha": return all { Self.isLetter($0) }
        case "isdecimal": return all { $0.numericType == .decimal }
        case "isdigit": return all { $0.numericType == .decimal || $0.numericType == .digit }
        case "isnumeric": return all { $0.numericType != nil }
        case "isalnum": return all { Self.isLetter($0) || $0.numericType != nil }
        case "isidentifier":
            guard let first = scalars.first else { return false }
            return (first == "_" || first.properties.isXIDStart) && scalars.dropFirst().allSatisfy(\.properties.isXIDContinue)
        default: throw TemplateError(.unsupported, "the method str.\(name) is not known")
        }
    }

    private static func isLetter(_ properties: Unicode.Scalar.Properties) -> Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }
}
