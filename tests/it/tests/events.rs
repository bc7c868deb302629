//! `events`: what happens is told as it happens, and again to those who ask later.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use it::Instance;

/// A client that listens.
struct Listener {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listener {
    fn start(instance: &Instance, args: &[&str]) -> Listener {
        let mut command = instance.command(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Listener { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the listener runs");
        line.trim_end().to_owned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const ACTIONS: &str = "{{.Type}} {{.Action}}";

#[test]
fn a_containers_life_is_told_live_and_again() {
    let Some(instance) = Instance::start() else { return };
    let image = instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    assert_eq!(image, "");
    let filter = ["--filter", "container=web", "--format", ACTIONS];
    let mut live = Listener::start(&instance, &[&["events", "--since", "0"], &filter[..]].concat());
    let run =
        ["run", "-d", "--init", "--name", "web", "--network", "none", "--label", "tier=front"];
    let id = instance.ok(&[&run[..], &["demo", "sleep", "infinity"]].concat());
    instance.ok(&["exec", "web", "true"]);
    instance.ok(&["pause", "web"]);
    instance.ok(&["unpause", "web"]);
    instance.ok(&["stop", "web"]);
    instance.ok(&["rm", "web"]);
    let want = [
        "container create",
        "container start",
        "container exec_create: true",
        "container exec_start: true",
        "container exec_die",
        "container pause",
        "container unpause",
        "container kill",
        "container die",
        "container stop",
        "container destroy",
    ];
    for word in want {
        assert_eq!(live.line(), word);
    }
    drop(live);
    let again = [&["system", "events", "--since", "10m", "--until", "0s"], &filter[..]].concat();
    assert_eq!(instance.ok(&again).lines().collect::<Vec<_>>(), want);

    let die = ["events", "--since", "10m", "--until", "0s", "--filter", "event=die"];
    let labelled = [&die[..], &["--filter", "label=tier=front"]].concat();
    let line = instance.ok(&labelled);
    let told = format!("container die {id} (execDuration=");
    assert!(line.contains(&told) && line.contains("exitCode=143, image=demo"), "{line}");
    assert!(line.ends_with("name=web, tier=front)") && line.contains('Z'), "{line}");
    let json = instance.ok(&[&labelled[..], &["--format", "json"]].concat());
    assert!(json.starts_with(&format!("{{\"status\":\"die\",\"id\":\"{id}\"")), "{json}");
    assert!(json.contains("\"scope\":\"local\",\"time\":"), "{json}");
}

#[test]
fn images_the_daemon_and_signals_are_told() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "web", "--network", "none", "demo", "sleep", "100"]);
    instance.ok(&["tag", "demo", "other:1"]);
    instance.ok(&["rmi", "other:1"]);
    instance.ok(&["kill", "-s", "KILL", "web"]);
    instance.ok(&["wait", "web"]);
    let past = ["events", "--since", "10m", "--until", "0s", "--format"];
    let ask = |format: &str, filter: &str| {
        instance.ok(&[&past[..], &[format, "--filter", filter]].concat())
    };
    let image = "{{.Action}} {{.Actor.Attributes.name}}";
    assert_eq!(ask(image, "type=image"), "load demo:latest\ntag other:1\nuntag other:1");
    assert_eq!(ask("{{.Action}}", "type=daemon"), "start");
    let kill = "{{.Actor.Attributes.signal}}{{.Actor.Attributes.exitCode}}";
    assert_eq!(ask(kill, "event=kill"), "9");
    let bad = instance.run(&["events", "--filter", "type=nonsense"]);
    assert!(bad.code == 1 && bad.err.contains("use one of"), "{bad:?}");
    let bad = instance.run(&["events", "--since", "yesterday"]);
    assert!(bad.code == 1 && bad.err.contains("is no time"), "{bad:?}");
}
