//! `wythe registry serve`, with the clients that people have: docker, skopeo, podman, curl, our own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use it::{
    Instance, certificates,
    served::{HASH, Served, curl, digest, ok, on, put},
    wait_until,
};

fn tmp_is_empty(instance: &Instance) -> bool {
    fs::read_dir(instance.path("data/registry/tmp")).expect("it is there").count() == 0
}

#[test]
fn the_clients_that_people_have_push_to_it_and_pull_from_it() {
    let Some(instance) = Instance::start() else { return };
    let served = Served::start(&instance, &[]);
    let at = &served.at;
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);

    // Ours.
    let ours = format!("{at}/a/ours:1");
    instance.ok(&["tag", "demo", &ours]);
    let pushed = instance.ok(&["push", &ours]);
    let digest = pushed.lines().find_map(|line| line.strip_prefix("1: digest: ")).unwrap();
    let digest = digest.split(' ').next().unwrap().to_owned();
    assert!(instance.ok(&["push", &ours]).contains("Layer already exists"));
    let other = format!("{at}/b/ours:2");
    instance.ok(&["tag", "demo", &other]);
    assert!(instance.ok(&["push", &other]).contains("Mounted from a/ours"));
    instance.ok(&["rmi", "-f", "demo", &ours, &other]);
    let pulled = instance.ok(&["pull", &ours]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    let said = instance.ok(&["run", "--rm", "--network", "none", &ours, "echo", "hello"]);
    assert_eq!(said, "hello");

    // The stock docker client.
    if testkit::need::tool("docker").is_some() {
        let docker = format!("{at}/team/docker:1");
        instance.docker_ok(&["tag", &ours, &docker]);
        let pushed = instance.docker_ok(&["push", &docker]);
        assert!(pushed.contains("1: digest: sha256:"), "{pushed}");
        instance.docker_ok(&["rmi", &docker]);
        let pulled = instance.docker_ok(&["pull", &docker]);
        assert!(pulled.contains("Status: Downloaded newer image"), "{pulled}");
    }

    // skopeo, from registry to directory and back.
    if testkit::need::tool("skopeo").is_some() {
        let oci = format!("oci:{}:x", instance.path("layout").display());
        let (from, to) = (format!("docker://{ours}"), format!("docker://{at}/skopeo/x:1"));
        let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--all", &from, &oci];
        ok(&instance, "skopeo", &copy);
        ok(
            &instance,
            "skopeo",
            &["--insecure-policy", "copy", "--dest-tls-verify=false", "--all", &oci, &to],
        );
        let v2 = format!("docker://{at}/skopeo/v2:1");
        ok(
            &instance,
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--format",
                "v2s2",
                &to,
                &v2,
            ],
        );
        let inspected = ok(&instance, "skopeo", &["inspect", "--raw", "--tls-verify=false", &v2]);
        assert!(inspected.contains("vnd.docker.distribution.manifest.v2+json"), "{inspected}");
        let tags = ok(
            &instance,
            "skopeo",
            &["list-tags", "--tls-verify=false", &format!("docker://{at}/skopeo/x")],
        );
        assert!(tags.contains("\"1\""), "{tags}");
        instance.ok(&["pull", &format!("{at}/skopeo/v2:1")]);
        ok(&instance, "skopeo", &["delete", "--tls-verify=false", &v2]);
        assert!(on(&instance, "skopeo", &["inspect", "--tls-verify=false", &v2]).code != 0);
    }

    // podman.
    if testkit::need::tool("podman").is_some() {
        let (root, run) = (instance.path("podman"), instance.path("podman-run"));
        let (root, run) = (root.display().to_string(), run.display().to_string());
        let podman = |args: &[&str]| {
            let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
            ok(&instance, "podman", &[&own, args].concat())
        };
        podman(&["pull", "-q", "--tls-verify=false", &ours]);
        let theirs = format!("{at}/podman/x:1");
        podman(&["tag", &ours, &theirs]);
        podman(&["push", "-q", "--tls-verify=false", &theirs]);
        podman(&["rmi", "-f", &theirs]);
        podman(&["pull", "-q", "--tls-verify=false", &theirs]);
        podman(&["rmi", "-a", "-f"]);
        instance.ok(&["pull", &theirs]);
    }
    assert!(tmp_is_empty(&instance));

    // Engine and registry have the same layers, and they are on the disk once.
    let blobs = fs::read_dir(instance.path("data/registry/blobs/sha256")).unwrap();
    let shared = blobs.flatten().filter(|blob| {
        use std::os::unix::fs::MetadataExt as _;
        blob.metadata().unwrap().nlink() > 1
    });
    assert!(shared.count() > 0, "nothing is shared with the engine's store");
}

