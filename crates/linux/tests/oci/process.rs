//! `process`, `hostname`, `domainname` and `linux.personality`: what the command finds itself to be.

use serde_json::{Value, json};

use crate::bundle::{Bundle, said};

/// Runs `script` in a container with a changed configuration; answers what it says.
pub(crate) fn says(script: &str, change: impl FnOnce(&mut Value)) -> Option<String> {
    let bundle = Bundle::new(script)?;
    bundle.change(change);
    let ran = bundle.oci(["run", "box"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    Some(ran.stdout)
}

#[test]
fn directory_environment_and_arguments_are_as_configured() {
    let said = says("", |config| {
        let script = r#"pwd; echo "$0 $1 $WORD"; env | grep -c ^WORD"#;
        config["process"]["cwd"] = "/bin".into();
        config["process"]["env"] = json!(["PATH=/bin", "WORD=one two"]);
        config["process"]["args"] = json!(["sh", "-c", script, "zero", "first"]);
    });
    assert!(said.is_none_or(|said| said == "/bin\nzero first one two\n1\n"));
}

#[test]
fn the_user_has_its_ids_groups_and_mask() {
    let said = says("id -u; id -g; id -G; umask", |config| {
        config["process"]["user"] = json!({
            "uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o137, "username": "root",
        });
    });
    assert!(said.is_none_or(|said| said == "7\n8\n8 9 10\n0137\n"));
}

#[test]
fn capability_sets_are_what_is_configured() {
    // CHOWN is 0, KILL 5, SETUID 7.
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    // What execve(2) leaves an ordinary user: the ambient ones.
    let want = ["CapInh 20", "CapPrm 20", "CapEff 20", "CapBnd a1", "CapAmb 20"];
    let of = |uid: u32| {
        says("grep ^Cap /proc/self/status", |config| {
            config["process"]["capabilities"] = sets.clone();
            config["process"]["user"]["uid"] = uid.into();
        })
    };
    let sets = |said: String| -> Vec<String> {
        let lines = said.lines().map(|line| line.split_once(":\t").unwrap());
        lines.map(|(set, mask)| format!("{set} {}", mask.trim_start_matches('0'))).collect()
    };
    let (Some(user), Some(root)) = (of(7), of(0)) else { return };
    assert_eq!(sets(user), want);
    // And root, who gains nothing beyond what is permitted because of noNewPrivileges.
    assert_eq!(sets(root)[1..4], ["CapPrm 21", "CapEff 21", "CapBnd a1"]);
    let none = says("grep ^CapEff /proc/self/status", |config| {
        config["process"].as_object_mut().unwrap().remove("capabilities");
    });
    assert_eq!(none.unwrap(), "CapEff:\t0000000000000000\n");
}

#[test]
fn limits_and_scores_are_set() {
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; \
                  grep ^NoNewPrivs /proc/self/status";
    for allowed in [true, false] {
        let said = says(script, |config| {
            let process = &mut config["process"];
            process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 600}]);
            process["oomScoreAdj"] = 321.into();
            process["noNewPrivileges"] = (!allowed).into();
        });
        let flag = u8::from(!allowed);
        let want = format!("512\n600\n321\nNoNewPrivs:\t{flag}\n");
        assert!(said.is_none_or(|said| said == want));
    }
}

#[test]
fn every_resource_has_its_limit() {
    // Names of proc_pid_limits(5), and soft limits; hard ones are above, where this host lets us.
    let resources = [
        ("CPU", "Max cpu time", 101),
        ("FSIZE", "Max file size", 1_000_102),
        ("DATA", "Max data size", 100_000_103),
        ("STACK", "Max stack size", 8_000_104),
        ("CORE", "Max core file size", 0),
        ("RSS", "Max resident set", 100_000_105),
        ("NPROC", "Max processes", 106),
        ("NOFILE", "Max open files", 107),
        ("MEMLOCK", "Max locked memory", 108),
        ("AS", "Max address space", 200_000_109),
        ("LOCKS", "Max file locks", 110),
        ("SIGPENDING", "Max pending signals", 111),
        ("MSGQUEUE", "Max msgqueue size", 112),
        ("NICE", "Max nice priority", 13),
        ("RTPRIO", "Max realtime priority", 14),
        ("RTTIME", "Max realtime timeout", 115),
    ];
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let numbers = |text: &str, label: &str| -> Vec<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(label)).expect(label);
        let words = line.split_whitespace().take(2);
        words.map(|word| word.parse().unwrap_or(u64::MAX)).collect()
    };
    let limits = resources.map(|(name, label, soft)| {
        let most = numbers(&own, label)[1];
        (name, label, [soft.min(most), (soft + 1).min(most)])
    });
    let said = says("exec cat /proc/self/limits", |config| {
        let limit = |(name, _, [soft, hard]): &(&str, &str, [u64; 2])| json!({"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard});
        config["process"]["rlimits"] = limits.iter().map(limit).collect();
    });
    let Some(said) = said else { return };
    for (name, label, want) in limits {
        assert_eq!(numbers(&said, label), want, "{name}");
    }
}

#[test]
fn the_personality_holds_for_the_command_and_for_who_joins() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    // PER_LINUX32, as proc(5) shows it to root.
    bundle.change(|config| config["linux"]["personality"] = json!({"domain": "LINUX32"}));
    bundle.start();
    assert_eq!(bundle.oci(["exec", "box", "cat", "/proc/self/personality"]), said(0, "00000008\n"));
    let host = std::fs::read_to_string(format!("/proc/{}/personality", bundle.pid())).unwrap();
    assert_eq!(host, "00000008\n");
    bundle.delete();
}

#[test]
fn host_and_domain_have_names() {
    let script = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname";
    let said = says(script, |config| {
        config["hostname"] = "inside".into();
        config["domainname"] = "example.org".into();
    });
    assert!(said.is_none_or(|said| said == "inside\nexample.org\n"));
}
