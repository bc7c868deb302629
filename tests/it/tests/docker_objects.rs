//! The stock docker client on images, volumes and the daemon itself; and what is no docker client.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
};

use it::{Instance, wait_until};
use serde_json::Value;

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    let instance = Instance::start()?;
    // The demo image is loaded by whoever asks for it first.
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some(instance)
}

/// What one request is answered with: status and body.
fn asked(instance: &Instance, request: &str) -> (u16, String) {
    let mut socket = UnixStream::connect(instance.path("run/docker.sock")).expect("it listens");
    socket.write_all(request.as_bytes()).expect("it is read");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("it answers");
    let status = text.split(' ').nth(1).unwrap_or_default().parse().expect(&text);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn get(instance: &Instance, path: &str) -> Value {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, body) = asked(instance, &head);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("it is JSON")
}

fn post(instance: &Instance, path: &str, content_type: &str, body: &str) -> (u16, String) {
    asked(
        instance,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\
             \r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn images_are_listed_tagged_inspected_and_removed() {
    let Some(instance) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    docker(&["tag", "demo", "example.test/team/demo:v2"]);
    docker(&["tag", "demo", "example.test/team/demo"]);
    let names = |args: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let listed = docker(&[&format, args].concat());
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let team = ["example.test/team/demo:latest", "example.test/team/demo:v2"];
    assert_eq!(names(&["--filter", "reference=example.test/*/demo"]), team);
    assert_eq!(names(&["example.test/team/demo:v2"]), team[1..]);
    assert_eq!(names(&["--filter", "dangling=true"]), [""; 0]);
    assert_eq!(names(&["--filter", "label=nobody.has"]), [""; 0]);
    let digest = docker(&["image", "inspect", "demo", "--format", "{{index .RepoDigests 0}}"]);
    assert!(digest.starts_with("demo@sha256:"), "{digest}");
    assert!(docker(&["images", "--digests"]).contains(digest.split('@').nth(1).unwrap()));
    let id = docker(&["image", "inspect", "demo", "--format", "{{.Id}}"]);
    assert_eq!(docker(&["history", "-q", "--no-trunc", "demo"]).lines().next(), Some(&*id));
    let gone = docker(&["rmi", "example.test/team/demo"]);
    assert_eq!(gone, "Untagged: example.test/team/demo:latest");
    let used = instance.docker(&["run", "-d", "--network", "none", "demo", "sleep", "1000"]);
    assert_eq!(used.code, 0, "{used:?}");
    let refused = instance.docker(&["rmi", id.as_str()]);
    assert!(refused.err.contains("conflict: unable to delete"), "{refused:?}");
    let none = instance.docker(&["rmi", "nosuch"]);
    assert_eq!(none.err.trim(), "Error response from daemon: No such image: nosuch");
    let none = instance.docker(&["tag", "nosuch", "b"]);
    assert_eq!(none.err.trim(), "Error response from daemon: No such image: nosuch");
    instance.remove_all();
}

#[test]
fn images_go_through_archives_and_root_file_systems_become_images() {
    let Some(instance) = start() else { return };
    let id = instance.docker_ok(&["images", "-q", "--no-trunc", "demo"]);
    let saved = instance.docker_command(&["save", "demo"]).output().unwrap();
    assert!(saved.status.success());
    instance.docker_ok(&["rmi", "demo"]);
    let load = |args: &[&str], archive: &[u8]| {
        let mut command = instance.docker_command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A client that was refused reads no more.
        let _ = input.write_all(archive);
        drop(input);
        let ended = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).trim().to_owned()
    };
    assert_eq!(load(&["load"], &saved.stdout), "Loaded image: demo:latest");
    assert_eq!(instance.docker_ok(&["images", "-q", "--no-trunc", "demo"]), id, "the same");
    let refused = load(&["load"], b"this is no archive");
    assert!(refused.starts_with("Error response from daemon: "), "{refused}");
    let run = ["run", "--network", "none", "--name", "maker", "demo", "sh", "-c", "echo hi > /hi"];
    instance.docker_ok(&run);
    let root = instance.docker_command(&["export", "maker"]).output().unwrap().stdout;
    let import = [
        "import",
        "-m",
        "a note",
        "-c",
        "CMD [\"cat\", \"/hi\"]",
        "-c",
        "ENV PATH=/bin",
        "-",
        "made:1",
    ];
    let made = load(&import, &root);
    assert!(made.starts_with("sha256:"), "{made}");
    assert_eq!(instance.docker_ok(&["run", "--rm", "--network", "none", "made:1"]), "hi");
    let told = instance.docker_ok(&["history", "--format", "{{.Comment}}", "made:1"]);
    assert_eq!(told, "a note");
    let refused = instance.docker(&["import", "http://example.test/a.tar", "made:2"]);
    assert!(refused.err.contains("importing from http://example.test/a.tar"), "{refused:?}");
    instance.remove_all();
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() {
    let Some(instance) = start() else { return };
    let before = instance.docker_ok(&["images", "-aq"]);
    let mut tar = vec![0; 512];
    tar[..1].copy_from_slice(b"d");
    tar[100..107].copy_from_slice(b"0000755");
    tar[124..135].copy_from_slice(b"00000000000");
    tar[148..156].copy_from_slice(b"        ");
    tar[156] = b'5';
    tar[257..263].copy_from_slice(b"ustar\0");
    tar[263..265].copy_from_slice(b"00");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon(&instance))).unwrap().count();
    let idle = open();
    let mut socket = UnixStream::connect(instance.path("run/docker.sock")).unwrap();
    let head = "POST /v1.50/images/create?fromSrc=-&repo=cut HTTP/1.1\r\nHost: x\r\n\
                Transfer-Encoding: chunked\r\n\r\n200\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    // A whole entry, after which a reader that found an end could take the archive for whole.
    socket.write_all(&tar).unwrap();
    socket.write_all(b"\r\n").unwrap();
    wait_until("it is being read", || open() > idle);
    drop(socket);
    wait_until("the connection is given up", || open() <= idle);
    // The work ends a moment later than the connection.
    wait_until("nothing is left", || {
        instance.diagnosis().to_string().contains("all there")
            && instance.docker_ok(&["images", "-aq"]) == before
    });
    assert!(!instance.docker_ok(&["images"]).contains("cut"));
}

