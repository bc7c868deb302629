//! References read as Docker reads them.

use proptest::prelude::*;

use super::*;

fn check(given: &str, long: &str, short: &str) {
    let reference: Reference = given.parse().unwrap();
    assert_eq!(reference.to_string(), long, "{given}");
    assert_eq!(reference.familiar(), short, "{given}");
}

#[test]
fn short_names_mean_what_docker_means() {
    check("debian", "docker.io/library/debian", "debian");
    check("demo:v1", "docker.io/library/demo:v1", "demo:v1");
    check("bitnami/redis", "docker.io/bitnami/redis", "bitnami/redis");
    check("library/debian", "docker.io/library/debian", "debian");
    check("index.docker.io/debian:12", "docker.io/library/debian:12", "debian:12");
    check("localhost/web", "localhost/web", "localhost/web");
    check("localhost:5000/web:2", "localhost:5000/web:2", "localhost:5000/web:2");
    check("ghcr.io/a/b/c", "ghcr.io/a/b/c", "ghcr.io/a/b/c");
    check("[::1]:5000/web", "[::1]:5000/web", "[::1]:5000/web");
    check("Local/web", "Local/web", "Local/web");
}

#[test]
fn a_digest_can_stand_beside_or_in_place_of_a_tag() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    check(
        &format!("debian@{digest}"),
        &format!("docker.io/library/debian@{digest}"),
        &format!("debian@{digest}"),
    );
    let both: Reference = format!("debian:12@{digest}").parse().unwrap();
    assert_eq!((both.tag(), both.digest()), (Some("12"), Some(digest.parse().unwrap())));
    assert_eq!(both.clone().or_latest(), both);
}

#[test]
fn latest_is_added_only_where_nothing_was_said() {
    let or_latest = |text: &str| text.parse::<Reference>().unwrap().or_latest().familiar();
    assert_eq!(or_latest("debian"), "debian:latest");
    assert_eq!(or_latest("debian:12"), "debian:12");
}

#[test]
fn what_is_no_reference_is_refused() {
    for bad in [
        "",
        ":",
        "/",
        "a//b",
        "Debian",
        "debian:",
        "debian:-x",
        "-debian",
        "debian-",
        "a..b",
        "a___b",
        "debian@sha256:00",
        "debian@",
        "a b",
        "ü",
        "../etc",
        "a/../b",
        "host:port/x",
        "exa_mple.com/x",
        "example.com/",
        &"a".repeat(300),
        &format!("debian:{}", "t".repeat(129)),
        &"0".repeat(64),
    ] {
        assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_short_form_that_would_read_as_a_registry_is_not_used() {
    let dotted: Reference = "docker.io/library/a.b/c".parse().unwrap();
    assert_eq!(dotted.familiar().parse::<Reference>().unwrap(), dotted);
}

proptest! {
    #[test]
    fn every_reference_reads_as_it_is_written(
        text in "([A-Za-z0-9.-]{1,8}(:[0-9]{1,4})?/)?[a-z0-9]{1,5}([._/-][a-z0-9]{1,4}){0,3}(:[A-Za-z0-9_.-]{1,9})?"
    ) {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,80}") {
        let _ = text.parse::<Reference>();
    }
}
