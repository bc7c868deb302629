//! `login`: credentials are tried at the registry, then kept where Docker keeps them.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use engine::{Credentials, LoginRequest};

use crate::{connect::Endpoint, docker_config, error::CliError, output, session::without_echo};

/// The registry that is meant where none is named.
pub(super) const DEFAULT: &str = "docker.io";
/// Longest password.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Do not ask the registry to prove who it is: plain HTTP, or any certificate
    #[arg(long)]
    insecure: bool,
    /// Registry
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let server = docker_config::host(self.server.as_deref().unwrap_or(DEFAULT));
        let known = if self.username.is_none() && self.password.is_none() && !self.password_stdin {
            docker_config::credentials(&server)?
        } else {
            None
        };
        if let Some(credentials) = known {
            output::complain("Authenticating with existing credentials...");
            let insecure = self.insecure;
            let login = LoginRequest { server: server.clone(), credentials, insecure };
            if to.connect().await?.login(login).await.is_ok() {
                output::line("Login Succeeded")?;
                return Ok(0);
            }
            output::complain("Login did not succeed, error: the credentials are not taken");
        }
        let (username, password) = self.asked()?;
        let credentials =
            Credentials::Basic { username: username.clone(), password: password.clone() };
        let login = LoginRequest { server: server.clone(), credentials, insecure: self.insecure };
        to.connect().await?.login(login).await?;
        docker_config::store(&server, &username, &password)?;
        output::line("Login Succeeded")?;
        Ok(0)
    }

    fn asked(&self) -> Result<(String, String), CliError> {
        if self.password_stdin {
            if self.password.is_some() {
                let why = "--password and --password-stdin are mutually exclusive";
                return Err(CliError::Usage(why.to_owned()));
            }
            let Some(username) = self.username.clone() else {
                let why = "Must provide --username with --password-stdin";
                return Err(CliError::Usage(why.to_owned()));
            };
            let mut password = String::new();
            let read = std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut password);
            read.map_err(|error| CliError::io("read standard input", error))?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            return Ok((username, password));
        }
        if self.password.is_some() {
            output::complain(
                "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            );
        }
        let username = match &self.username {
            Some(username) => username.clone(),
            None => ask("Username: ", false)?,
        };
        let password = match &self.password {
            Some(password) => password.clone(),
            None => ask("Password: ", true)?,
        };
        match (username.is_empty(), password.is_empty()) {
            (false, false) => Ok((username, password)),
            (true, _) => Err(CliError::Usage("username is empty".to_owned())),
            (false, true) => Err(CliError::Usage("password is empty".to_owned())),
        }
    }
}

/// Asks at the terminal.
fn ask(prompt: &str, secret: bool) -> Result<String, CliError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let why = "Error: Cannot perform an interactive login from a non TTY device";
        return Err(CliError::Usage(why.to_owned()));
    }
    output::print(prompt)?;
    let silent = if secret { Some(without_echo()?) } else { None };
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    drop(silent);
    read.map_err(|error| CliError::io("read standard input", error))?;
    if secret {
        output::line("")?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
