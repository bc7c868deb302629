//! A configuration that comes with a commit, as the Dockerfile instructions that make it.

use std::path::Path;

use engine::{Create, HealthCheck, HealthTest, MountKind};
use serde_json::json;

use crate::{error::ApiError, shape::ports};

/// What the body of `POST /commit` changes: a `ContainerConfig`, or nothing.
///
/// # Errors
/// As [`super::request`].
pub(crate) fn changes(bytes: &[u8]) -> Result<Vec<String>, ApiError> {
    match bytes.trim_ascii() {
        b"" | b"null" | b"{}" => Ok(Vec::new()),
        bytes => Ok(instructions(&super::read(bytes, None)?.create)),
    }
}

fn instructions(config: &Create) -> Vec<String> {
    let mut all = Vec::new();
    // In this order: an entry point takes the command away.
    all.extend(config.entrypoint.as_ref().map(|words| format!("ENTRYPOINT {}", json!(words))));
    if !config.command.is_empty() {
        all.push(format!("CMD {}", json!(config.command)));
    }
    let pair = |name: &str, value: &str| format!("{}={}", quoted(name), quoted(value));
    let env = config.env.iter().filter_map(|entry| entry.split_once('='));
    all.extend(env.map(|(name, value)| format!("ENV {}", pair(name, value))));
    all.extend(config.labels.iter().map(|(name, value)| format!("LABEL {}", pair(name, value))));
    let exposed = config.expose.iter();
    all.extend(exposed.map(|(port, protocol)| format!("EXPOSE {}", ports::key(*port, *protocol))));
    let volumes = config.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume(_)));
    let path = |path: &Path| json!([path.display().to_string()]);
    all.extend(volumes.map(|mount| format!("VOLUME {}", path(&mount.target))));
    all.extend(config.user.as_ref().map(|user| format!("USER {}", quoted(user))));
    all.extend(config.working_dir.as_ref().map(|dir| format!("WORKDIR {}", quoted(dir))));
    all.extend(config.stop_signal.map(|signal| format!("STOPSIGNAL {signal}")));
    all.extend(config.health.as_ref().and_then(health));
    all
}

/// `None` where the test itself is not said: an image has none to inherit from.
fn health(check: &HealthCheck) -> Option<String> {
    let mut text = "HEALTHCHECK".to_owned();
    let times = [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start-period", check.start_period),
        ("start-interval", check.start_interval),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            text += &format!(" --{name}={}ns", time.as_nanos());
        }
    }
    text += &check.retries.map(|most| format!(" --retries={most}")).unwrap_or_default();
    match &check.test {
        HealthTest::Inherit => None,
        HealthTest::None => Some("HEALTHCHECK NONE".to_owned()),
        HealthTest::Command(words) => Some(format!("{text} CMD {}", json!(words))),
        HealthTest::Shell(line) => Some(format!("{text} CMD {line}")),
    }
}

/// Between double quotes. Source: Dockerfile reference, "Escape".
fn quoted(text: &str) -> String {
    let escape = |letter: char| match letter {
        '"' | '\\' | '$' => format!("\\{letter}"),
        _ => letter.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_told_in_instructions() {
        let body = r#"{"Cmd":["a","b c"],"Entrypoint":["e"],"Env":["A=x \"y\"","B"],"User":"7",
            "Labels":{"k":"v"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"WorkingDir":"/w",
            "StopSignal":"INT","Healthcheck":{"Test":["CMD-SHELL","x y"],"Interval":1000000}}"#;
        assert_eq!(
            changes(body.as_bytes()).unwrap(),
            [
                r#"ENTRYPOINT ["e"]"#,
                r#"CMD ["a","b c"]"#,
                r#"ENV "A"="x \"y\"""#,
                r#"LABEL "k"="v""#,
                "EXPOSE 80/tcp",
                r#"VOLUME ["/v"]"#,
                r#"USER "7""#,
                r#"WORKDIR "/w""#,
                "STOPSIGNAL SIGINT",
                "HEALTHCHECK --interval=1000000ns CMD x y",
            ]
        );
        assert_eq!(changes(b"null"), Ok(vec![]));
        assert!(changes(b"{\"Colour\":1}").is_err());
    }
}
