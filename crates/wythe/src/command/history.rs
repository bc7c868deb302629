//! `history`: how an image came about.

use base::clock::Timestamp;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::history::{self, COLUMNS, Style, TABLE},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, value_name = "bool", default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g.,
    /// "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Which image
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let platform = self.platform.map(|platform| platform.to_string());
        let image = to.connect().await?.image_inspect(&self.image, platform).await?;
        let style = Style { human: self.human, no_trunc: self.no_trunc };
        let steps = history::steps(&image);
        if self.quiet {
            for step in &steps {
                output::line(step.id(style))?;
            }
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<_> = steps.iter().map(|step| step.row(style, now)).collect();
        print_list(&Format::parse(self.format.as_deref()), TABLE, &COLUMNS, &rows)?;
        Ok(0)
    }
}