#[test]
fn a_blob_comes_in_chunks_and_what_does_not_fit_is_refused() {
    let Some(instance) = Instance::without_daemon() else { return };
    let served = Served::start(&instance, &[]);
    let base = format!("http://{}/v2", served.at);
    assert_eq!(curl(&instance, &[&format!("{base}/")]).status, 200);
    let begun = curl(&instance, &["-X", "POST", &format!("{base}/a/blobs/uploads/")]);
    assert_eq!(begun.status, 202, "{begun:?}");
    let location = format!("http://{}{}", served.at, begun.header("location").unwrap());
    let octets = "Content-Type: application/octet-stream";
    let chunk = |range: &str, data: &str| {
        let range = format!("Content-Range: {range}");
        let args = ["-X", "PATCH", "-H", octets, "-H", &range, "--data-binary", data, &location];
        curl(&instance, &args)
    };
    let first = chunk("0-4", "hello");
    assert_eq!((first.status, first.header("range")), (202, Some("0-4")), "{first:?}");
    let again = chunk("0-4", "hello");
    assert_eq!((again.status, again.header("range")), (416, Some("0-4")), "{again:?}");
    assert_eq!(chunk("9-9", "x").status, 416);
    assert_eq!(chunk("5-9", "tiny").code(), "SIZE_INVALID");
    let standing = curl(&instance, &[&location]);
    assert_eq!((standing.status, standing.header("range")), (204, Some("0-4")), "{standing:?}");
    assert_eq!(chunk("5-10", " world").status, 202);
    let digest = digest(b"hello world");
    let ended = curl(&instance, &["-X", "PUT", &format!("{location}?digest={digest}")]);
    assert_eq!(ended.status, 201, "{ended:?}");
    assert_eq!(ended.header("docker-content-digest"), Some(digest.as_str()));
    let blob = format!("http://{}{}", served.at, ended.header("location").unwrap());
    assert_eq!(curl(&instance, &[&blob]).body, "hello world");
    let head = curl(&instance, &["--head", &blob]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("11")), "{head:?}");
    let part = curl(&instance, &["-H", "Range: bytes=6-", &blob]);
    assert_eq!((part.status, part.body.as_str()), (206, "world"), "{part:?}");
    assert_eq!(part.header("content-range"), Some("bytes 6-10/11"));
    assert_eq!(curl(&instance, &["-H", "Range: bytes=11-", &blob]).status, 416);

    // All of it in the one request that begins it.
    let at_once = format!("{base}/a/blobs/uploads/?digest={}", self::digest(b"at once"));
    let at_once = ["-X", "POST", "-H", octets, "--data-binary", "at once", &at_once];
    assert_eq!(curl(&instance, &at_once).status, 201);

    // What is not what it should be leaves nothing.
    let begun = curl(&instance, &["-X", "POST", &format!("{base}/a/blobs/uploads/")]);
    let location = format!("http://{}{}", served.at, begun.header("location").unwrap());
    assert!(!tmp_is_empty(&instance));
    let wrong = format!("{location}?digest={digest}");
    let wrong = curl(&instance, &["-X", "PUT", "-H", octets, "--data-binary", "lie", &wrong]);
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "DIGEST_INVALID"));
    assert!(tmp_is_empty(&instance));
    assert_eq!(curl(&instance, &[&location]).code(), "BLOB_UPLOAD_UNKNOWN");
    let begun = curl(&instance, &["-X", "POST", &format!("{base}/a/blobs/uploads/")]);
    let location = format!("http://{}{}", served.at, begun.header("location").unwrap());
    assert_eq!(curl(&instance, &["-X", "DELETE", &location]).status, 204);
    assert!(tmp_is_empty(&instance));

    // Whoever leaves in the middle of that one request leaves nothing.
    let begin = format!("/v2/a/blobs/uploads/?digest={digest}");
    let mut half = instance.on_network(|| TcpStream::connect(&served.at).unwrap());
    let head = format!("POST {begin} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf");
    half.write_all(head.as_bytes()).unwrap();
    wait_until("it has begun", || !tmp_is_empty(&instance));
    drop(half);
    wait_until("it is forgotten", || tmp_is_empty(&instance));

    // From another repository.
    let mount = format!("{base}/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(curl(&instance, &["-X", "POST", &mount]).status, 201);
    let mount = format!("{base}/c/blobs/uploads/?mount={digest}&from=nobody");
    let begun = curl(&instance, &["-X", "POST", &mount]);
    assert_eq!(begun.status, 202, "{begun:?}");
    assert_eq!(curl(&instance, &[&format!("{base}/c/blobs/{digest}")]).code(), "BLOB_UNKNOWN");
    for (path, status, code) in [
        ("A/blobs/uploads/", 400, "NAME_INVALID"),
        ("a/blobs/uploads/?digest=sha512:00", 400, "DIGEST_INVALID"),
    ] {
        let refused = curl(&instance, &["-X", "POST", &format!("{base}/{path}")]);
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{path}");
    }
}

