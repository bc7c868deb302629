//! `wythe registry serve --mirror`: a cache of another registry, that is there, lies, or is gone.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use it::{
    Instance,
    served::{HASH, Served, curl, digest, on, put},
    wait_until,
};

/// Debian's `docker-registry` on the instance's network; gone when this is dropped.
struct Upstream(Child);

impl Upstream {
    fn start(instance: &Instance, port: u16) -> Option<Upstream> {
        let program = testkit::need::tool("docker-registry")?;
        let (root, config) = (instance.path("upstream"), instance.path("upstream.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            root.display()
        );
        fs::write(&config, text).expect("the directory is ours");
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = instance.on_network(|| command.spawn().expect("it runs"));
        wait_until("the upstream answers", || {
            instance.on_network(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        Some(Upstream(child))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_mirror_fetches_once_and_serves_what_it_has_when_the_upstream_is_gone() {
    let Some(instance) = Instance::start() else { return };
    let Some(upstream) = Upstream::start(&instance, 5007) else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["tag", "demo", "127.0.0.1:5007/library/thing:1"]);
    instance.ok(&["push", "127.0.0.1:5007/library/thing:1"]);
    let mirror = Served::start(&instance, &["--mirror", "http://127.0.0.1:5007"]);
    let at = &mirror.at;
    let base = format!("http://{at}/v2/library/thing");

    // Several at once: one download.
    let layer = put(&instance, "http://127.0.0.1:5007/v2", "library/thing", &vec![9; 8 << 20]);
    let blob = format!("{base}/blobs/{layer}");
    let all: Vec<_> = (0..4)
        .map(|_| {
            let mut command = Command::new("curl");
            command.args(["-sS", "--fail", &blob]).stdout(Stdio::piped());
            instance.on_network(|| command.spawn().expect("it runs"))
        })
        .collect();
    for one in all {
        let output = one.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 8 << 20);
        assert_eq!(digest(&output.stdout), layer);
    }
    let head = curl(&instance, &["--head", &blob]);
    assert_eq!(head.header("content-length"), Some("8388608"));

    instance.ok(&["rmi", "-f", "demo", "127.0.0.1:5007/library/thing:1"]);
    let name = format!("{at}/library/thing:1");
    instance.ok(&["pull", &name]);
    instance.ok(&["run", "--rm", "--network", "none", &name, "true"]);
    let tags = curl(&instance, &[&format!("{base}/tags/list")]);
    assert_eq!(
        (tags.json()["tags"].clone(), tags.header("warning")),
        (serde_json::json!(["1"]), None)
    );
    let fresh = curl(&instance, &[&format!("{base}/manifests/1")]);
    assert_eq!((fresh.status, fresh.header("warning")), (200, None));
    assert_eq!(curl(&instance, &[&format!("{base}/manifests/no")]).code(), "MANIFEST_UNKNOWN");
    let push = curl(&instance, &["-X", "POST", &format!("{base}/blobs/uploads/")]);
    assert_eq!((push.status, push.code().as_str()), (405, "UNSUPPORTED"));

    // The engine asks it for Docker Hub's.
    let file = format!("[host.\"docker.io\"]\nmirrors = [\"http://{at}\"]\n");
    fs::write(instance.path("data/registries.toml"), file).unwrap();
    let pulled = instance.ok(&["pull", "thing:1"]);
    assert!(pulled.contains(&format!("Served by mirror {at}")), "{pulled}");
    instance.ok(&["rmi", "-f", "thing:1"]);

    // A tag that moves there moves here.
    let config = put(&instance, "http://127.0.0.1:5007/v2", "library/thing", b"{}");
    let moved = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":
        {{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let oci = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let url = "http://127.0.0.1:5007/v2/library/thing/manifests/moving";
    let put_moving = |text: &str| {
        let put = curl(&instance, &["-X", "PUT", "-H", oci, "--data-binary", text, url]);
        assert_eq!(put.status, 201, "{put:?}");
    };
    put_moving(&moved);
    let get = |reference: &str| curl(&instance, &[&format!("{base}/manifests/{reference}")]);
    assert_eq!(get("moving").body, moved);
    let again = moved.replace(":[]}", ":[],\"annotations\":{\"k\":\"v\"}}");
    put_moving(&again);
    assert_eq!(get("moving").body, again);

    // The upstream is gone.
    drop(upstream);
    instance.ok(&["rmi", "-f", &name]);
    instance.ok(&["pull", &name]);
    let stale = get("1");
    assert_eq!(stale.status, 200, "{stale:?}");
    assert_eq!(stale.header("warning"), Some("110 - \"Response is Stale\""));
    assert_eq!(stale.body, fresh.body);
    let digest = fresh.header("docker-content-digest").unwrap();
    assert_eq!(get(digest).header("warning"), None, "what a digest names is never stale");
    let nowhere = get("never-seen");
    assert_eq!((nowhere.status, nowhere.code().as_str()), (503, "UNAVAILABLE"));
    let log = fs::read_to_string(instance.path("registry.err")).unwrap();
    assert!(log.contains("may be stale"), "{log}");
    assert_eq!(fs::read_dir(instance.path("data/mirrors/127.0.0.1_5007/tmp")).unwrap().count(), 0);
    assert!(!instance.path("data/registry").exists(), "what was pushed is kept apart");
}

#[test]
fn a_mirror_asks_as_whoever_is_logged_in() {
    let Some(instance) = Instance::without_daemon() else { return };
    let file = instance.path("htpasswd");
    fs::write(&file, format!("me:{HASH}\n")).unwrap();
    let upstream = Served::start(&instance, &["--htpasswd", &file.display().to_string()]);
    let begin = format!("http://{}/v2/a/blobs/uploads/?digest={}", upstream.at, digest(b"private"));
    let octets = "Content-Type: application/octet-stream";
    let put = ["-u", "me:s3cret", "-X", "POST", "-H", octets, "--data-binary", "private", &begin];
    assert_eq!(curl(&instance, &put).status, 201);
    let url = format!("http://{}", upstream.at);
    let config = instance.path("docker-config");
    let mirror = |flags: &[&str]| {
        let mut command = instance.command(&["registry", "serve", "--addr", "127.0.0.1:0"]);
        command.args(["--mirror", &url]).args(flags).env("DOCKER_CONFIG", &config);
        command
    };
    let get =
        |at: &str| curl(&instance, &[&format!("http://{at}/v2/a/blobs/{}", digest(b"private"))]);
    let refused = {
        let unknown = Served::spawn(&instance, mirror(&[]));
        get(&unknown.at)
    };
    assert_eq!((refused.status, refused.code().as_str()), (403, "DENIED"), "{refused:?}");
    let nobody = mirror(&["--mirror-login"]).output().unwrap();
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nobody is logged in"), "{nobody:?}");
    fs::create_dir(&config).unwrap();
    // `me:s3cret`
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6czNjcmV0\"}}}}}}", upstream.at);
    fs::write(config.join("config.json"), text).unwrap();
    let known = Served::spawn(&instance, mirror(&["--mirror-login"]));
    assert_eq!(get(&known.at).body, "private");
}

#[test]
fn a_mirror_gives_nobody_what_an_upstream_lies_about() {
    let Some(instance) = Instance::without_daemon() else { return };
    let lie = b"not what its digest says";
    let wanted = digest(b"the truth, of the same length".get(..lie.len()).unwrap());
    let listener = instance.on_network(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let at = listener.local_addr().unwrap();
    let liar = std::thread::spawn(move || {
        // HEAD, then GET.
        for body in [&b""[..], lie] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let length = lie.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    let mirror = Served::start(&instance, &["--mirror", &format!("http://{at}")]);
    let url = format!("http://{}/v2/a/blobs/{wanted}", mirror.at);
    let got = on(&instance, "curl", &["-sS", "--max-time", "30", &url]);
    assert!(got.code != 0, "a client must see that it broke off: {got:?}");
    liar.join().unwrap();
    let root = instance.path(&format!("data/mirrors/{}", at.to_string().replace(':', "_")));
    assert_eq!(fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 0);
    wait_until("nothing of it stays", || fs::read_dir(root.join("tmp")).unwrap().count() == 0);
}
