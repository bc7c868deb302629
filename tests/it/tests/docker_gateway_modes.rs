//! Gateway modes and IPv6 pools of networks, by the stock docker client.

use it::{Instance, wait_until};

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    let instance = Instance::start()?;
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some(instance)
}

const MODE: &str = "com.docker.network.bridge.gateway_mode_ipv";

#[test]
fn ports_of_routed_networks_are_open_at_containers_own_addresses() {
    let Some(mut instance) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    let create = ["network", "create", "--subnet", "10.45.0.0/24"];
    docker(&[&create[..], &["-o", &format!("{MODE}4=routed"), "out"]].concat());
    let run = ["run", "-d", "--name", "web", "--network", "out", "--ip", "10.45.0.7"];
    docker(&[&run[..], &["-p", "8080:80", "demo", "httpd"]].concat());
    let check = |instance: &Instance| {
        let ports =
            instance.docker_ok(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"]);
        assert_eq!(ports, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":""}]}"#);
        assert_eq!(instance.docker_ok(&["ps", "--format", "{{.Ports}}"]), "80/tcp");
        let rules = instance.rules();
        assert!(rules.contains("10.45.0.7 . tcp . 80"), "{rules}");
        assert!(!rules.contains("8080"), "{rules}");
    };
    check(&instance);
    instance.kill_daemon();
    instance.start_daemon();
    check(&instance);
    instance.docker_ok(&["rm", "-f", "web"]);
    wait_until("it is open no more", || !instance.rules().contains("10.45.0.7 . tcp"));
    let said = |args: &[&str], want: &str| {
        let ran = instance.docker(&[&["network", "create"], args].concat());
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    };
    said(&["-o", &format!("{MODE}4=isolated"), "x"], "can only be used for an internal network");
    said(&["-o", &format!("{MODE}6=sideways"), "x"], "gateway_mode_ipv6");
    let two = ["--subnet", "10.46.0.0/24", "--subnet", "10.47.0.0/24", "x"];
    said(&two, "bridge driver doesn't support multiple subnets");
    instance.docker_ok(&["network", "rm", "out"]);
}

#[test]
fn ipv6_ranges_and_auxiliary_addresses_are_kept() {
    let Some(instance) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    let create = ["network", "create", "--ipv6", "--subnet", "fd45::/64", "--internal"];
    let part = ["--ip-range", "fd45::100/120", "--aux-address", "printer=fd45::100"];
    let mode = format!("{MODE}4=isolated");
    docker(&[&create[..], &part, &["-o", &mode, "six"]].concat());
    let shown = "{{range .IPAM.Config}}{{.IPRange}} {{.AuxAddress}}{{end}}";
    let shown = docker(&["network", "inspect", "-f", shown, "six"]);
    assert!(shown.contains("fd45::100/120") && shown.contains("printer:fd45::100"), "{shown}");
    let address = "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}";
    for (name, want) in [("one", "fd45::101"), ("two", "fd45::102")] {
        docker(&["run", "-d", "--name", name, "--network", "six", "demo", "sleep", "1000"]);
        assert_eq!(docker(&["inspect", "-f", address, name]), want);
        let inside = docker(&["exec", name, "cat", "/proc/net/if_inet6"]);
        assert!(
            inside.contains(&want.replace("fd45::", "fd450000000000000000000000000")),
            "{inside}"
        );
    }
    instance.remove_all();
    docker(&["network", "rm", "six"]);
}
