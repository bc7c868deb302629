//! `vm inspect`.

use machines::Machines;

use super::{failed, find, ls::seen};
use crate::{
    cli,
    command::inspect::pretty,
    error::CliError,
    output,
    show::machine::detail,
    template::{Template, Value},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Which machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let mut all = Vec::new();
        let mut missing = false;
        for name in &self.names {
            let found = find(machines, name).and_then(|kept| {
                let (state, usage) = seen(&kept, machines).map_err(|error| failed(&error))?;
                let snapshots = kept.snapshots().map_err(|error| failed(&error))?;
                Ok(detail(&kept, &state, usage, &snapshots))
            });
            match found {
                Ok(detail) => all.push(detail),
                Err(error) => {
                    cli::tell(&error);
                    missing = true;
                }
            }
        }
        match self.format.as_deref() {
            None | Some("") => output::line(&pretty(&Value::List(all)))?,
            Some("json") => {
                for one in &all {
                    output::line(&one.json())?;
                }
            }
            Some(text) => {
                let template = Template::parse(text)?;
                for one in &all {
                    output::line(&template.render(one)?)?;
                }
            }
        }
        if missing { Err(CliError::Said) } else { Ok(0) }
    }
}
