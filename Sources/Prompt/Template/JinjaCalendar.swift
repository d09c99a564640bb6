extension Jinja {
    /// A moment as a calendar shows it (proleptic Gregorian), and C's strftime over it in the C locale.
    struct Calendar {
        let year: Int
        let month: Int
        let day: Int
        /// 0 is Sunday.
        let weekday: Int
        /// 1 is January 1st.
        let yearDay: Int
        let hour: Int
        let minute: Int
        let second: Int
        let secondsSinceEpoch: Int

        init(_ clock: TemplateClock) {
            // Ten thousand years either way keep the year within the four digits that Python's dates have.
            let bound = 2_000_000_000_000
            let offset = max(-86_400, min(86_400, clock.utcOffsetSeconds))
            secondsSinceEpoch = max(-bound / 40, min(bound / 8, clock.secondsSinceEpoch))
            let local = secondsSinceEpoch + offset
            let days = Self.floorDivide(local, 86_400)
            let inDay = local - days * 86_400
            hour = inDay / 3600
            minute = inDay % 3600 / 60
            second = inDay % 60
            weekday = Self.floorModulo(days + 4, 7)
            (year, month, day) = Self.date(days)
            yearDay = days - Self.days(year: year, month: 1, day: 1) + 1
        }

        private static func floorDivide(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((-a + b - 1) / b) }
        private static func floorModulo(_ a: Int, _ b: Int) -> Int { a - floorDivide(a, b) * b }

        /// The date `days` after 1970-01-01. Years are counted from March, so that the leap day comes last.
        private static func date(_ days: Int) -> (Int, Int, Int) {
            let shifted = days + 719_468
            let era = floorDivide(shifted, 146_097)
            let inEra = shifted - era * 146_097
            let yearOfEra = (inEra - inEra / 1460 + inEra / 36_524 - inEra / 146_096) / 365
            let inYear = inEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
            let marchMonth = (5 * inYear + 2) / 153
            let day = inYear - (153 * marchMonth + 2) / 5 + 1
            let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
            return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
        }

        private static func days(year: Int, month: Int, day: Int) -> Int {
            let year = month <= 2 ? year - 1 : year
            let era = floorDivide(year, 400)
            let yearOfEra = year - era * 400
            let inYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
            return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + inYear - 719_468
        }

        private static let months = [
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
            "December",
        ]
        private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

        func formatted(_ format: Text) throws(TemplateError) -> Text {
            var out = ""
            var padding: Character?
            var inDirective = false
            for character in format.string.unicodeScalars.map(Character.init) {
                if !inDirective {
                    if character == "%" { inDirective = true } else { out.append(character) }
                } else if character == "-" || character == "_" || character == "0", padding == nil {
                    padding = character
                } else {
                    out += try directive(character, padding)
                    inDirective = false
                    padding = nil
                }
            }
            if inDirective { out += "%" + (padding.map(String.init) ?? "") }
            return Text(out)
        }

        private func directive(_ letter: Character, _ padding: Character?) throws(TemplateError) -> String {
            func number(_ value: Int, _ width: Int, _ pad: Character = "0") -> String {
                let digits = String(value)
                let pad = padding == "_" ? " " : padding == "0" ? "0" : pad
                return padding == "-" ? digits : String(repeating: pad, count: max(0, width - digits.count)) + digits
            }
            let hour12 = hour % 12 == 0 ? 12 : hour % 12
            switch letter {
            case "a": return String(Self.weekdays[weekday].prefix(3))
            case "A": return Self.weekdays[weekday]
            case "b", "h": return String(Self.months[month - 1].prefix(3))
            case "B": return Self.months[month - 1]
            case "c": return try all("%a %b %e %H:%M:%S %Y")
            case "C": return number(year / 100, 2)
            case "d": return number(day, 2)
            case "D", "x": return try all("%m/%d/%y")
            case "e": return number(day, 2, " ")
            case "f": return "000000"
            case "F": return try all("%Y-%m-%d")
            case "g": return number(isoWeek.year % 100, 2)
            case "G": return number(isoWeek.year, 4)
            case "H": return number(hour, 2)
            case "I": return number(hour12, 2)
            case "j": return number(yearDay, 3)
            case "k": return number(hour, 2, " ")
            case "l": return number(hour12, 2, " ")
            case "m": return number(month, 2)
            case "M": return number(minute, 2)
            case "n": return "\n"
            case "p": return hour < 12 ? "AM" : "PM"
            case "P": return hour < 12 ? "am" : "pm"
            case "r": return try all("%I:%M:%S %p")
            case "R": return try all("%H:%M")
            case "S": return number(second, 2)
            case "t": return "\t"
            case "T", "X": return try all("%H:%M:%S")
            case "u": return number(weekday == 0 ? 7 : weekday, 1)
            case "U": return number((yearDay + 6 - weekday) / 7, 2)
            case "V": return number(isoWeek.week, 2)
            case "w": return number(weekday, 1)
            case "W": return number((yearDay + 6 - (weekday + 6) % 7) / 7, 2)
            case "y": return number(year % 100, 2)
            case "Y": return number(year, 4)
            // Python's now() knows no zone, and these say so by saying nothing.
            case "z", "Z": return ""
            case "%": return "%"
            default: throw TemplateError(.unsupported, "strftime_now does not know %\(letter)")
            }
        }

        private func all(_ format: Text) throws(TemplateError) -> String { try formatted(format).string }

        /// ISO 8601: weeks begin on Monday, the first one holds the year's first Thursday.
        private var isoWeek: (year: Int, week: Int) {
            let mondayBased = (weekday + 6) % 7
            let week = (yearDay - mondayBased + 9) / 7
            if week < 1 { return (year - 1, Self.weeks(in: year - 1)) }
            if week > Self.weeks(in: year) { return (year + 1, 1) }
            return (year, week)
        }

        private static func weeks(in year: Int) -> Int {
            let first = floorModulo(days(year: year, month: 1, day: 1) + 4, 7)
            let isLeap = days(year: year + 1, month: 1, day: 1) - days(year: year, month: 1, day: 1) == 366
            return first == 4 || (isLeap && first == 3) ? 53 : 52
        }
    }
}
