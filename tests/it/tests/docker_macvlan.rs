//! Networks on a link of the host by the stock docker client: `up0`, whose other end is a router in
//! a namespace of its own; and hardware addresses that users choose.

use std::process::{Child, Command, Stdio};

use it::{Instance, wait_until};

const BUSYBOX: &str = "/busybox";

/// Somebody on the other end of the host's link `up0`: 10.40.0.1, and 192.0.2.1 behind it.
struct Router(Child);

impl Router {
    fn new(instance: &Instance) -> Router {
        let script = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && echo ready && exec sleep infinity";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("unshare runs");
        let mut ready = [0; 6];
        let out = holder.stdout.as_mut().expect("it is a pipe");
        std::io::Read::read_exact(out, &mut ready).expect("the namespace is made");
        let router = Router(holder);
        let pid = router.0.id();
        on_host(instance, &format!("ip link add up0 type veth peer name eth0 netns {pid}"));
        on_host(instance, "ip link set up0 up");
        router.run("ip addr add 10.40.0.1/24 dev eth0 && ip -6 addr add fd40::1/64 dev eth0 nodad && ip link set eth0 up");
        // To ask for a link makes the kernel act on its carrier at once.
        on_host(instance, "ip link show up0 >/dev/null");
        router.run("ip link show eth0 >/dev/null");
        router
    }

    fn run(&self, script: &str) {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let status = Command::new("nsenter").args([&net, "sh", "-c", script]).status();
        assert!(status.expect("nsenter runs").success(), "{script}");
    }