#[test]
fn lists_come_in_pages_and_referrers_by_kind() {
    let Some(instance) = Instance::without_daemon() else { return };
    let served = Served::start(&instance, &[]);
    let base = format!("http://{}/v2", served.at);
    let config = put(&instance, &base, "team/app", b"{}");
    let manifest = |more: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},
            "layers":[]{more}}}"#
        )
    };
    let oci = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let put_manifest = |reference: &str, text: &str| {
        let url = format!("{base}/team/app/manifests/{reference}");
        curl(&instance, &["-X", "PUT", "-H", oci, "--data-binary", text, &url])
    };
    let image = manifest("");
    for tag in ["b", "A", "c"] {
        assert_eq!(put_manifest(tag, &image).status, 201);
    }
    let subject = digest(image.as_bytes());
    let page = curl(&instance, &[&format!("{base}/team/app/tags/list?n=2")]);
    assert_eq!(page.json()["tags"], serde_json::json!(["A", "b"]));
    let link = page.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let page = curl(&instance, &[&format!("http://{}{next}", served.at)]);
    assert_eq!(page.json()["tags"], serde_json::json!(["c"]));
    assert_eq!(page.header("link"), None);
    let catalog = curl(&instance, &[&format!("{base}/_catalog")]);
    assert_eq!(catalog.json()["repositories"], serde_json::json!(["team/app"]));
    assert_eq!(curl(&instance, &[&format!("{base}/no/tags/list")]).code(), "NAME_UNKNOWN");

    for kind in ["sbom/x", "signature/x"] {
        let more = format!(
            r#","artifactType":"{kind}","subject":{{"mediaType":"m","digest":"{subject}","size":1}}"#
        );
        let text = manifest(&more);
        let put = put_manifest(&digest(text.as_bytes()), &text);
        assert_eq!((put.status, put.header("oci-subject")), (201, Some(subject.as_str())));
    }
    let referrers = format!("{base}/team/app/referrers/{subject}");
    let all = curl(&instance, &[&referrers]);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(all.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    let some = curl(&instance, &[&format!("{referrers}?artifactType=sbom/x")]);
    assert_eq!(some.json()["manifests"][0]["artifactType"], "sbom/x");
    assert_eq!(some.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    let none = curl(&instance, &[&format!("{base}/team/app/referrers/{config}")]);
    assert_eq!(none.json()["manifests"], serde_json::json!([]));

    // Manifests are taken for what they are.
    let missing = image.replace(&config, &digest(b"other"));
    assert_eq!(put_manifest("x", &missing).code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(put_manifest("x", "{}").code(), "MANIFEST_INVALID");
    assert_eq!(put_manifest(&config, &image).code(), "DIGEST_INVALID");
    assert_eq!(put_manifest(".x", &image).code(), "MANIFEST_INVALID");
    let long = instance.path("long");
    fs::write(&long, vec![b' '; (4 << 20) + 1]).unwrap();
    assert_eq!(put_manifest("x", &format!("@{}", long.display())).status, 413);
    let url = format!("{base}/team/app/manifests/c");
    let got = curl(&instance, &[&url]);
    assert_eq!(
        (got.body.as_str(), got.header("docker-content-digest")),
        (image.as_str(), Some(subject.as_str()))
    );
    let other = "Accept: application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(curl(&instance, &["-H", other, &url]).status, 404);
    assert_eq!(curl(&instance, &[&format!("{base}/team/app/manifests/.x")]).status, 404);
    assert_eq!(curl(&instance, &["-X", "POST", &url]).status, 405);
}

#[test]
fn what_is_deleted_goes_and_gc_frees_the_disk_beside_a_server() {
    let Some(instance) = Instance::without_daemon() else { return };
    let served = Served::start(&instance, &[]);
    let base = format!("http://{}/v2", served.at);
    let config = put(&instance, &base, "a", b"{}");
    let layer = put(&instance, &base, "a", &vec![7; 1 << 20]);
    let orphan = put(&instance, &base, "a", b"orphan");
    let image = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"l","digest":"{layer}","size":{}}}]}}"#,
        1 << 20
    );
    let oci = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    for tag in ["1", "2"] {
        let url = format!("{base}/a/manifests/{tag}");
        assert_eq!(curl(&instance, &["-X", "PUT", "-H", oci, "-d", &image, &url]).status, 201);
    }
    let url = |rest: &str| format!("{base}/a/{rest}");
    let status = |args: &[&str]| curl(&instance, args).status;
    let in_use = curl(&instance, &["-X", "DELETE", &url(&format!("blobs/{layer}"))]);
    assert_eq!((in_use.status, in_use.code().as_str()), (405, "UNSUPPORTED"));

    // The server that holds the store does it; what is young stays unless it is asked for.
    let gc = |flags: &[&str]| instance.ok(&[&["registry", "gc"], flags].concat());
    assert!(gc(&[]).starts_with("Removed 0 manifests and 0 blobs"));
    assert!(gc(&["--grace", "0s"]).starts_with("Removed 0 manifests and 1 blobs"));
    assert_eq!(status(&[&url(&format!("blobs/{orphan}"))]), 404);
    assert_eq!(status(&["-X", "DELETE", &url("manifests/1")]), 202);
    assert_eq!(status(&["-X", "DELETE", &url("manifests/1")]), 404);
    assert_eq!(status(&[&url("manifests/2")]), 200);
    let digest = digest(image.as_bytes());
    assert_eq!(status(&["-X", "DELETE", &url(&format!("manifests/{digest}"))]), 202);
    assert_eq!(status(&[&url("manifests/2")]), 404);
    assert_eq!(status(&["-X", "DELETE", &url(&format!("blobs/{config}"))]), 202);
    let collected = gc(&["--grace", "0s", "--untagged"]);
    assert!(collected.contains("Total reclaimed space: 1."), "{collected}");
    assert_eq!(fs::read_dir(instance.path("data/registry/blobs/sha256")).unwrap().count(), 0);
    // Without a server the command does it itself.
    served.kill();
    assert!(gc(&[]).starts_with("Removed 0 manifests and 0 blobs"));
}

