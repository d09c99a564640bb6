// swift-tools-version: 6.1
import PackageDescription

// What each target is for, and what it may import, is in ARCHITECTURE.md ("Targets and borders").

/// Kernels are optimised in debug builds too, or the tests that compare bits would take minutes;
/// contraction is off because a fused multiply-add happens only where the arithmetic contract says so.
let kernelFlags: [CSetting] = [.unsafeFlags(["-O3", "-ffp-contract=off", "-fno-math-errno", "-std=gnu11"])]

let package = Package(
    name: "staffel",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "staffel", targets: ["staffel"]),
        .executable(name: "lab", targets: ["lab"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: ["YAML"]),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.33.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // C
        .target(name: "CKernels", cSettings: kernelFlags, linkerSettings: [.linkedLibrary("m"), .linkedLibrary("pthread")]),
        .target(name: "CWire", linkerSettings: [.linkedLibrary("protobuf-c")]),
        .systemLibrary(name: "CZeroMQ"),
        .systemLibrary(name: "CPCRE2"),

        // Swift
        .target(name: "ModelFiles", dependencies: ["CKernels", .product(name: "Crypto", package: "swift-crypto")]),
        .target(name: "ClusterCore", dependencies: [.product(name: "Collections", package: "swift-collections")]),
        .target(name: "Simulator", dependencies: ["ClusterCore", .product(name: "Collections", package: "swift-collections")]),
        .target(name: "ZeroMQ", dependencies: ["CZeroMQ"]),
        .target(name: "Wire", dependencies: ["CWire", "ClusterCore"]),
        .target(name: "Engine", dependencies: ["CKernels", "ModelFiles"]),
        .target(name: "Prompt", dependencies: ["ModelFiles", "CPCRE2"]),
        .target(
            name: "Node",
            dependencies: [
                "ClusterCore", "Wire", "ZeroMQ", "Engine", "ModelFiles",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .target(
            name: "Gateway",
            dependencies: [
                "ClusterCore", "Wire", "ZeroMQ", "Prompt",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]),
        .executableTarget(
            name: "staffel",
            dependencies: [
                "CKernels", "ModelFiles", "ClusterCore", "ZeroMQ", "Wire", "Engine", "Prompt", "Node", "Gateway",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        .executableTarget(
            name: "lab",
            dependencies: [
                "CKernels", "ModelFiles", "ClusterCore", "ZeroMQ", "Engine", "Prompt", "Simulator",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // Tests
        .target(name: "AllocationCounter", path: "Tests/AllocationCounter"),
        .testTarget(name: "CKernelsTests", dependencies: ["CKernels"], resources: [.copy("Fixtures")]),
        .testTarget(name: "ModelFilesTests", dependencies: ["ModelFiles", "CKernels"], resources: [.copy("Fixtures")]),
        .testTarget(name: "ClusterCoreTests", dependencies: ["ClusterCore"], resources: [.copy("Transcripts")]),
        .testTarget(name: "SimulatorTests", dependencies: ["Simulator", "ClusterCore"]),
        .testTarget(name: "ZeroMQTests", dependencies: ["ZeroMQ", "CZeroMQ"]),
        .testTarget(name: "WireTests", dependencies: ["Wire", "CWire", "ClusterCore"]),
        .testTarget(name: "EngineTests", dependencies: ["Engine", "ModelFiles", "CKernels", "AllocationCounter"], resources: [.copy("Fixtures")]),
        .testTarget(name: "PromptTests", dependencies: ["Prompt", "ModelFiles"], resources: [.copy("Fixtures")]),
        .testTarget(
            name: "NodeTests",
            dependencies: [
                "Node", "ClusterCore", "Wire", "ZeroMQ", "Engine", "ModelFiles", "AllocationCounter",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .testTarget(
            name: "FuzzTests", dependencies: ["Wire", "ClusterCore", "Gateway", "Prompt", "ModelFiles"], exclude: ["Corpus"]),
        .testTarget(name: "GatewayTests", dependencies: [
                "Gateway", "ClusterCore", "Prompt", "Wire", "ZeroMQ", .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
    ],
    swiftLanguageModes: [.v6]
)
