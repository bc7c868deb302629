//! The comparison of walls has a figure in every place.

use it::Instance;

#[test]
fn every_isolation_stands_beside_the_bare_process() {
    let Some(instance) = Instance::start() else { return };
    let text = instance.ok(&["bench", "isolation", "--rounds", "1", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let costs = shown["costs"].as_array().expect("a list");
    let names: Vec<_> = costs.iter().map(|cost| cost["isolation"].as_str().unwrap()).collect();
    assert_eq!(names, ["bare", "container", "host"]);
    for cost in costs {
        for figure in [
            "start_to_exit_ms",
            "idle_memory_bytes",
            "cpu_ops_per_s",
            "syscall_ns",
            "disk_write_bytes_per_s",
        ] {
            assert!(cost[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {cost}");
        }
    }
    assert_eq!(instance.ok(&["ps", "-aq"]), "", "nothing is left of it");
    let left = std::fs::read_dir(instance.path("data")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("bench"));
    assert_eq!(left.count(), 0);
}
