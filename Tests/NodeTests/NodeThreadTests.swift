import Dispatch
import Foundation
import Testing

@testable import Node

@Suite struct NodeThreadTests {
    private struct Fault: Error, Equatable { let number: Int }

    @Test func whatFailsBeforeTheStartIsThrownByInit() {
        #expect(throws: Fault(number: 1)) {
            _ = try NodeThread(name: "test") { _ in throw Fault(number: 1) }
        }
    }

    @Test func whatFailsLaterIsThrownToEachWhoWaits() async throws {
        let gate = DispatchSemaphore(value: 0)
        let thread = try NodeThread(name: "test") { started in
            started()
            gate.wait()
            throw Fault(number: 2)
        }
        await withTaskGroup(of: Fault?.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    do { try await thread.waitUntilEnded() } catch { return error as? Fault }
                    return nil
                }
            }
            gate.signal()
            for await fault in group { #expect(fault == Fault(number: 2)) }
        }
        await #expect(throws: Fault(number: 2)) { try await thread.waitUntilEnded() }
    }

    @Test func aBodyThatEndsInOrderEndsTheWait() async throws {
        let thread = try NodeThread(name: "test") { started in started() }
        try await thread.waitUntilEnded()
        try await thread.waitUntilEnded()
        try await NodeThread(name: "test") { _ in }.waitUntilEnded()
    }

    @Test func theBodyHasAThreadOfItsOwnWithItsName() async throws {
        let caller = pthread_self()
        let thread = try NodeThread(name: "stage 7") { started in
            started()
            // What `top -H` shows.
            let name = try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
            guard name == "stage 7\n", pthread_self() != caller else { throw Fault(number: 3) }
        }
        try await thread.waitUntilEnded()
    }

    @Test func anErrorSaysItsCause() {
        #expect(NodeError(.ended, "it ended").description == "it ended")
        #expect("\(NodeError(.ended, "it ended", cause: Fault(number: 4)))" == "it ended (Fault(number: 4))")
    }
}
