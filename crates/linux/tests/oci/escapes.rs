//! Containers that attack the runtime that made them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use crate::bundle::{Bundle, program, said, until};

/// What a program needs to be run inside: its loader and libraries.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

/// CVE-2019-5736. The command of an exec is a script whose interpreter is `/proc/self/exe`: the
/// runtime itself, which its loader holds up inside (it waits for a writer of a FIFO that it takes
/// for a library). The container opens the file of that process, ends it, and writes to the file
/// as soon as nobody runs it.
#[test]
fn the_runtimes_own_file_cannot_be_overwritten_from_inside() {
    if testkit::need::tool("ldd").is_none() {
        return;
    }
    let attack = r#"
        until [ -e /go ]; do sleep 0.01; done
        while :; do for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox | '') ;; *) found=$p; break 2 ;; esac
        done; done
        exec 7<$found/exe && kill -9 ${found#/proc/} && echo caught
        until (echo overwritten >>/proc/self/fd/7) 2>/err; do
            grep -q 'Text file busy' /err || { cat /err; exit 0; }
        done
        echo written
    "#;
    let Some(bundle) = Bundle::new(attack) else { return };
    bundle.change(|config| config["root"]["readonly"] = json!(false));
    let victim = bundle.path("victim");
    fs::copy(program(), &victim).unwrap();
    let before = fs::read(&victim).unwrap();
    let root = bundle.path("rootfs");
    for library in libraries(&victim) {
        let inside = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(&library, inside).unwrap();
    }
    fs::write(root.join("trap"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(root.join("trap"), fs::Permissions::from_mode(0o755)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    bundle.start();
    fs::write(root.join("go"), "").unwrap();
    let mut exec = Command::new(&victim);
    exec.arg("--root").arg(bundle.path("state"));
    exec.args(["exec", "--env", "LD_PRELOAD=/fifo", "box", "/trap"]);
    let exec = exec.output().unwrap();
    bundle.await_status("stopped");
    let output = bundle.output();
    assert!(output.starts_with("caught\n"), "{output}: {exec:?}");
    assert!(!output.contains("written\n"), "{output}");
    assert!(fs::read(&victim).unwrap() == before, "the runtime was overwritten");
    bundle.delete();
}

#[test]
fn a_signal_does_not_reach_who_has_got_the_number_of_a_dead_container() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    // So that the container's number is free when this test says so.
    sys::process::adopt_orphans().unwrap();
    bundle.start();
    let number = bundle.pid();
    let pid = Pid::from_raw(number.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap();
    let mut bystander = None;
    until(|| {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        if child.id() == number {
            bystander = Some(child);
            return true;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        false
    });
    let mut bystander = bystander.unwrap();
    assert_eq!(bundle.status(), "stopped");
    assert_eq!(bundle.oci(["kill", "box", "KILL"]).code, Some(1));
    assert_eq!(bundle.oci(["kill", "--all", "box", "KILL"]), said(0, ""));
    assert_ne!(bundle.oci(["exec", "box", "true"]).code, Some(0));
    bundle.delete();
    assert_eq!(bystander.try_wait().unwrap(), None, "it was hit");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// The runtime's caller has a terminal, and the container is given it as its standard streams
/// without being given a terminal of its own.
#[test]
fn nothing_can_be_typed_into_the_callers_terminal() {
    let Some(bundle) = Bundle::new("/attack ioctl 0 0x5412 hello , ioctl 0 0x540e 1; cat /dev/tty")
    else {
        return;
    };
    fs::copy(testkit::attack(), bundle.path("rootfs/attack")).unwrap();
    let mut command = Command::new("script");
    let line = format!("{} --root {} run box", program().display(), bundle.text("state"));
    command.args(["-qec", &line, "/dev/null"]).current_dir(bundle.path(""));
    let Some(_) = testkit::need::tool("script") else { return };
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = output.lines().map(str::trim).collect();
    // TIOCSTI takes the caller's controlling terminal, TIOCSCTTY one that is nobody's.
    assert!(lines.first().is_some_and(|line| ["E1", "E5"].contains(line)), "{output}");
    assert_eq!(lines.get(1), Some(&"E1"), "{output}");
    assert!(output.contains("/dev/tty") && !output.contains("hello"), "{output}");
    bundle.delete();
}
