//! Registries that break off, stall and lie, hosts that want proofs, and ways that lead through
//! others: with Debian's `docker-registry` behind a relay that makes trouble.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use it::{Instance, Registry, Relay, Trouble, certificates, wait_until};

/// The layer of the large image, which comes in pieces.
const BYTES: u64 = 24 << 20;

/// A registry behind a relay, with a large image at the registry and not here.
struct Place {
    _registry: Registry,
    relay: Relay,
    /// The image's name by way of the relay.
    name: String,
    /// Dropped last: it looks for what is left.
    instance: Instance,
}

impl Place {
    /// With these ports of the instance's network for the registry and the relay.
    fn new() -> Option<Place> {
        let instance = Instance::start()?;
        let registry = Registry::start(&instance, 5000)?;
        let relay = Relay::start(&instance, 5001, 5000);
        import(&instance, "localhost:5000/large:1");
        instance.ok(&["push", "-q", "localhost:5000/large:1"]);
        instance.ok(&["rmi", "localhost:5000/large:1"]);
        let name = "localhost:5001/large:1".to_owned();
        Some(Place { _registry: registry, relay, name, instance })
    }

    /// Names of all blobs here, and of what is half-made.
    fn blobs(&self) -> BTreeSet<String> {
        let list = |dir: &str| {
            let entries = fs::read_dir(self.instance.path(dir)).expect("it is there");
            entries.map(|entry| entry.expect("it is there").path().display().to_string())
        };
        let dirs = ["data/content/blobs/sha256", "data/content/layers", "data/content/tmp"];
        dirs.into_iter().flat_map(list).collect()
    }
}

/// An image whose one layer is a file of noise.
fn import(instance: &Instance, name: &str) {
    let (root, archive) = (instance.path("noise"), instance.path("noise.tar"));
    fs::create_dir_all(&root).expect("the directory is ours");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = (0..BYTES / 8)
        .flat_map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        })
        .collect();
    fs::write(root.join("noise"), noise).expect("the directory is ours");
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar.expect("tar runs").success());
    instance.ok(&["import", &archive.display().to_string(), name]);
}