/// The process that serves.
fn daemon(instance: &Instance) -> String {
    fs::read_to_string(instance.path("run/daemon.lock"))
        .expect("a daemon has one")
        .trim()
        .to_owned()
}

#[test]
fn volumes_are_made_listed_used_pruned_and_removed() {
    let Some(instance) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    assert_eq!(docker(&["volume", "create", "--label", "tier=back", "data"]), "data");
    docker(&["volume", "create", "spare"]);
    let anonymous = docker(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    assert_eq!(docker(&["volume", "ls", "-q", "-f", "label=tier"]), "data");
    assert_eq!(docker(&["volume", "ls", "-q", "-f", "name=spa"]), "spare");
    assert_eq!(docker(&["volume", "inspect", "data", "-f", "{{.Labels.tier}}"]), "back");
    // Used through our own client: what it is to a container is another test's business.
    instance.ok(&[
        "run",
        "-d",
        "--name",
        "user",
        "--network",
        "none",
        "-v",
        "data:/d",
        "demo",
        "sleep",
        "1000",
    ]);
    let refused = instance.docker(&["volume", "rm", "data"]);
    assert!(refused.err.contains("remove data: volume is in use - ["), "{refused:?}");
    assert!(!docker(&["volume", "ls", "-q", "-f", "dangling=true"]).contains("data"));
    let pruned = docker(&["volume", "prune", "-f"]);
    assert!(pruned.contains(&anonymous) && !pruned.contains("spare"), "{pruned}");
    assert!(docker(&["volume", "prune", "-af", "--filter", "label!=tier"]).contains("spare"));
    let df = docker(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    assert!(df.contains("Local Volumes 1 1") && df.contains("Images 1 1"), "{df}");
    assert!(docker(&["system", "df", "-v"]).contains("data"));
    let missing = instance.docker(&["volume", "rm", "spare"]);
    assert_eq!(missing.err.trim(), "Error response from daemon: get spare: no such volume");
    docker(&["volume", "rm", "-f", "spare"]);
    let odd = instance.docker(&["volume", "create", "-d", "nosuch", "xx"]);
    assert!(odd.err.contains("plugin \"nosuch\" not found"), "{odd:?}");
    instance.remove_all();
    docker(&["volume", "rm", "data"]);
}

#[test]
fn the_daemon_tells_what_it_is_and_what_it_is_not() {
    let Some(instance) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    assert_eq!(
        docker(&["version", "-f", "{{.Server.Os}} {{.Server.MinAPIVersion}}"]),
        "linux 1.24"
    );
    let info = docker(&["info", "-f", "{{.Images}} {{.Swarm.LocalNodeState}} {{.DefaultRuntime}}"]);
    assert_eq!(info, "1 inactive container");
    let (one, other) = (docker(&["info", "-f", "{{.ID}}"]), docker(&["info", "-f", "{{.ID}}"]));
    assert!(one == other && one.len() == 36, "{one} {other}");
    for (args, want) in [
        (&["node", "ls"][..], "This node is not a swarm manager"),
        (&["service", "ls"], "This node is not a swarm manager"),
        (&["secret", "ls"], "This node is not a swarm manager"),
        (&["swarm", "leave"], "This node is not part of a swarm"),
        (&["swarm", "init"], "swarm mode is not supported"),
        (&["search", "x"], "searching is not supported"),
        (&["plugin", "inspect", "x"], "plugin \"x\" not found"),
    ] {
        let ran = instance.docker(args);
        assert!(ran.code == 1 && ran.err.contains(want), "{args:?}: {ran:?}");
    }
    assert_eq!(docker(&["plugin", "ls", "-q"]), "");
    docker(&["tag", "demo", "other"]);
    // The client rounds what is said relative to now.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let now = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let events = docker(&["events", "--since", "1h", "--until", &now, "--filter", "event=tag"]);
    assert!(events.contains("image tag sha256:") && events.contains("name=other"), "{events}");
    assert_eq!(events.lines().count(), 1, "{events}");
    assert!(docker(&["image", "prune", "-af"]).contains("untagged: other:latest"));
    assert!(docker(&["system", "prune", "-f"]).contains("Total reclaimed space"));
}

#[test]
fn every_version_gets_the_fields_it_knows() {
    let Some(instance) = start() else { return };
    let old = &get(&instance, "/v1.24/images/json")[0];
    assert_eq!(old["VirtualSize"], old["Size"]);
    assert_eq!((&old["Containers"], &old["SharedSize"]), (&(-1).into(), &(-1).into()));
    let new = &get(&instance, "/v1.52/images/json?shared-size=1&manifests=1")[0];
    assert_eq!((new.get("VirtualSize"), &new["Containers"]), (None, &0.into()));
    assert_eq!(new["SharedSize"], 0);
    let manifest = &new["Manifests"][0];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    assert_eq!(manifest["Descriptor"]["digest"], manifest["ID"], "{new}");
    assert!(manifest["Descriptor"]["mediaType"].is_string(), "{new}");
    assert!(number(&manifest["Descriptor"]["size"]) > 0, "{new}");
    let size = &manifest["Size"];
    let unpacked = number(&manifest["ImageData"]["Size"]["Unpacked"]);
    assert_eq!(number(&size["Total"]), number(&size["Content"]) + unpacked, "{new}");
    let inspected = get(&instance, "/v1.44/images/demo/json");
    assert_eq!(inspected["Config"]["Hostname"], "");
    assert_eq!(get(&instance, "/v1.50/images/demo/json")["Config"].get("Hostname"), None);
    let usage = get(&instance, "/v1.52/system/df?type=image");
    assert!(usage["ImageUsage"]["TotalSize"].as_u64().is_some_and(|bytes| bytes > 0), "{usage}");
    assert_eq!((usage.get("Images"), usage.get("VolumeUsage")), (None, None));
    assert!(get(&instance, "/v1.51/system/df")["Images"].is_array());
}

#[test]
fn what_makes_no_sense_is_refused_in_dockers_form() {
    let Some(instance) = start() else { return };
    let json = "application/json";
    for (path, content_type, body, status, says) in [
        ("/volumes/create", json, "{", 400, "invalid JSON"),
        ("/volumes/create", json, "[1]", 400, "invalid JSON"),
        ("/volumes/create", "text/plain", "{}", 400, "unsupported Content-Type header"),
        ("/volumes/create", json, "{\"ClusterVolumeSpec\":{\"Group\":\"a\"}}", 501, "Cluster"),
        ("/volumes/create", json, "{\"Size\":1}", 400, "Size"),
        ("/volumes", json, "", 404, "page not found"),
        ("/v1.23/volumes/create", json, "{}", 400, "too old"),
        ("/images/demo/tag?repo=a&tag=%20", json, "", 400, "invalid reference format"),
        ("/images/a%2Fb/tag?repo=x", json, "", 404, "No such image: a/b"),
        ("/images/load?platform=%7B", json, "", 400, "invalid platform"),
        ("/images/prune?filters=x", json, "", 400, "invalid filters"),
        ("/build", json, "", 501, "not built yet"),
        ("/session", json, "", 501, "not built yet"),
        ("/grpc", json, "", 501, "not built yet"),
    ] {
        let (got, told) = post(&instance, path, content_type, body);
        assert_eq!(got, status, "{path} {body}: {told}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let message = told["message"].as_str().unwrap_or_default();
        assert!(message.contains(says), "{path} {body}: {message}");
    }
    let large = format!("{{\"Name\":\"{}\"}}", "a".repeat(5 << 20));
    let mut socket = UnixStream::connect(instance.path("run/docker.sock")).unwrap();
    let head = format!(
        "POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: {json}\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    // It may be refused before all of it was sent.
    let _ = socket.write_all(large.as_bytes());
    let mut first = String::new();
    BufReader::new(socket).read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 413"), "{first}");
}
