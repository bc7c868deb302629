//! What a container runs with: what its image says, under what its user says. Pure.
//!
//! Source: moby, `daemon/commit.go` (`merge`) and `daemon/create.go`.

use std::collections::{BTreeMap, BTreeSet};

use base::ErrorKind;

use crate::wire::{ContainerConfig, Healthcheck};

/// What the user asked for. What is `None` or empty was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--entrypoint`; one empty word (`--entrypoint ""`) means none at all.
    pub entrypoint: Option<Vec<String>>,
    /// The words behind the image's name.
    pub cmd: Vec<String>,
    /// `NAME=value`; `NAME` alone takes the image's away.
    pub env: Vec<String>,
    /// `user[:group]`.
    pub user: String,
    /// Where the command starts.
    pub working_dir: String,
    /// Paths with data of their own.
    pub volumes: BTreeSet<String>,
    /// Ports it listens on, such as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What asks it to stop.
    pub stop_signal: Option<String>,
    /// How to tell whether it is well.
    pub healthcheck: Option<Healthcheck>,
}

/// What a container runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// First words of the command.
    pub entrypoint: Vec<String>,
    /// The rest of it.
    pub cmd: Vec<String>,
    /// Environment, `NAME=value`, each name once.
    pub env: Vec<String>,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// Where the command starts; empty is `/`.
    pub working_dir: String,
    /// Paths with data of their own.
    pub volumes: BTreeSet<String>,
    /// Ports it listens on.
    pub exposed_ports: BTreeSet<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What asks it to stop.
    pub stop_signal: Option<String>,
    /// How to tell whether it is well; `None` if nobody checks.
    pub healthcheck: Option<Healthcheck>,
}

/// Neither image nor user says what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no command specified: the image has none, so name one behind the image")]
pub struct NoCommand;

impl NoCommand {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Merged {
    /// What a container of this image runs with, if its user asks for this.
    pub fn new(image: &ContainerConfig, asked: Asked) -> Merged {
        let (entrypoint, cmd) = command(image, asked.entrypoint, asked.cmd);
        let keys = |map: &Option<BTreeMap<String, _>>| -> BTreeSet<String> {
            map.iter().flat_map(BTreeMap::keys).cloned().collect()
        };
        let mut labels = image.labels.clone().unwrap_or_default();
        labels.extend(asked.labels);
        Merged {
            entrypoint,
            cmd,
            env: environment(image.env.as_deref().unwrap_or_default(), &asked.env),
            user: or(asked.user, &image.user),
            working_dir: or(asked.working_dir, &image.working_dir),
            volumes: &keys(&image.volumes) | &asked.volumes,
            exposed_ports: &keys(&image.exposed_ports) | &asked.exposed_ports,
            labels,
            stop_signal: asked.stop_signal.or_else(|| image.stop_signal.clone()),
            healthcheck: healthcheck(image.healthcheck.as_ref(), asked.healthcheck),
        }
    }

    /// The whole command.
    ///
    /// # Errors
    /// [`NoCommand`] if it is empty.
    pub fn args(&self) -> Result<Vec<String>, NoCommand> {
        let args = [self.entrypoint.as_slice(), &self.cmd].concat();
        if args.is_empty() { Err(NoCommand) } else { Ok(args) }
    }
}

/// The image's command counts only where the user says nothing of either part: who names an entry
/// point means it without the image's arguments.
fn command(
    image: &ContainerConfig,
    entrypoint: Option<Vec<String>>,
    cmd: Vec<String>,
) -> (Vec<String>, Vec<String>) {
    match entrypoint {
        Some(words) if !words.is_empty() => {
            let none = words.iter().all(String::is_empty) && words.len() == 1;
            (if none { Vec::new() } else { words }, cmd)
        }
        entrypoint => {
            let of_image = if cmd.is_empty() { image.cmd.clone().unwrap_or_default() } else { cmd };
            let first = entrypoint.or_else(|| image.entrypoint.clone());
            (first.unwrap_or_default(), of_image)
        }
    }
}

/// The user's variables replace the image's in their places; others follow; a name alone takes
/// the variable away.
fn environment(image: &[String], asked: &[String]) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    for variable in image.iter().chain(asked) {
        let (name, value) =
            variable.split_once('=').map_or((&**variable, None), |(n, v)| (n, Some(v)));
        let place = env.iter().position(|had| had.split('=').next() == Some(name));
        match (place, value) {
            (Some(place), Some(_)) => env[place].clone_from(variable),
            (Some(place), None) => {
                env.remove(place);
            }
            (None, Some(_)) => env.push(variable.clone()),
            (None, None) => {}
        }
    }
    env
}