/// Which stretches of which blobs were asked for.
fn stretches(requests: &[String]) -> Vec<(String, String)> {
    let of_blobs = requests.iter().filter(|head| head.starts_with("GET /v2/large/blobs/"));
    of_blobs
        .map(|head| {
            let mut lines = head.lines();
            let path = lines.next().unwrap_or_default().to_owned();
            let range = lines.find(|line| line.to_ascii_lowercase().starts_with("range:"));
            (path, range.unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn a_pull_and_a_push_that_are_cut_go_on() {
    let Some(place) = Place::new() else { return };
    let (instance, relay) = (&place.instance, &place.relay);
    relay.make(Trouble { cuts_down: Some((5, 3 << 20)), ..Trouble::default() });
    let pulled = instance.ok(&["pull", &place.name]);
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    assert_eq!(relay.cuts_left(), (0, 0));
    // What had come did not come again.
    assert!(relay.bytes_down() < BYTES + BYTES / 4, "{}", relay.bytes_down());
    let files =
        instance.ok(&["image", "inspect", "--format", "{{len .RootFS.Layers}}", &place.name]);
    assert_eq!(files, "1");

    instance.ok(&["tag", &place.name, "localhost:5001/again:1"]);
    // The registry has it: it is sent to one that has not.
    let Some(_other) = Registry::start(instance, 5002) else { return };
    let up = Relay::start(instance, 5003, 5002);
    up.make(Trouble { cuts_up: Some((2, 9 << 20)), ..Trouble::default() });
    instance.ok(&["tag", &place.name, "localhost:5003/large:1"]);
    let pushed = instance.ok(&["push", "localhost:5003/large:1"]);
    assert!(pushed.contains("1: digest: sha256:"), "{pushed}");
    assert_eq!(up.cuts_left(), (0, 0));
    instance.ok(&["rmi", &place.name, "localhost:5001/again:1", "localhost:5003/large:1"]);
    instance.ok(&["pull", "-q", "localhost:5002/large:1"]);
}

#[test]
fn a_pull_whose_client_leaves_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let before = place.blobs();
    for docker in [false, true] {
        place.relay.make(Trouble { holds_after: Some(BYTES / 2), ..Trouble::default() });
        let mut leaver = Leaver::start(&place, docker);
        wait_until("half of it has come", || place.relay.bytes_down() > BYTES / 2);
        assert!(place.blobs().len() > before.len(), "it is on its way");
        leaver.leave();
        wait_until("nothing is left", || place.blobs() == before);
        let listed = place.instance.ok(&["images", "-aq"]);
        assert_eq!(listed, "", "docker {docker}");
    }
    place.relay.make(Trouble::default());
    place.instance.ok(&["pull", "-q", &place.name]);
}

/// Somebody who pulls.
enum Leaver {
    Client(std::process::Child),
    Docker(BufReader<UnixStream>),
}

impl Leaver {
    fn start(place: &Place, docker: bool) -> Leaver {
        if !docker {
            let mut command = place.instance.command(&["pull", &place.name]);
            command.stdout(Stdio::null());
            return Leaver::Client(command.spawn().expect("the program runs"));
        }
        let socket = UnixStream::connect(place.instance.path("run/docker.sock"));
        let mut socket = socket.expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it can wait");
        let (name, tag) = place.name.rsplit_once(':').expect("it has a tag");
        let request = format!(
            "POST /v1.50/images/create?fromImage={name}&tag={tag} HTTP/1.1\r\nHost: x\r\n\
             Content-Length: 0\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("it is read");
        Leaver::Docker(BufReader::new(socket))
    }

    fn leave(&mut self) {
        match self {
            Leaver::Client(child) => {
                child.kill().expect("it is our child");
                child.wait().expect("it is our child");
            }
            Leaver::Docker(socket) => {
                socket.get_ref().shutdown(std::net::Shutdown::Both).expect("it is open");
            }
        }
    }

    /// Reads on until a line has this in it.
    fn line(&mut self, with: &str) -> String {
        let Leaver::Docker(socket) = self else { panic!("only Docker's API tells in lines") };
        loop {
            let mut line = String::new();
            let read = socket.read_line(&mut line);
            assert!(read.is_ok_and(|read| read > 0), "no \"{with}\"");
            if line.contains(with) {
                return line;
            }
        }
    }
}

#[test]
fn two_pulls_of_the_same_fetch_it_once_and_both_tell_how_far_it_is() {
    let Some(place) = Place::new() else { return };
    place.relay.make(Trouble { holds_after: Some(BYTES / 2), ..Trouble::default() });
    let mut first = Leaver::start(&place, true);
    wait_until("half of it has come", || place.relay.bytes_down() > BYTES / 2);
    let told = first.line("\"status\":\"Downloading\"");
    let mut second = Leaver::start(&place, true);
    // It waits for the first, and sees how far that is.
    let seen = second.line("\"status\":\"Downloading\"");
    let total = |line: &str| line.split("\"total\":").nth(1).map(str::to_owned);
    assert!(total(&told).is_some() && total(&seen) == total(&told), "{told} {seen}");
    place.relay.make(Trouble::default());
    first.line("Status: Downloaded newer image");
    second.line("\"status\":\"Already exists\"");
    second.line("Status: ");
    let stretches = stretches(&place.relay.requests());
    let distinct: BTreeSet<_> = stretches.iter().cloned().collect();
    // The small configuration is asked for by each.
    let large = |all: Vec<&(String, String)>| all.iter().filter(|it| !it.1.is_empty()).count();
    assert_eq!(large(stretches.iter().collect()), large(distinct.iter().collect()));
    assert!(large(distinct.iter().collect()) > 1, "{distinct:?}");
}

#[test]
fn a_mirror_that_sends_something_else_is_given_up_for_the_registry() {
    let Some(place) = Place::new() else { return };
    let instance = &place.instance;
    let file = "[host.\"localhost:5000\"]\nmirrors = [\"http://localhost:5001\"]\n";
    fs::write(instance.path("data/registries.toml"), file).expect("the directory is ours");
    place.relay.make(Trouble { spoils_after: Some(BYTES / 2), ..Trouble::default() });
    let pulled = instance.ok(&["pull", "localhost:5000/large:1"]);
    assert!(pulled.contains("Served by mirror localhost:5001"), "{pulled}");
    assert!(pulled.contains("registry localhost:5001 sent sha256:"), "{pulled}");
    assert!(pulled.contains("it is asked for elsewhere"), "{pulled}");
    assert!(pulled.contains("served by localhost:5000"), "{pulled}");
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");

    // Without anybody else it fails, names who it was, and leaves nothing.
    instance.ok(&["rmi", "localhost:5000/large:1"]);
    let before = place.blobs();
    place.relay.make(Trouble { spoils_after: Some(BYTES / 2), ..Trouble::default() });
    let refused = instance.run(&["pull", &place.name]);
    assert!(
        refused.code == 1 && refused.err.contains("registry localhost:5001 sent"),
        "{refused:?}"
    );
    assert_eq!(place.blobs(), before);
}

/// A registry at this address, which is no loopback's: it must prove who it is.
const FAR: [u8; 4] = [10, 99, 0, 1];

/// Gives the instance's network that address.
fn make_far(instance: &Instance) {
    let added = instance.on_network(|| {
        Command::new("ip").args(["address", "add", "10.99.0.1/32", "dev", "lo"]).status()
    });
    assert!(added.expect("ip runs").success());
}

#[test]
fn a_private_authority_and_a_certificate_of_ours_are_taken_from_where_they_are_named() {
    let Some(instance) = Instance::start() else { return };
    let dir = instance.path("certificates");
    if !certificates(&dir) {
        return;
    }
    make_far(&instance);
    let file = |name: &str| dir.join(name).display().to_string();
    let http = format!(
        "  tls: {{certificate: {}, key: {}, clientcas: [{}]}}\n",
        file("server.pem"),
        file("server-key.pem"),
        file("ca.pem")
    );
    let at = (std::net::Ipv4Addr::from(FAR), 5000).into();
    let Some(_registry) = Registry::start_with(&instance, at, &http, "") else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["tag", "demo", "10.99.0.1:5000/a/demo:1"]);
    let push = ["push", "10.99.0.1:5000/a/demo:1"];
    let unknown = instance.run(&push);
    assert!(unknown.code == 1 && unknown.err.contains("certificate"), "{unknown:?}");
    // Whom to trust is known, who we are is not told.
    let host = format!("[host.\"10.99.0.1:5000\"]\nca = \"{}\"\n", file("ca.pem"));
    fs::write(instance.path("data/registries.toml"), &host).expect("the directory is ours");
    let unproved = instance.run(&push);
    assert!(unproved.code == 1 && unproved.err.contains("ertificate"), "{unproved:?}");
    let own =
        format!("{host}cert = \"{}\"\nkey = \"{}\"\n", file("client.pem"), file("client-key.pem"));
    fs::write(instance.path("data/registries.toml"), own).expect("the directory is ours");
    let pushed = instance.ok(&push);
    assert!(pushed.contains("1: digest: sha256:"), "{pushed}");

    // The same from Docker's directories.
    fs::remove_file(instance.path("data/registries.toml")).expect("it is there");
    assert_eq!(instance.run(&push).code, 1);
    let docker = instance.path("data/certs.d/10.99.0.1:5000");
    fs::create_dir_all(&docker).expect("the directory is ours");
    let files =
        [("ca.pem", "ca.crt"), ("client.pem", "client.cert"), ("client-key.pem", "client.key")];
    for (from, to) in files {
        fs::copy(dir.join(from), docker.join(to)).expect("the directory is ours");
    }
    instance.ok(&["rmi", "10.99.0.1:5000/a/demo:1"]);
    instance.ok(&["pull", "-q", "10.99.0.1:5000/a/demo:1"]);
    fs::remove_file(docker.join("client.key")).expect("it is there");
    let lame = instance.run(&push);
    assert!(lame.code == 1 && lame.err.contains("client.key"), "{lame:?}");
}

/// A helper as Docker's are: it keeps one secret in a file beside it.
const HELPER: &str = r#"#!/bin/sh
kept=$(dirname "$0")/kept
echo "$1" >> "$(dirname "$0")/calls"
case $1 in
store) cat > "$kept" ;;
get) cat > /dev/null
     if [ -e "$kept" ]; then cat "$kept"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) cat > /dev/null; rm -f "$kept" ;;
