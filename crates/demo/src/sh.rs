//! `sh`: a small shell, for looking around in an image that has no other.
//!
//! Words, 'single' and "double" quotes, `$NAME` and `$?`, `cd`, `export`, `exit`, `exec`, `&&`,
//! `||`, `;`, `|`, `<`, `>`, `>>`, `2>&1` and background `&`. No loops, functions or patterns:
//! an unknown construct is an error, never a guess.

use std::{
    env, fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::fail;

mod syntax;

use syntax::{Join, Pipeline, Program, Redirect};

pub(crate) fn run(args: &[String]) -> u8 {
    let mut shell = Shell { last: 0 };
    match args {
        [flag, text, ..] if flag == "-c" => shell.text(text),
        [file, ..] => match fs::read_to_string(file) {
            Ok(text) => shell.text(&text),
            Err(error) => return fail("sh", format_args!("{file}: {error}")),
        },
        [] => shell.lines(),
    }
    shell.last
}

struct Shell {
    /// Exit code of the last command, `$?`.
    last: u8,
}

/// Whether to go on with the next line.
enum Next {
    Go,
    Leave,
}

impl Shell {
    fn text(&mut self, text: &str) {
        for line in text.lines() {
            if let Next::Leave = self.line(line) {
                break;
            }
        }
    }

    fn lines(&mut self) {
        let interactive = io::stdin().is_terminal();
        let mut line = String::new();
        loop {
            if interactive {
                print!("demo$ ");
                let _ = io::stdout().flush();
            }
            line.clear();
            match io::stdin().lock().read_line(&mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.last = fail("sh", error);
                    break;
                }
            }
            if let Next::Leave = self.line(line.trim_end()) {
                break;
            }
        }
    }

    fn line(&mut self, line: &str) -> Next {
        let program = match syntax::parse(line) {
            Ok(program) => program,
            Err(error) => {
                fail("sh", error);
                self.last = 2;
                return Next::Go;
            }
        };
        self.program(&program)
    }

    fn program(&mut self, program: &Program) -> Next {
        for (join, pipeline) in program {
            let wanted = match join {
                Join::Always => true,
                Join::And => self.last == 0,
                Join::Or => self.last != 0,
            };
            if wanted && let Next::Leave = self.pipeline(pipeline) {
                return Next::Leave;
            }
        }
        Next::Go
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Next {
        let last = self.last;
        let expand = |words: &[syntax::Word]| -> Vec<String> {
            words.iter().filter_map(|word| syntax::expand(word, last)).collect()
        };
        let stages: Vec<Vec<String>> = pipeline.stages.iter().map(|s| expand(&s.words)).collect();
        if let [words] = &stages[..]
            && let Some(next) = self.builtin(words)
        {
            return next;
        }
        match start(pipeline, &stages) {
            Ok(children) if pipeline.background => {
                println!("[{}]", children.last().map_or(0, Child::id));
                self.last = 0;
            }
            Ok(children) => self.last = finish(children),
            Err(code) => self.last = code,
        }
        Next::Go
    }

    /// Runs the command if it is one of the shell's own.
    fn builtin(&mut self, words: &[String]) -> Option<Next> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["cd"] => self.last = cd("/"),
            ["cd", dir] => self.last = cd(dir),
            ["export", pair] => match pair.split_once('=') {
                Some((name, value)) if syntax::is_name(name) => {
                    syntax::export(name, value);
                    self.last = 0;
                }
                _ => self.last = fail("export", format_args!("{pair}: write NAME=value")),
            },
            ["exit"] => return Some(Next::Leave),
            ["exit", code] => {
                self.last = code.parse().unwrap_or(2);
                return Some(Next::Leave);
            }
            ["exec", command, ..] => {
                let error = command_for(command).args(words.iter().skip(2)).exec();
                self.last = not_run(command, &error);
                return Some(Next::Leave);
            }
            [] => {}
            _ => return None,
        }
        Some(Next::Go)
    }
}

fn cd(dir: &str) -> u8 {
    env::set_current_dir(dir)
        .map_or_else(|error| fail("cd", format_args!("{dir}: {error}")), |()| 0)
}

/// A command with the environment that `export` made.
fn command_for(name: &str) -> Command {
    let mut command = Command::new(name);
    command.envs(syntax::exported());
    command
}

/// Starts every stage of a pipeline; an exit code if one could not be.
fn start(pipeline: &Pipeline, stages: &[Vec<String>]) -> Result<Vec<Child>, u8> {
    let mut children: Vec<Child> = Vec::new();
    for (at, (stage, words)) in pipeline.stages.iter().zip(stages).enumerate() {
        let Some((name, args)) = words.split_first() else {
            return Err(fail("sh", "an empty command in a pipeline"));
        };
        let mut command = command_for(name);
        command.args(args);
        if let Some(out) = children.last_mut().and_then(|child| child.stdout.take()) {
            command.stdin(out);
        }
        if at + 1 < stages.len() {
            command.stdout(Stdio::piped());
        }
        redirect(&mut command, &stage.redirects).map_err(|error| fail("sh", error))?;
        children.push(command.spawn().map_err(|error| not_run(name, &error))?);
    }
    Ok(children)
}

fn redirect(command: &mut Command, redirects: &[Redirect]) -> io::Result<()> {
    let named = |path: &str, error: io::Error| io::Error::other(format!("{path}: {error}"));
    for redirect in redirects {
        match redirect {
            Redirect::From(path) => {
                command.stdin(fs::File::open(path).map_err(|e| named(path, e))?);
            }
            Redirect::To { path, append, error_too } => {
                let mut options = fs::OpenOptions::new();
                options.create(true).write(true).append(*append).truncate(!append);
                let file = options.open(path).map_err(|e| named(path, e))?;
                if *error_too {
                    command.stderr(file.try_clone()?);
                }
                command.stdout(file);
            }
        }
    }
    Ok(())
}

/// Waits for all, and gives the last one's exit code.
fn finish(children: Vec<Child>) -> u8 {
    let code = |status: ExitStatus| {
        let signal = status.signal().and_then(|s| u8::try_from(128 + s).ok());
        signal.or_else(|| u8::try_from(status.code()?).ok()).unwrap_or(255)
    };
    // Every one is waited for; the last one's code is the pipeline's.
    children.into_iter().fold(0, |_, mut child| child.wait().map_or(255, code))
}

fn not_run(name: &str, error: &io::Error) -> u8 {
    fail("sh", format_args!("{name}: {error}"));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}