fn healthcheck(image: Option<&Healthcheck>, asked: Option<Healthcheck>) -> Option<Healthcheck> {
    let merged = match (image.cloned(), asked) {
        (image, None) => image?,
        (None, Some(asked)) => asked,
        (Some(image), Some(asked)) => {
            let or = |asked: i64, image| if asked == 0 { image } else { asked };
            Healthcheck {
                test: if asked.test.is_empty() { image.test } else { asked.test },
                interval: or(asked.interval, image.interval),
                timeout: or(asked.timeout, image.timeout),
                start_period: or(asked.start_period, image.start_period),
                start_interval: or(asked.start_interval, image.start_interval),
                retries: or(asked.retries, image.retries),
            }
        }
    };
    let nobody = merged.test.first().is_none_or(|first| first == "NONE");
    (!nobody).then_some(merged)
}

fn or(asked: String, image: &str) -> String {
    if asked.is_empty() { image.to_owned() } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn check_command(image: (&str, &str), entrypoint: Option<&str>, cmd: &str, want: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| words(text));
        let image =
            ContainerConfig { entrypoint: some(image.0), cmd: some(image.1), ..Default::default() };
        let entrypoint =
            entrypoint.map(|text| if text.is_empty() { vec![String::new()] } else { words(text) });
        let asked = Asked { entrypoint, cmd: words(cmd), ..Asked::default() };
        let merged = Merged::new(&image, asked);
        assert_eq!(
            merged.args().map_err(|e| e.to_string()),
            match want {
                "" => Err(NoCommand.to_string()),
                want => Ok(words(want)),
            }
        );
    }

    #[test]
    fn commands_merge_as_docker_merges_them() {
        check_command(("", "bash"), None, "", "bash");
        check_command(("", "bash"), None, "ls -l", "ls -l");
        check_command(("/e", "a b"), None, "", "/e a b");
        check_command(("/e", "a b"), None, "c", "/e c");
        check_command(("/e", "a b"), Some("/x"), "", "/x");
        check_command(("/e", "a b"), Some("/x"), "y", "/x y");
        check_command(("/e", "a b"), Some(""), "sh", "sh");
        check_command(("/e", "a b"), Some(""), "", "");
        check_command(("", ""), None, "", "");
    }

    #[test]
    fn variables_of_the_user_replace_the_images() {
        let strings = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let image = strings(&["PATH=/bin", "A=1", "B=2"]);
        let asked = strings(&["A=x=y", "B", "C=", "D"]);
        assert_eq!(environment(&image, &asked), strings(&["PATH=/bin", "A=x=y", "C="]));
    }

    #[test]
    fn the_rest_is_the_users_or_else_the_images() {
        let image = ContainerConfig {
            user: "www".to_owned(),
            working_dir: "/srv".to_owned(),
            labels: Some(
                [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            ),
            volumes: Some([("/data".to_owned(), Default::default())].into()),
            stop_signal: Some("SIGQUIT".to_owned()),
            ..Default::default()
        };
        let asked = Asked {
            user: "0".to_owned(),
            labels: [("b".to_owned(), "3".to_owned())].into(),
            volumes: ["/more".to_owned()].into(),
            ..Asked::default()
        };
        let merged = Merged::new(&image, asked);
        assert_eq!((merged.user.as_str(), merged.working_dir.as_str()), ("0", "/srv"));
        assert_eq!(merged.labels.into_iter().map(|(k, v)| k + &v).collect::<String>(), "a1b3");
        assert_eq!(merged.volumes.into_iter().collect::<String>(), "/data/more");
        assert_eq!(merged.stop_signal.as_deref(), Some("SIGQUIT"));
    }

    #[test]
    fn a_health_check_can_be_tuned_and_turned_off() {
        let image = Healthcheck { test: words("CMD true"), interval: 5, ..Default::default() };
        let asked = Healthcheck { timeout: 7, ..Default::default() };
        let both = healthcheck(Some(&image), Some(asked)).unwrap();
        assert_eq!((both.test.len(), both.interval, both.timeout), (2, 5, 7));
        let none = Healthcheck { test: words("NONE"), ..Default::default() };
        assert_eq!(healthcheck(Some(&image), Some(none)), None);
        assert_eq!(healthcheck(None, None), None);
    }
}
