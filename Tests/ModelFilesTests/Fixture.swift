import Foundation
import Testing

/// The small files that are checked in beside these tests.
enum Fixture {
    /// The real model's path; nil where none is given. Where it is given and does not exist, tests fail and do not skip.
    static let realModel = ProcessInfo.processInfo.environment["STAFFEL_TEST_MODEL"]

    static func path(_ name: String) throws -> String {
        let folder = try #require(Bundle.module.resourceURL)
        return folder.appendingPathComponent("Fixtures").appendingPathComponent(name).path
    }

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name))))
    }
}