    fn reaches(&self, what: &str) -> bool {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let mut ping = Command::new("nsenter");
        ping.args([&net, "busybox", "ping", "-c1", "-W2", "-q", what]).stdout(Stdio::null());
        ping.status().expect("nsenter runs").success()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn on_host(instance: &Instance, script: &str) {
    let run = || Command::new("sh").args(["-c", script]).status();
    assert!(instance.on_network(run).expect("sh runs").success(), "{script}");
}

fn start() -> Option<(Instance, String)> {
    testkit::need::tool("docker")?;
    testkit::need::tool("ip")?;
    let busybox = testkit::need::tool("busybox")?;
    let instance = Instance::start()?;
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some((instance, format!("{}:{BUSYBOX}:ro", busybox.display())))
}

fn pings(instance: &Instance, from: &str, to: &str) -> bool {
    instance.docker(&["exec", from, BUSYBOX, "ping", "-c1", "-W2", "-q", to]).code == 0
}

/// What a template shows of a container.
fn shown(instance: &Instance, template: &str, who: &str) -> String {
    instance.docker_ok(&["inspect", "-f", template, who])
}

#[test]
fn containers_are_on_the_wire_of_the_host() {
    let Some((mut instance, bind)) = start() else { return };
    let router = Router::new(&instance);
    let before = instance.links();
    let docker = |args: &[&str]| instance.docker_ok(args);
    docker(&[
        "network",
        "create",
        "-d",
        "macvlan",
        "--subnet",
        "10.40.0.0/24",
        "--gateway",
        "10.40.0.1",
        "--ipv6",
        "--subnet",
        "fd40::/64",
        "--gateway",
        "fd40::1",
        "-o",
        "parent=up0",
        "wire",
    ]);
    assert_eq!(
        docker(&[
            "network",
            "ls",
            "--filter",
            "driver=macvlan",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}"
        ]),
        "wire macvlan local"
    );
    assert_eq!(
        docker(&["network", "inspect", "-f", "{{.Options.parent}} {{.Internal}}", "wire"]),
        "up0 false"
    );
    docker(&["network", "create", "--subnet", "10.41.0.0/24", "back"]);
    let run = |name: &str, more: &[&str]| {
        let args = ["run", "-d", "--name", name, "-v", &bind, "--cap-add", "NET_RAW"];
        docker(&[&args[..], more, &["demo", "sleep", "1000"]].concat())
    };
    run("one", &["--network", "wire", "--ip", "10.40.0.11", "-p", "8080:80"]);
    run("two", &["--network", "wire", "--ip", "10.40.0.12", "--mac-address", "02:99:00:00:00:12"]);
    assert!(pings(&instance, "one", "two") && pings(&instance, "two", "one.wire"), "by name");
    assert!(pings(&instance, "one", "10.40.0.1") && pings(&instance, "one", "fd40::1"));
    assert!(pings(&instance, "one", "192.0.2.1"), "by the gateway");
    assert!(router.reaches("10.40.0.12"));
    router.run("ip neigh show 10.40.0.12 | grep -q 02:99:00:00:00:12");
    assert_eq!(docker(&["port", "one"]), "", "published ports mean nothing there");
    let links = |instance: &Instance| instance.links().len();
    assert_eq!(links(&instance), before.len() + 1, "the bridge of the other network alone");

    // One that is on a bridge as well, connected while it runs and not any more.
    run("three", &["--network", "back"]);
    assert!(!pings(&instance, "three", "10.40.0.12"));
    docker(&["network", "connect", "--ip", "10.40.0.13", "wire", "three"]);
    assert!(pings(&instance, "three", "two") && router.reaches("10.40.0.13"));
    assert!(pings(&instance, "three", "10.41.0.1"));
    docker(&["network", "disconnect", "wire", "three"]);
    assert!(!router.reaches("10.40.0.13") && pings(&instance, "three", "10.41.0.1"));
    let said = instance.docker(&["network", "rm", "wire"]);
    assert!(said.code == 1 && said.err.contains("has active endpoints"), "{said:?}");

    // The daemon is killed; a restart of a container keeps what was chosen.
    instance.kill_daemon();
    assert!(router.reaches("10.40.0.11"), "nobody is cut off");
    instance.start_daemon();
    assert!(pings(&instance, "one", "two"), "names are resolved again");
    instance.docker_ok(&["restart", "-t", "0", "two"]);
    assert!(pings(&instance, "one", "two"));
    let mac = "{{.NetworkSettings.Networks.wire.MacAddress}}";
    assert_eq!(shown(&instance, mac, "two"), "02:99:00:00:00:12");
    let users = "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{end}}";
    let users = instance.docker_ok(&["network", "inspect", "-f", users, "wire"]);
    assert!(users.contains("one 10.40.0.11/24") && users.contains("two 10.40.0.12/24"), "{users}");

    // The link goes, and doctor says so.
    let doctor = || instance.run(&["doctor"]).out;
    assert!(!doctor().contains("up0 is gone"));
    on_host(&instance, "ip link del up0");
    let said = doctor();
    assert!(said.contains("network wire") && said.contains("up0 is gone"), "{said}");
    let ran = instance.docker(&["run", "--rm", "--network", "wire", "demo", "true"]);
    assert!(ran.code != 0 && ran.err.contains("up0"), "{ran:?}");
    instance.remove_all();
    instance.docker_ok(&["network", "rm", "wire", "back"]);
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
}

#[test]
fn without_a_parent_containers_have_each_other_alone_and_bad_ones_are_refused() {
    let Some((instance, bind)) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    let create = ["network", "create", "-d", "macvlan"];
    docker(&[&create[..], &["--internal", "--subnet", "10.42.0.0/24", "alone"]].concat());
    docker(
        &[&create[..], &["--subnet", "10.43.0.0/24", "-o", "macvlan_mode=private", "apart"]]
            .concat(),
    );
    let run = |name: &str, network: &str, more: &[&str]| {
        let args = ["run", "-d", "--name", name, "--network", network, "-v", &bind];
        docker(&[&args[..], more, &["--cap-add", "NET_RAW", "demo", "sleep", "1000"]].concat())
    };
    run("aa", "alone", &[]);
    run("bb", "alone", &[]);
    run("cc", "apart", &["--ip", "10.43.0.3"]);
    run("dd", "apart", &["--ip", "10.43.0.4"]);
    assert!(pings(&instance, "aa", "bb"));
    assert!(!pings(&instance, "cc", "10.43.0.4"), "private");
    let routes = docker(&["exec", "aa", BUSYBOX, "ip", "route"]);
    assert!(!routes.contains("default"), "{routes}");
    instance.remove_all();
    docker(&["network", "prune", "-f"]);
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
    on_host(&instance, "ip link add up0 type veth peer name up1");
    let said = |args: &[&str], want: &str| {
        let ran = instance.docker(&[&create[..], args].concat());
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    };
    said(&["-o", "parent=nosuch0", "x"], "nosuch0");
    said(&["-o", "parent=nosuch0.50", "x"], "nosuch0");
    said(&["-o", "parent=lo", "x"], "loopback interface is not a valid macvlan parent link");
    said(
        &["-o", "parent=up0", "-o", "macvlan_mode=l2", "x"],
        "requested macvlan mode 'l2' is not valid",
    );
    docker(&[&create[..], &["-o", "parent=up0", "-o", "macvlan_mode=passthru", "mine"]].concat());
    said(&["-o", "parent=up0", "x"], "macvlan network mine is already using parent interface up0");
    let ran = instance.docker(&["network", "create", "-d", "ipvlan", "x"]);
    assert!(ran.code == 1 && ran.err.contains("ipvlan"), "{ran:?}");
    assert_eq!(
        instance.ok(&["network", "create", "-d", "macvlan", "-o", "parent=up1", "own"]).len(),
        64
    );
    instance.ok(&["network", "rm", "mine", "own"]);
    assert_eq!(docker(&["network", "ls", "-q", "--filter", "type=custom"]), "");
}

#[test]
fn hardware_addresses_are_those_that_users_choose() {
    let Some((mut instance, _)) = start() else { return };
    let (own, other) = ("02:aa:00:00:00:01", "02:aa:00:00:00:02");
    instance.docker_ok(&["network", "create", "back"]);
    let run = |name: &str, option: &str, value: &str| {
        let args = ["run", "-d", "--name", name, option, value, "demo", "sleep", "1000"];
        instance.docker_ok(&args);
    };
    run("plain", "--mac-address", own);
    run("both", "--network", &format!("name=back,mac-address={other}"));
    // The same one twice on one network is the user's business, as in Docker.
    run("twin", "--mac-address", own);
    let has = |instance: &Instance, who: &str, mac: &str| {
        let there = instance.docker_ok(&["exec", who, "cat", "/sys/class/net/eth0/address"]);
        assert_eq!(there, mac, "{who}");
        let first = "{{range .NetworkSettings.Networks}}{{.MacAddress}} {{end}}";
        let shown = shown(instance, first, who);
        assert!(shown.contains(mac), "{shown}");
    };
    let all = |instance: &Instance| {
        has(instance, "plain", own);
        has(instance, "both", other);
        has(instance, "twin", own);
    };
    all(&instance);
    instance.docker_ok(&["restart", "-t", "0", "plain", "both"]);
    all(&instance);
    instance.kill_daemon();
    instance.start_daemon();
    all(&instance);
    instance.docker_ok(&["restart", "-t", "0", "both"]);
    all(&instance);
    for (mac, want) in
        [("zz", "is not a valid mac address"), ("03:00:00:00:00:01", "invalid MAC address")]
    {
        let ran = instance.docker(&["run", "--rm", "--mac-address", mac, "demo", "true"]);
        assert!(ran.code != 0 && ran.err.contains(want), "{ran:?}");
    }
    instance.remove_all();
    instance.docker_ok(&["network", "rm", "back"]);
}
