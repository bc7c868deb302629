//! Who attaches to a container: what it has said and what it says, and whose input it takes.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use it::{Instance, wait_until};

/// Clients of each kind of log that attach while a container prints.
const CLIENTS: usize = 25;

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    let instance = Instance::start()?;
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some(instance)
}

/// The stream of one who attaches so.
fn attach(instance: &Instance, container: &str, query: &str) -> UnixStream {
    let mut stream = UnixStream::connect(instance.path("run/docker.sock")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it can wait");
    let request = format!(
        "POST /containers/{container}/attach?{query} HTTP/1.1\r\nHost: d\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is read");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// What is in Docker's frames.
fn unframe(mut frames: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk::<8>() {
        let [1, 0, 0, 0, length @ ..] = *header else { panic!("no frame of output: {header:?}") };
        let (payload, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        text.extend(payload);
        frames = rest;
    }
    assert!(frames.is_empty(), "a frame is cut");
    String::from_utf8(text).expect("it is text")
}

#[test]
fn past_and_present_have_neither_gap_nor_overlap() {
    let Some(instance) = start() else { return };
    let Some(busybox) = testkit::need::tool("busybox") else { return };
    let stop = instance.path("stop");
    fs::create_dir(&stop).expect("it can be made");
    let volumes =
        [format!("{}:/busybox:ro", busybox.display()), format!("{}:/stop:ro", stop.display())];
    // Numbered lines in bursts, so that pieces end in the midst of lines.
    let script = "n=0; until [ -e /stop/now ]; do \
                  /busybox seq $((n+1)) $((n+5000)); n=$((n+5000)); /busybox sleep 0.1; done";
    for log in ["local", "json-file"] {
        let _ = fs::remove_file(stop.join("now"));
        let mut run = vec!["run", "-d", "--network", "none", "--name", log, "--log-driver", log];
        volumes.iter().for_each(|volume| run.extend(["-v", volume]));
        instance.docker_ok(&[&run[..], &["demo", "/busybox", "sh", "-c", script]].concat());
        let attached = AtomicUsize::new(0);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (instance, attached) = (&instance, &attached);
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(23 * number as u64));
                        let query = "logs=1&stream=1&stdout=1&stderr=1";
                        let mut stream = attach(instance, log, query);
                        let mut frames = vec![0];
                        stream.read_exact(&mut frames).expect("something was said");
                        attached.fetch_add(1, SeqCst);
                        stream.read_to_end(&mut frames).expect("it ends");
                        unframe(&frames)
                    })
                })
                .collect();
            wait_until("all are attached", || attached.load(SeqCst) == CLIENTS);
            fs::write(stop.join("now"), "").expect("it can be made");
            for client in clients {
                let text = client.join().expect("it got frames");
                let wrong = text.lines().zip(1..).find(|(line, n)| *line != n.to_string());
                assert_eq!(wrong, None, "{log}: lines are lost or doubled");
                assert_eq!(text.lines().count() % 5_000, 0, "{log}: the last lines are lost");
            }
        });
        instance.docker_ok(&["rm", "-f", log]);
    }
    instance.remove_all();
}

#[test]
fn what_earlier_runs_said_comes_at_once_and_the_next_run_follows() {
    let Some(instance) = start() else { return };
    let create = ["create", "--network", "none", "--name", "box", "demo", "echo", "one run"];
    instance.docker_ok(&create);
    instance.docker_ok(&["start", "-a", "box"]);
    let mut stream = attach(&instance, "box", "logs=1&stream=1&stdout=1&stderr=1");
    let mut first = [0; 16];
    stream.read_exact(&mut first).expect("it does not wait for the start");
    assert_eq!(unframe(&first), "one run\n");
    instance.docker_ok(&["start", "box"]);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it ends");
    assert_eq!(unframe(&rest), "one run\n");
    instance.docker_ok(&["rm", "box"]);
    instance.remove_all();
}

#[test]
fn who_only_listens_does_not_end_the_input_that_others_give() {
    let Some(instance) = start() else { return };
    instance.docker_ok(&["create", "-i", "--network", "none", "--name", "box", "demo", "cat"]);
    let listener = attach(&instance, "box", "stream=1&stdout=1&stderr=1");
    instance.docker_ok(&["start", "box"]);
    // It was the first one, and it leaves; so does one of the program's own.
    drop(listener);
    let mut own = instance.command(&["attach", "--no-stdin", "--sig-proxy=false", "box"]);
    own.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut own = own.spawn().expect("it runs");
    let attaches = || {
        let of_it = ["--filter", "event=attach", "--filter", "container=box"];
        let events = [&["events", "--since", "1h", "--until", "0s"], &of_it[..]].concat();
        instance.docker_ok(&events).lines().count()
    };
    wait_until("both were attached", || attaches() == 2);
    own.kill().expect("it runs");
    own.wait().expect("it has ended");
    let mut writer = instance.docker_command(&["attach", "box"]);
    let mut writer =
        writer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker runs");
    let mut input = writer.stdin.take().expect("it is a pipe");
    input.write_all(b"still open\n").expect("it is read");
    drop(input);
    let said = writer.wait_with_output().expect("it ends").stdout;
    assert_eq!(String::from_utf8_lossy(&said), "still open\n");
    instance.docker_ok(&["rm", "-f", "box"]);
    instance.remove_all();
}
