//! What is mounted, whoever asked for it.

use super::*;
use crate::VolumeMount;

fn named(name: &str, target: &str) -> MountRequest {
    let kind = MountKind::Volume(VolumeMount { name: name.to_owned(), ..VolumeMount::default() });
    MountRequest { target: target.into(), kind, read_only: false, idmap: None }
}

fn tmpfs(target: &str) -> MountRequest {
    let kind = MountKind::Tmpfs { size: None, mode: None, options: Vec::new() };
    MountRequest { target: target.into(), kind, read_only: false, idmap: None }
}

/// Target, name, whether it is anonymous, read-only and not filled.
fn check(own: &[MountRequest], image: &[&str], others: &[Others], want: &[&str]) {
    let config = Create { mounts: own.to_vec(), ..Create::default() };
    let volumes = image.iter().map(|path| (*path).to_owned()).collect();
    let image = ImageConfig { volumes, ..ImageConfig::default() };
    let mut made = 0;
    let name = || {
        made += 1;
        Ok(format!("made-up-{made}"))
    };
    let mounts = settle(&config, &image, others, name).unwrap();
    let shown: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let target = mount.target.display();
            let read_only = if mount.read_only { " ro" } else { "" };
            match volume(mount) {
                None => format!("{target} other{read_only}"),
                Some(volume) => {
                    let anonymous = if volume.anonymous { " anonymous" } else { "" };
                    let no_copy = if volume.no_copy { " nocopy" } else { "" };
                    format!("{target} {}{anonymous}{read_only}{no_copy}", volume.name)
                }
            }
        })
        .collect();
    assert_eq!(shown, want);
}

#[test]
fn what_the_image_wants_is_made_where_nothing_is_mounted() {
    check(&[], &["/b", "/a/"], &[], &["/b made-up-1 anonymous", "/a made-up-2 anonymous"]);
    let own = [named("db", "/a/"), tmpfs("/b"), named("", "/c")];
    let want = ["/a/ db", "/b other", "/c made-up-1 anonymous", "/d made-up-2 anonymous"];
    check(&own, &["/a", "/b", "/d"], &[], &want);
}

#[test]
fn others_volumes_come_first_and_ones_own_take_their_place() {
    let others = [
        Others { mounts: vec![named("one", "/a"), tmpfs("/t")], read_only: false },
        Others { mounts: vec![named("two", "/b"), named("three", "/a")], read_only: true },
    ];
    check(&[], &["/a"], &others, &["/b two ro nocopy", "/a three ro nocopy"]);
    check(&[named("own", "/b")], &[], &others, &["/a three ro nocopy", "/b own"]);
}

#[test]
fn paths_that_cannot_have_a_volume_are_refused() {
    for bad in ["/", "relative", "/a/.."] {
        let image = ImageConfig { volumes: vec![bad.to_owned()], ..ImageConfig::default() };
        let error = settle(&Create::default(), &image, &[], || Ok("x".to_owned())).unwrap_err();
        assert!(error.to_string().contains("no path for one"), "{bad}: {error}");
    }
}

#[test]
fn volumes_from_has_a_mode() {
    assert_eq!(settle::parse_from("db").unwrap(), ("db", false));
    assert_eq!(settle::parse_from("db:ro").unwrap(), ("db", true));
    assert_eq!(settle::parse_from("db:z").unwrap(), ("db", false));
    for bad in ["", ":ro", "db:nocopy"] {
        assert!(settle::parse_from(bad).is_err(), "{bad}");
    }
}
