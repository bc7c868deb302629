//! Instructions change a configuration as they do in a Dockerfile.

use proptest::prelude::*;

use super::*;

fn check(changes: &[&str], want: &str) {
    let said = match apply(changes.iter().copied()) {
        Ok(config) => serde_json::to_string(&config).unwrap(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said, want);
}

#[test]
fn commands_have_an_exec_form_and_a_shell_form() {
    check(&[r#"CMD ["a", "b c"]"#], r#"{"Cmd":["a","b c"]}"#);
    check(&["cmd a b"], r#"{"Cmd":["/bin/sh","-c","a b"]}"#);
    check(&["CMD x", r#"ENTRYPOINT ["/e"]"#], r#"{"Entrypoint":["/e"]}"#);
    check(&[r#"ENTRYPOINT ["/e"]"#, "CMD []"], r#"{"Entrypoint":["/e"],"Cmd":[]}"#);
}

#[test]
fn variables_and_labels_come_in_both_forms() {
    check(&[r#"ENV A=1 B="two words" C=x\ y A=2"#], r#"{"Env":["A=2","B=two words","C=x y"]}"#);
    check(&["ENV A  old form "], r#"{"Env":["A=old form"]}"#);
    check(&["LABEL a.b='$x' c="], r#"{"Labels":{"a.b":"$x","c":""}}"#);
    check(&["ENV =x"], "change \"ENV =x\": a name is empty");
    check(&["ENV A='x"], "change \"ENV A='x\": a quote is not closed");
    check(&["ENV A"], "change \"ENV A\": it is written NAME=value");
}

#[test]
fn ports_volumes_and_directories() {
    check(
        &["EXPOSE 80 53/UDP 8000-8001"],
        r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}}"#,
    );
    for bad in ["EXPOSE 0", "EXPOSE 80-79", "EXPOSE 1-65535", "EXPOSE 80/icmp", "EXPOSE x"] {
        assert!(apply([bad]).is_err(), "{bad}");
    }
    check(&["VOLUME /a /b", r#"VOLUME ["/c d"]"#], r#"{"Volumes":{"/a":{},"/b":{},"/c d":{}}}"#);
    check(&["WORKDIR /a/../b", "WORKDIR c//d"], r#"{"WorkingDir":"/b/c/d"}"#);
    check(&["USER 1:2", "STOPSIGNAL SIGQUIT"], r#"{"User":"1:2","StopSignal":"SIGQUIT"}"#);
    assert!(apply(["STOPSIGNAL NOPE"]).is_err());
    assert!(apply(["USER a b"]).is_err());
}

#[test]
fn health_checks_have_options() {
    check(
        &["HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x"],
        r#"{"Healthcheck":{"Test":["CMD-SHELL","curl -f x"],"Interval":90000000000,"Retries":3}}"#,
    );
    check(&["HEALTHCHECK NONE"], r#"{"Healthcheck":{"Test":["NONE"]}}"#);
    for bad in ["HEALTHCHECK x", "HEALTHCHECK --no=1 NONE", "HEALTHCHECK --timeout=5 NONE"] {
        assert!(apply([bad]).is_err(), "{bad}");
    }
}

#[test]
fn what_would_make_a_layer_is_refused_by_name() {
    let error = apply(["RUN make"]).unwrap_err().to_string();
    assert!(error.contains("RUN make") && error.contains("WORKDIR"), "{error}");
    assert!(apply(["USER"]).is_err());
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(
        name in "(CMD|ENV|EXPOSE|LABEL|VOLUME|WORKDIR|HEALTHCHECK|USER)", rest in "\\PC{0,60}"
    ) {
        let _ = apply([format!("{name} {rest}").as_str()]);
    }
}
