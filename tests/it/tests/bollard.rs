//! bollard, the Rust client of Docker's API, whose types are strict about what they are answered.

use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
        ListContainersOptionsBuilder, ListImagesOptions, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StartContainerOptions, StatsOptionsBuilder,
        WaitContainerOptions,
    },
};
use futures_util::StreamExt as _;
use it::Instance;
use tokio::io::AsyncWriteExt as _;

fn body(command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("demo".to_owned()),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.expect("it is made");
}

#[tokio::test]
async fn a_program_written_against_bollard_works() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let socket = instance.path("run/docker.sock");
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 60, API_DEFAULT_VERSION);
    let docker = docker.expect("it listens").negotiate_version().await.expect("it answers");
    assert_eq!(docker.ping().await.expect("it answers"), "OK");
    assert_eq!(docker.version().await.expect("a version").os.as_deref(), Some("linux"));
    docker.info().await.expect("what there is");

    // Attached before it starts, and typed to.
    let cat = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..body(&["cat"])
    };
    create(&docker, "cat", cat).await;
    let options = AttachContainerOptionsBuilder::default();
    let options = options.stdin(true).stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container("cat", Some(options)).await.expect("a connection");
    docker.start_container("cat", None::<StartContainerOptions>).await.expect("it starts");
    attached.input.write_all(b"typed\n").await.expect("it is read");
    attached.input.shutdown().await.expect("it can be ended");
    let said = attached.output.next().await.expect("something").expect("whole");
    assert_eq!(said, LogOutput::StdOut { message: "typed\n".into() });
    let ended = docker.wait_container("cat", None::<WaitContainerOptions>).next().await;
    assert_eq!(ended.expect("an answer").expect("whole").status_code, 0);
    let inspected = docker.inspect_container("cat", None).await.expect("it is there");
    assert_eq!(inspected.config.and_then(|config| config.open_stdin), Some(true));

    // What runs: exec, logs, stats, lists.
    create(&docker, "box", body(&["sh", "-c", "echo first; sleep 1000"])).await;
    docker.start_container("box", None::<StartContainerOptions>).await.expect("it starts");
    let exec = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", "echo in; nosuch"]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec("box", exec).await.expect("it is noted");
    let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec.id, None).await.expect("it starts")
    else {
        panic!("it is attached");
    };
    let first = output.next().await.expect("something").expect("whole");
    assert_eq!(first, LogOutput::StdOut { message: "in\n".into() });
    assert!(matches!(output.next().await, Some(Ok(LogOutput::StdErr { .. }))));
    while output.next().await.is_some() {}
    let inspected = docker.inspect_exec(&exec.id).await.expect("it is known");
    assert_eq!((inspected.running, inspected.exit_code), (Some(false), Some(127)));

    let options = LogsOptionsBuilder::default().stdout(true).follow(true).build();
    let line = docker.logs("box", Some(options)).next().await.expect("a line").expect("whole");
    assert_eq!(line.to_string(), "first\n");
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let stats = docker.stats("box", Some(options)).next().await.expect("a look").expect("whole");
    assert!(stats.memory_stats.and_then(|memory| memory.usage).is_some_and(|usage| usage > 0));
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let listed = docker.list_containers(Some(options)).await.expect("a list");
    assert_eq!(listed.len(), 2);
    let images = docker.list_images(None::<ListImagesOptions>).await.expect("a list");
    assert!(images.iter().any(|image| image.repo_tags.contains(&"demo:latest".to_owned())));

    // Events that are kept are told again; what is not there is 404.
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container("box", Some(options.clone())).await.expect("it goes");
    docker.remove_container("cat", Some(options)).await.expect("it goes");
    let options = EventsOptionsBuilder::default().since("1").until("99999999999").build();
    let mut events = docker.events(Some(options));
    let mut actions = Vec::new();
    while actions.iter().filter(|action| *action == "destroy").count() < 3 {
        let event = events.next().await.expect("more").expect("whole");
        actions.extend(event.action);
    }
    assert!(actions.contains(&"exec_start: sh -c echo in; nosuch".to_owned()), "{actions:?}");
    let missing = docker.inspect_container("box", None).await;
    assert!(
        matches!(missing, Err(Error::DockerResponseServerError { status_code: 404, .. })),
        "{missing:?}"
    );
    instance.remove_all();
}