esac
"#;

/// `me` with the password `s3cret`, as `htpasswd -B` writes it.
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

#[test]
fn secrets_are_kept_by_a_helper_program_and_nowhere_else() {
    let Some(instance) = Instance::start() else { return };
    let passwords = instance.path("passwords");
    fs::write(&passwords, PASSWORDS).expect("the directory is ours");
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", passwords.display());
    let at = (std::net::Ipv4Addr::LOCALHOST, 5000).into();
    let Some(_registry) = Registry::start_with(&instance, at, "", &auth) else { return };
    let (bin, config) = (instance.path("bin"), instance.path("docker"));
    for dir in [&bin, &config] {
        fs::create_dir(dir).expect("the directory is ours");
    }
    let helper = bin.join("docker-credential-fake");
    fs::write(&helper, HELPER).expect("the directory is ours");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("there is one"));
    let run = |args: &[&str]| {
        let mut command = instance.command(args);
        command.env("PATH", &path).env("DOCKER_CONFIG", &config);
        let output = command.output().expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["tag", "demo", "localhost:5000/a/demo:1"]);
    let push = ["push", "localhost:5000/a/demo:1"];
    for settings in [
        r#"{"credsStore": "fake"}"#,
        r#"{"credsStore": "absent", "credHelpers": {"localhost:5000": "fake"}}"#,
    ] {
        fs::write(config.join("config.json"), settings).expect("the directory is ours");
        let (pushed, text) = run(&push);
        assert!(!pushed && text.contains("denied"), "{text}");
        let (known, text) = run(&["login", "-u", "me", "-p", "wrong", "localhost:5000"]);
        assert!(!known && !bin.join("kept").exists(), "{text}");
        let (known, text) = run(&["login", "-u", "me", "-p", "s3cret", "localhost:5000"]);
        assert!(known, "{text}");
        let file = fs::read_to_string(config.join("config.json")).expect("it is there");
        assert!(!file.contains("s3cret") && !file.contains("bWU6czNjcmV0"), "{file}");
        let kept = fs::read_to_string(bin.join("kept")).expect("the helper has it");
        assert!(kept.contains("s3cret"), "{kept}");
        let (pushed, text) = run(&push);
        assert!(pushed, "{text}");
        let (forgotten, text) = run(&["logout", "localhost:5000"]);
        assert!(forgotten && !bin.join("kept").exists(), "{text}");
    }
    let calls = fs::read_to_string(bin.join("calls")).expect("it was called");
    assert_eq!(calls.lines().filter(|call| *call == "store").count(), 2, "{calls}");
}

