//! Room on the disk: counting it, and making some by pruning.

use std::{fs, path::Path};

use it::Instance;

/// Bytes of every regular file below a directory.
fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let metadata = entry.metadata().expect("nobody removes it");
            if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// What `system df` says of one kind of thing.
fn row(instance: &Instance, kind: &str) -> serde_json::Value {
    let lines = instance.ok(&["system", "df", "--format", "json"]);
    let rows = lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON"));
    let mut rows = rows.filter(|row: &serde_json::Value| row["Type"] == kind);
    rows.next().expect("every kind has a row")
}

#[test]
fn stopped_containers_go_when_their_labels_say_so_and_running_ones_stay() {
    let Some(instance) = Instance::start() else { return };
    let run = |name: &str, label: &str, command: &[&str]| {
        let mut args = vec!["run", "-d", "--network", "none", "--name", name, "--label", label];
        args.push("demo");
        args.extend(command);
        instance.ok(&args)
    };
    run("keep", "k=1", &["sleep", "1000"]);
    let one = run("one", "k=1", &["true"]);
    run("two", "k=2", &["true"]);
    instance.ok(&["wait", "one", "two"]);
    let names = || instance.ok(&["ps", "-a", "--format", "{{.Names}}"]);

    let asked = instance.run_with(&["container", "prune"], b"n\n");
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.out.contains("WARNING! This will remove all stopped containers."), "{asked:?}");
    assert_eq!(names().lines().count(), 3);
    let none = instance.ok(&["container", "prune", "-f", "--filter", "until=1h"]);
    assert_eq!(none, "Total reclaimed space: 0B");

    let pruned = instance.ok(&["container", "prune", "-f", "--filter", "label=k=1"]);
    assert_eq!(pruned, format!("Deleted Containers:\n{one}\n\nTotal reclaimed space: 0B"));
    let asked = instance.run_with(&["container", "prune"], b"y\n");
    assert!(asked.out.contains("Deleted Containers:"), "{asked:?}");
    assert_eq!(names(), "keep");
}

#[test]
fn what_a_container_wrote_is_counted_and_freed() {
    let Some(instance) = Instance::start() else { return };
    let write = "echo 0123456789 > /written";
    instance.ok(&["run", "--network", "none", "--name", "writer", "demo", "sh", "-c", write]);
    let size = instance.ok(&["ps", "-as", "--format", "{{.Size}}"]);
    assert!(size.starts_with("11B (virtual "), "{size}");
    let table = instance.ok(&["ps", "-a", "--size"]);
    assert!(table.lines().next().is_some_and(|line| line.ends_with("SIZE")), "{table}");
    let shown = |template| instance.ok(&["inspect", "-s", "--format", template, "writer"]);
    assert_eq!(shown("{{.SizeRw}}"), "11");
    let root: u64 = shown("{{.SizeRootFs}}").parse().expect("a number");
    assert!(root > 11, "the image is counted too: {root}");
    let containers = row(&instance, "Containers");
    assert_eq!((&containers["Size"], &containers["Active"]), (&"11B".into(), &"0".into()));
    assert_eq!(containers["Reclaimable"], "11B (100%)");
    let fill = "echo 0123456 > /v/file";
    instance.ok(&["run", "--network", "none", "-v", "/v", "demo", "sh", "-c", fill]);
    let volumes = row(&instance, "Local Volumes");
    assert_eq!((&volumes["TotalCount"], &volumes["Size"]), (&"1".into(), &"8B".into()));
    let pruned = instance.ok(&["system", "prune", "-f", "--volumes"]);
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
    assert!(pruned.contains("Deleted Volumes:"), "{pruned}");
    // The volume's own record counts too.
    assert!(!pruned.ends_with("Total reclaimed space: 11B"), "{pruned}");
    // The image has a name.
    assert_ne!(instance.ok(&["images", "-q"]), "");
}

#[test]
fn images_go_as_far_as_nobody_uses_them_and_df_has_said_how_much() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--network", "none", "--name", "user", "demo", "sleep", "1000"]);
    let rootfs = instance.path("root");
    fs::create_dir(&rootfs).expect("it is new");
    let import = |name: &str, text: &str, label: &str| {
        fs::write(rootfs.join("file"), text).expect("it is ours");
        let tar = instance.path("root.tar");
        let made = std::process::Command::new("tar");
        let mut made = made;
        let made = made.arg("-cf").arg(&tar).arg("-C").arg(&rootfs).arg(".").status();
        assert!(made.expect("tar runs").success());
        let change = format!("LABEL {label}");
        instance.ok(&["import", "--change", &change, "--name", name, &tar.to_string_lossy()])
    };
    import("old", &"one".repeat(10_000), "stage=build");
    // The name moves, and leaves an image without one.
    import("old", &"two".repeat(10_000), "stage=ship");
    let content = instance.path("data/content");
    let on_disk = || bytes_below(&content.join("layers")) + bytes_below(&content.join("blobs"));

    let kept = instance.ok(&["image", "prune", "-af", "--filter", "label=stage=test"]);
    assert_eq!(kept, "Total reclaimed space: 0B");
    let before = on_disk();
    let dangling = instance.ok(&["image", "prune", "-f"]);
    assert!(dangling.starts_with("Deleted Images:\ndeleted: sha256:"), "{dangling}");
    assert!(on_disk() < before);
    let asked = instance.run_with(&["image", "prune", "-a"], b"");
    assert!(asked.out.contains("without at least one container"), "{asked:?}");

    let reclaimable = || {
        let verbose = instance.ok(&["system", "df", "-v"]);
        assert!(verbose.contains("UNIQUE SIZE") && verbose.contains("user"), "{verbose}");
        ["Images", "Image Archives"].map(|kind| row(&instance, kind)["Reclaimable"].clone())
    };
    assert!(reclaimable().iter().all(|part| !part.as_str().unwrap_or("").starts_with("0B")));
    let before = on_disk();
    let pruned = instance.ok(&["image", "prune", "-af", "--filter", "label!=stage=build"]);
    assert!(pruned.contains("untagged: old:latest"), "{pruned}");
    let freed = before - on_disk();
    assert!(pruned.ends_with(&format!("Total reclaimed space: {}", human(freed))), "{pruned}");
    assert!(reclaimable().iter().all(|part| part.as_str().unwrap_or("").starts_with("0B")));
    assert_eq!(instance.ok(&["images", "--format", "{{.Repository}}"]), "demo");
    let total = row(&instance, "Images")["Size"].clone();
    assert_eq!(total, human(bytes_below(&content.join("layers"))));
}

/// Docker's words for a number of bytes below ten million, with four digits.
fn human(bytes: u64) -> String {
    let (unit, scale) = match bytes {
        0..1_000 => return format!("{bytes}B"),
        1_000..1_000_000 => ("kB", 1e3),
        _ => ("MB", 1e6),
    };
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let value = bytes as f64 / scale;
    let decimals = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.decimals$}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}
