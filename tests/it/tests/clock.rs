//! The civil clock jumps by years, both ways, while containers run: nothing hangs, nothing comes in a
//! storm, and only what is shown as a date changes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
    time::{Duration, Instant},
};

use it::{Instance, wait_until};
use testkit::need;

/// Adds what a file says to the civil time, for a program that is started with it: the daemon, the
/// fork server and the shims. The host's own clock is everybody's.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *jump;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_JUMP");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) jump = at;
    if (fd >= 0) close(fd);
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    int r = syscall(SYS_clock_gettime, id, ts);
    if (r == 0 && id == CLOCK_REALTIME && jump) ts->tv_sec += *jump;
    return r;
}
"#;

/// How far it jumps, in years, one after the other; 0 is back to the right time.
const JUMPS: [i64; 3] = [10, -10, 0];

const YEAR: i64 = 365 * 24 * 3600;

/// Starts that a container whose every run fails may have in two seconds: the pause before each is
/// twice the one before, from a tenth of a second on.
const STARTS_MAX: u32 = 10;

#[test]
fn a_clock_that_jumps_changes_what_is_shown_and_nothing_else() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    if need::tool("cc").is_none() {
        return;
    }
    let [source, library, jump] = ["clock.c", "clock.so", "jump"].map(|name| instance.path(name));
    fs::write(&source, CLOCK).expect("there is room");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(cc.status().expect("cc runs").success());
    let file = File::create(&jump).expect("there is room");
    // In place: who looks while the mapped file is empty dies of SIGBUS.
    let set = |years: i64| {
        file.write_all_at(&(years * YEAR).to_ne_bytes(), 0).expect("there is room");
    };
    set(0);
    let [library, jump] = [&library, &jump].map(|path| path.display().to_string());
    let script = format!("exec env LD_PRELOAD={library} CLOCK_JUMP={jump} \"$0\" daemon");
    instance.start_daemon_with(&script);
    let fails = ["sh", "-c", "sleep 0.1; exit 1"];
    instance
        .ok(&[&["run", "-d", "--restart", "always", "--name", "restless", "demo"], &fails[..]]
            .concat());
    let check = ["--health-cmd", "true", "--health-interval", "200ms", "--name", "checked"];
    instance.ok(&[&["run", "-d"], &check[..], &["demo", "sleep", "infinity"]].concat());
    for (n, years) in JUMPS.into_iter().enumerate() {
        let began = Instant::now();
        jumps(&instance, &format!("n{n}"), || set(years));
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        // The jump is real: what is made now is made in another year.
        let year = |who: &str| {
            let created = instance.inspect(who, "{{.Created}}");
            created[..4].parse::<i64>().expect("a year")
        };
        let moved = year(&format!("n{n}-after")) - year("restless");
        assert!((moved - years).abs() <= 1, "{moved} years for {years}");
        // A daemon that begins in another year takes over what runs.
        instance.kill_daemon();
        instance.start_daemon_with(&script);
        assert_eq!(instance.inspect("checked", "{{.State.Status}}"), "running");
        assert_eq!(instance.inspect(&format!("n{n}-after"), "{{.State.Status}}"), "created");
    }
    instance.remove_all();
    instance.wait_until_agreed("the clock is right again");
    assert_eq!(instance.diagnosis()["leftovers"], serde_json::json!([]));
}

/// Lets the clock jump while one container is being stopped, one is waited for, one waits to be
/// started again and one is checked.
fn jumps(instance: &Instance, name: &str, jump: impl FnOnce()) {
    let [stubborn, short] = ["stubborn", "short"].map(|of| format!("{name}-{of}"));
    let trap = ["demo", "sh", "-c", "echo hi; trap '' TERM; sleep 99"];
    instance.ok(&[&["run", "-d", "--name", &stubborn], &trap[..]].concat());
    instance.ok(&["run", "-d", "--name", &short, "demo", "sh", "-c", "sleep 1; exit 3"]);
    let starts = || instance.inspect("restless", "{{.RestartCount}}").parse::<u32>().expect("it");
    let mut stop = instance.command(&["stop", "-t", "1", &stubborn]).spawn().expect("it runs");
    let before = starts();
    jump();
    let after = Instant::now();
    assert_eq!(instance.ok(&["wait", &short]), "3");
    assert!(stop.wait().expect("it ends").success(), "{}", instance.daemon_log());
    assert_eq!(instance.inspect(&stubborn, "{{.State.Status}}"), "exited");
    let tick = instance.inspect("checked", "{{len .State.Health.Log}}");
    wait_until("it is checked again", || {
        let healthy = instance.inspect("checked", "{{.State.Health.Status}}") == "healthy";
        healthy && (tick == "5" || instance.inspect("checked", "{{len .State.Health.Log}}") != tick)
    });
    assert_eq!(instance.ok(&["logs", &stubborn]), "hi");
    instance.ok(&["logs", "--since", "1m", &stubborn]);
    instance.ok(&["events", "--since", "1h", "--until", "1s"]);
    instance.ok(&["ps", "-a"]);
    instance.ok(&["create", "--name", &format!("{name}-after"), "demo", "true"]);
    let allowed = STARTS_MAX * (2 + u32::try_from(after.elapsed().as_secs()).unwrap_or(0)) / 2;
    assert!(starts() - before <= allowed, "{before} starts before, {} after", starts());
}