#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_nothing() {
    let Some(instance) = Instance::without_daemon() else { return };
    let served = Served::start(&instance, &[]);
    let base = format!("http://{}/v2", served.at);
    let kept = put(&instance, &base, "a", b"kept");
    let begun = curl(&instance, &["-X", "POST", &format!("{base}/a/blobs/uploads/")]);
    let location = begun.header("location").unwrap().to_owned();
    let mut half = instance.on_network(|| TcpStream::connect(&served.at).unwrap());
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    half.write_all(head.as_bytes()).unwrap();
    half.write_all(&vec![1; 1 << 20]).unwrap();
    let grown = || {
        let standing = curl(&instance, &[&format!("http://{}{location}", served.at)]);
        standing.header("range") == Some("0-1048575")
    };
    wait_until("the half of it is there", grown);
    assert!(!tmp_is_empty(&instance));
    served.kill();
    drop(half.read(&mut [0]));
    let served = Served::start(&instance, &[]);
    assert!(tmp_is_empty(&instance));
    let base = format!("http://{}/v2", served.at);
    assert_eq!(curl(&instance, &[&format!("{base}/a/blobs/{kept}")]).body, "kept");
    let second = instance.run(&["registry", "serve", "--addr", "127.0.0.1:0"]);
    assert!(second.code == 1 && second.err.contains("in use"), "{second:?}");
}

