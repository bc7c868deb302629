//! Shims from the outside: a driver whose sandboxes outlive everybody but themselves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod host;
mod world;

mod faults;
mod lifecycle;
mod post;

/// Not tests: what this program does when a test starts it again.
mod roles {
    use std::time::Duration;

    use workload::{Driver as _, Materials, Streams};

    use crate::{
        host::{SLOW, sandbox, script},
        world::{driver_in, fork_server as serve, soon, world},
    };

    #[test]
    #[ignore = "a role that other tests start"]
    #[expect(clippy::exit, reason = "a forked process must not run the rest of the test program")]
    fn fork_server() {
        let Some(world) = world() else { return };
        serve(&world);
        std::process::exit(0);
    }

    /// A daemon that makes a sandbox, starts a process in it, and is there until it is killed.
    #[tokio::test]
    #[ignore = "a role that other tests start"]
    async fn daemon() {
        let Some(world) = world() else { return };
        let driver = driver_in(&world, "this build");
        let spec = sandbox(&world, "web");
        let sandbox = driver.create(spec, Materials::default(), soon()).await.unwrap();
        let lines = "for i in $(seq 300); do echo line $i; sleep 0.002; done; exit 3";
        let spec = script(&world, "main", lines);
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        // It appears whole.
        let unfinished = world.join("starting");
        std::fs::write(&unfinished, process.host_pid().unwrap().to_string()).unwrap();
        std::fs::rename(unfinished, world.join("started")).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    /// A daemon that is killed while it makes a sandbox.
    #[tokio::test]
    #[ignore = "a role that other tests start"]
    async fn creating_daemon() {
        let Some(world) = world() else { return };
        let driver = driver_in(&world, "this build");
        let mut spec = sandbox(&world, "web");
        spec.hostname = Some(SLOW.to_owned());
        driver.create(spec, Materials::default(), soon()).await.unwrap();
        std::fs::write(world.join("created"), "").unwrap();
    }
}