#[test]
fn the_way_leads_through_the_proxy_of_the_environment() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    let Some(_registry) = Registry::start(&instance, 5000) else { return };
    make_far(&instance);
    let at = (std::net::Ipv4Addr::from(FAR), 5004).into();
    let Some(_far) = Registry::start_with(&instance, at, "", "") else { return };
    // A registry answers requests that name a host as a proxy would.
    let relay = Relay::start(&instance, 5001, 5000);
    instance.start_daemon_with(
        "HTTP_PROXY=http://127.0.0.1:5001 HTTPS_PROXY=http://127.0.0.1:5001 \
         http_proxy=http://127.0.0.1:5001 NO_PROXY=10.99.0.0/24 exec \"$0\" daemon",
    );
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    // Nobody but the proxy knows this name.
    instance.ok(&["tag", "demo", "registry.invalid:5000/a/demo:1"]);
    instance.ok(&["push", "--insecure", "registry.invalid:5000/a/demo:1"]);
    let requests = relay.requests();
    let named = |head: &String| head.contains(" http://registry.invalid:5000/v2/a/demo/");
    assert!(requests.iter().any(named), "{requests:?}");
    // Neither what is named as near, nor the loopback, goes that way.
    for near in ["10.99.0.1:5004", "localhost:5000", "127.0.0.1:5000"] {
        let name = format!("{near}/a/demo:1");
        instance.ok(&["tag", "demo", &name]);
        instance.ok(&["push", "-q", "--insecure", &name]);
    }
    assert_eq!(relay.requests().len(), requests.len());
}
