@testable import ClusterCore

/// For tests of a cluster with one pipeline.
extension Coordinator {
    var deployment: Deployment { fleet[0].deployment }
    var watch: PlanWatch { fleet[0].watch }
    var scheduler: Scheduler { fleet[0].scheduler }
}
