//! The messages as they go over the wire. A shim of an earlier build must understand them: what
//! changes here other than by addition takes another [`PROTOCOL`].

use base::clock::Timestamp;
use workload::ExitStatus;

use super::*;

fn check<T>(message: &T, golden: &str)
where
    T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(message).unwrap(), golden);
    assert_eq!(serde_json::from_str::<T>(golden).unwrap(), *message);
}

#[test]
fn greetings_stay_as_they_are() {
    check(&Hello { protocol: 1 }, r#"{"protocol":1}"#);
    let welcome = Welcome { protocol: 1, build: "0.1.0".to_owned(), pid: 7 };
    check(&welcome, r#"{"protocol":1,"build":"0.1.0","pid":7}"#);
}

#[test]
fn calls_stay_as_they_are() {
    let process = ProcessId::main;
    let handle = SandboxHandle {
        isolation: Isolation::Container,
        sandbox: "web".parse().unwrap(),
        token: "t".to_owned(),
    };
    let size = TerminalSize { rows: 2, columns: 3 };
    let cases = [
        (
            Request::Reclaim { handle },
            r#"{"reclaim":{"handle":{"isolation":"container","sandbox":"web","token":"t"}}}"#,
        ),
        (Request::Leave, r#""leave""#),
        (Request::Handle, r#""handle""#),
        (Request::Process { process: process() }, r#"{"process":{"process":"main"}}"#),
        (Request::Forget { process: process() }, r#"{"forget":{"process":"main"}}"#),
        (Request::Usage, r#""usage""#),
        (Request::HostPids, r#""host_pids""#),
        (Request::Pause, r#""pause""#),
        (Request::Resume, r#""resume""#),
        (Request::Save { directory: "/d".into() }, r#"{"save":{"directory":"/d"}}"#),
        (Request::Destroy, r#""destroy""#),
        (Request::Vacate, r#""vacate""#),
        (
            Request::Signal { process: process(), signal: Signal::TERM },
            r#"{"signal":{"process":"main","signal":15}}"#,
        ),
        (
            Request::Resize { process: process(), size },
            r#"{"resize":{"process":"main","size":{"rows":2,"columns":3}}}"#,
        ),
        (
            Request::Attach { process: process(), output_only: false, mark: false },
            r#"{"attach":{"process":"main"}}"#,
        ),
        (
            Request::Attach { process: process(), output_only: true, mark: true },
            r#"{"attach":{"process":"main","output_only":true,"mark":true}}"#,
        ),
        (Request::Wait { process: process() }, r#"{"wait":{"process":"main"}}"#),
    ];
    for (request, golden) in cases {
        let call = Call { id: 1, left_ms: Some(5), ticket: None, request };
        check(&call, &format!(r#"{{"id":1,"left_ms":5,"request":{golden}}}"#));
    }
}

#[test]
fn answers_stay_as_they_are() {
    let exit = Exit { status: ExitStatus::Code(3), out_of_memory: false, at: Timestamp(4) };
    let exit_golden = r#"{"status":{"code":3},"out_of_memory":false,"at":4}"#;
    let cases = [
        (Ok(Reply::Done), r#"{"Ok":"done"}"#.to_owned()),
        (Ok(Reply::Attached { at: Timestamp(5) }), r#"{"Ok":{"attached":{"at":5}}}"#.to_owned()),
        (
            Ok(Reply::Process { host_pid: Some(9) }),
            r#"{"Ok":{"process":{"host_pid":9}}}"#.to_owned(),
        ),
        (Ok(Reply::HostPids(vec![1, 2])), r#"{"Ok":{"host_pids":[1,2]}}"#.to_owned()),
        (Ok(Reply::Exit(exit)), format!(r#"{{"Ok":{{"exit":{exit_golden}}}}}"#)),
        (
            Ok(Reply::Destroyed(vec![(ProcessId::main(), exit)])),
            format!(r#"{{"Ok":{{"destroyed":[["main",{exit_golden}]]}}}}"#),
        ),
        (
            Err(DriverError::Gone { what: "it".to_owned() }),
            r#"{"Err":{"gone":{"what":"it"}}}"#.to_owned(),
        ),
    ];
    for (result, golden) in cases {
        check(&Answer { id: 1, result }, &format!(r#"{{"id":1,"result":{golden}}}"#));
    }
}

#[test]
fn a_field_that_is_not_known_yet_is_passed_over() {
    let later = r#"{"protocol":1,"build":"2","pid":7,"mood":"good"}"#;
    assert_eq!(serde_json::from_str::<Welcome>(later).unwrap().pid, 7);
}
