//! User namespaces.

use std::{fs, os::unix::fs::MetadataExt};

use workload::{Bind, IdMap, Mount, MountFlags, MountSource, UserMap};

use crate::fixture::Fixture;

fn mapped() -> Option<Fixture> {
    let mut fixture = Fixture::new()?;
    let ranges = vec![IdMap { inside: 0, outside: 100_000, count: 65_536 }];
    fixture.sandbox.user = Some(UserMap { uids: ranges.clone(), gids: ranges, join: None });
    Some(fixture)
}

#[test]
fn root_inside_is_nobody_outside_and_files_are_shifted() {
    let Some(fixture) = mapped() else { return };
    let output = fixture.says(
        "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u /bin/busybox; touch /made; stat -c %u /made; \
         cp /bin/busybox /tmp/; chown 33 /tmp/busybox; echo x > /dev/null; readlink /proc/self/ns/user; stat -c %F /dev/null",
    );
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..4], ["0", " 0 100000 65536", "0", "0"]);
    let outside = fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(Some(lines[4]), outside.to_str());
    assert_eq!(lines[5], "character special file");
    // On disk everything belongs to whom it would belong without a user namespace.
    let upper = fixture.home.path().join("upper");
    assert_eq!(fs::metadata(upper.join("made")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(upper.join("tmp/busybox")).unwrap().uid(), 33);
}

#[test]
fn binds_are_shifted_where_that_is_asked() {
    let Some(mut fixture) = mapped() else { return };
    let host = fixture.home.path().join("host");
    fs::create_dir(&host).unwrap();
    for (target, idmap) in [("/plain", None), ("/shifted", fixture.sandbox.user.clone())] {
        let bind = Bind { path: host.clone(), recursive: true, idmap };
        let source = MountSource::Bind(bind);
        fixture.container.mounts.push(Mount {
            target: target.into(),
            source,
            flags: MountFlags::default(),
            propagation: None,
        });
    }
    let output = fixture
        .says("stat -c %u /plain /shifted; touch /shifted/made; touch /plain/no 2>&1 || true");
    assert_eq!(output, "65534\n0\ntouch: /plain/no: Permission denied\n");
    assert_eq!(fs::metadata(host.join("made")).unwrap().uid(), 0);
}

#[test]
fn an_exec_joins_the_user_namespace() {
    let Some(fixture) = mapped() else { return };
    let output = crate::fixture::block_on(async {
        let sandbox = fixture.create().await.unwrap();
        let spawn =
            |spec| sandbox.spawn(spec, workload::Streams::default(), crate::fixture::soon());
        spawn(fixture.sh("exec sleep 1000")).await.unwrap();
        let exec = fixture.exec(
            "look",
            "id -u; tail -c +1 /proc/self/uid_map | tr -s ' '; touch /made && stat -c %u /made",
        );
        spawn(exec).await.unwrap().wait().await;
        sandbox.destroy(crate::fixture::soon()).await.unwrap();
        fixture.output("look")
    });
    assert_eq!(output, "0\n 0 100000 65536\n0\n");
}
