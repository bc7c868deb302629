//! Images from a real registry and to it: Debian's `docker-registry`, on loopback.

use std::fs;

use it::{Instance, Registry};

#[test]
fn an_image_goes_to_a_registry_and_comes_back_the_same() {
    let Some(instance) = Instance::start() else { return };
    let Some(_registry) = Registry::start(&instance, 5005) else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["tag", "demo", "localhost:5005/a/demo:1"]);
    let pushed = instance.ok(&["push", "localhost:5005/a/demo:1"]);
    let digest = pushed.lines().find_map(|line| line.strip_prefix("1: digest: ")).unwrap();
    let digest = digest.split(' ').next().unwrap().to_owned();
    let again = instance.ok(&["push", "localhost:5005/a/demo:1"]);
    assert!(again.contains("Layer already exists"), "{again}");
    instance.ok(&["tag", "demo", "localhost:5005/b/demo:2"]);
    let mounted = instance.ok(&["push", "localhost:5005/b/demo:2"]);
    assert!(mounted.contains("Mounted from a/demo"), "{mounted}");

    instance.ok(&["rmi", "-f", "demo", "localhost:5005/a/demo:1", "localhost:5005/b/demo:2"]);
    let pulled = instance.ok(&["pull", "localhost:5005/a/demo:1"]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert!(pulled.contains("Served by localhost:5005"), "{pulled}");
    assert!(pulled.contains("Downloaded newer image for localhost:5005/a/demo:1"), "{pulled}");
    let again = instance.ok(&["pull", "localhost:5005/a/demo:1"]);
    assert!(again.contains("Already exists") && again.contains("Image is up to date"), "{again}");
    let quiet = instance.ok(&["pull", "-q", &format!("localhost:5005/a/demo@{digest}")]);
    assert_eq!(quiet, format!("localhost:5005/a/demo@{digest}"));

    let run = ["run", "--rm", "--network", "none", "--pull", "never", "localhost:5005/b/demo:2"];
    let never = instance.run(&[&run[..], &["true"]].concat());
    assert!(never.code == 125 && never.err.contains("No such image"), "{never:?}");
    let run = ["run", "--rm", "--network", "none", "localhost:5005/b/demo:2", "echo", "hello"];
    let missing = instance.run(&run);
    assert_eq!((missing.code, missing.out.as_str()), (0, "hello\n"), "{missing:?}");
    assert!(missing.err.contains("Unable to find image 'localhost:5005/b/demo:2' locally"));
    let absent = instance.run(&["pull", "localhost:5005/a/demo:absent"]);
    assert!(absent.code == 1 && absent.err.contains("manifest unknown"), "{absent:?}");
    assert_eq!(fs::read_dir(instance.path("data/content/tmp")).unwrap().count(), 0);
}

#[test]
fn a_mirror_serves_what_it_has_and_the_registry_the_rest() {
    let Some(instance) = Instance::start() else { return };
    let Some(_mirror) = Registry::start(&instance, 5006) else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["tag", "demo", "localhost:5006/library/thing:1"]);
    instance.ok(&["push", "-q", "localhost:5006/library/thing:1"]);
    let file = "[host.\"docker.io\"]\nmirrors = [\"http://localhost:1\", \"localhost:5006\"]\n";
    fs::write(instance.path("data/registries.toml"), file).unwrap();
    let pulled = instance.ok(&["pull", "thing:1"]);
    assert!(pulled.contains("Served by mirror localhost:5006"), "{pulled}");
    assert!(pulled.ends_with("docker.io/library/thing:1"), "{pulled}");
}