#[test]
fn only_users_of_the_file_get_in_and_the_file_may_change() {
    let Some(instance) = Instance::start() else { return };
    let file = instance.path("htpasswd");
    fs::write(&file, format!("me:{HASH}\n")).unwrap();
    let served = Served::start(&instance, &["--htpasswd", &file.display().to_string()]);
    let at = &served.at;
    let base = format!("http://{at}/v2/");
    let refused = curl(&instance, &[&base]);
    assert_eq!((refused.status, refused.code().as_str()), (401, "UNAUTHORIZED"));
    assert!(refused.header("www-authenticate").unwrap().starts_with("Basic realm="));
    let status = |who: &str| curl(&instance, &["-u", who, &base]).status;
    assert_eq!([status("me:s3cret"), status("me:wrong"), status("you:s3cret")], [200, 401, 401]);

    // Ours, docker's, skopeo's and podman's way of saying who one is.
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let name = format!("{at}/a/demo:1");
    instance.ok(&["tag", "demo", &name]);
    let ours = |args: &[&str]| {
        let mut command = instance.command(args);
        command.env("DOCKER_CONFIG", instance.path("own-config"));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (pushed, why) = ours(&["push", &name]);
    assert!(!pushed && why.contains("no basic auth credentials"), "{why}");
    let (known, why) = ours(&["login", "-u", "me", "-p", "wrong", at]);
    assert!(!known && why.contains("authentication required"), "{why}");
    assert!(ours(&["login", "-u", "me", "-p", "s3cret", at]).0);
    assert!(ours(&["push", &name]).0);
    if testkit::need::tool("docker").is_some() {
        let refused = instance.docker(&["pull", &name]);
        assert!(refused.code != 0, "{refused:?}");
        instance.docker_ok(&["login", "-u", "me", "-p", "s3cret", at]);
        instance.docker_ok(&["pull", &name]);
        // {"username":"me","password":"s3cret"}
        let who = "X-Registry-Auth: eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzM2NyZXQifQ==";
        let socket = instance.path("run/docker.sock").display().to_string();
        let url = format!("http://docker/distribution/{name}/json");
        let asked =
            |flags: &[&str]| curl(&instance, &[&["--unix-socket", &socket, &url], flags].concat());
        assert_eq!(asked(&[]).status, 401);
        let found = asked(&["-H", who]).json();
        assert!(found["Descriptor"]["digest"].as_str().unwrap().starts_with("sha256:"), "{found}");
        assert_eq!(found["Platforms"][0]["os"], "linux");
        instance.docker_ok(&["logout", at]);
        assert!(instance.docker(&["pull", &name]).code != 0);
    }
    if testkit::need::tool("skopeo").is_some() {
        let (to, image) = (instance.path("dir"), format!("docker://{name}"));
        let to = format!("dir:{}", to.display());
        let copy = |who: &str| {
            let flags = ["--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds", who];
            on(&instance, "skopeo", &[&flags[..], &["--all", &image, &to]].concat())
        };
        assert!(copy("me:wrong").code != 0);
        let ran = copy("me:s3cret");
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    fs::write(&file, format!("you:{HASH}\n")).unwrap();
    wait_until("the file is read again", || status("you:s3cret") == 200);
    assert_eq!(status("me:s3cret"), 401);
    // What makes no sense is refused at the start, and changes nothing later.
    fs::write(&file, "me:plain\n").unwrap();
    let started = instance.run(&["registry", "serve", "--htpasswd", &file.display().to_string()]);
    assert!(started.code == 1 && started.err.contains("line 1"), "{started:?}");
    assert_eq!(status("you:s3cret"), 200);
}

#[test]
fn under_tls_it_proves_who_it_is() {
    let Some(instance) = Instance::start() else { return };
    let dir = instance.path("certificates");
    if !certificates(&dir) {
        return;
    }
    let file = |name: &str| dir.join(name).display().to_string();
    let (authority, certificate, key) =
        (file("ca.pem"), file("server.pem"), file("server-key.pem"));
    let served = Served::start(&instance, &["--tlscert", &certificate, "--tlskey", &key]);
    let at = &served.at;
    let url = format!("https://{at}/v2/");
    assert_eq!(curl(&instance, &["--cacert", &authority, &url]).status, 200);
    assert!(on(&instance, "curl", &["-sS", &url]).code != 0, "nobody vouches for it");
    assert!(on(&instance, "curl", &["-sS", &format!("http://{at}/v2/")]).code != 0);
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let name = format!("{at}/a/demo:1");
    instance.ok(&["tag", "demo", &name]);
    instance.ok(&["push", &name]);
    instance.ok(&["rmi", "-f", "demo", &name]);
    instance.ok(&["pull", &name]);
    if testkit::need::tool("skopeo").is_some() {
        let known = instance.path("known");
        fs::create_dir(&known).unwrap();
        fs::copy(&authority, known.join("ca.crt")).unwrap();
        let (image, to) = (format!("docker://{name}"), instance.path("dir"));
        let (known, to) = (known.display().to_string(), format!("dir:{}", to.display()));
        let copy = ["--insecure-policy", "copy", "--src-cert-dir", &known, "--all", &image, &to];
        ok(&instance, "skopeo", &copy);
    }
    // Of clients too, if that is asked for.
    let flags =
        ["--tlscert", &certificate, "--tlskey", &key, "--tlsverify", "--tlscacert", &authority];
    drop(served);
    let served = Served::start(&instance, &flags);
    let url = format!("https://{}/v2/", served.at);
    assert!(on(&instance, "curl", &["-sS", "--cacert", &authority, &url]).code != 0);
    let (certificate, key) = (file("client.pem"), file("client-key.pem"));
    let known = ["--cacert", &authority, "--cert", &certificate, "--key", &key, &url];
    assert_eq!(curl(&instance, &known).status, 200);
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let Some(instance) = Instance::without_daemon() else { return };
    let disk = instance.path("disk");
    fs::create_dir(&disk).unwrap();
    // A disk of its own, which goes with the registry's mount namespace.
    let script = "mount -t tmpfs -o size=24M none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&disk).arg(Instance::program());
    command.args(["registry", "serve", "--addr", "127.0.0.1:0", "--store"]).arg(&disk);
    let served = Served::spawn(&instance, command);
    let base = format!("http://{}/v2", served.at);
    let inside = format!("/proc/{}/root{}/tmp", served.child.id(), disk.display());
    let kept = put(&instance, &base, "a", &vec![1; 8 << 20]);
    let octets = "Content-Type: application/octet-stream";
    let large = instance.path("large");
    fs::write(&large, vec![2; 32 << 20]).unwrap();
    let (url, data) = (format!("{base}/a/blobs/uploads/"), format!("@{}", large.display()));
    for _ in 0..2 {
        let begun = curl(&instance, &["-X", "POST", &url]);
        let location = format!("http://{}{}", served.at, begun.header("location").unwrap());
        let full =
            curl(&instance, &["-X", "PATCH", "-H", octets, "--data-binary", &data, &location]);
        assert_eq!((full.status, full.code().as_str()), (507, "UNKNOWN"), "{full:?}");
        wait_until("nothing of it stays", || fs::read_dir(&inside).unwrap().count() == 0);
    }
    put(&instance, &base, "a", b"small");
    assert_eq!(curl(&instance, &["--head", &format!("{base}/a/blobs/{kept}")]).status, 200);
}
