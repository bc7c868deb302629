//! `images`: the images there are.

use base::clock::Timestamp;
use engine::ImageView;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::image::{self, COLUMNS, TABLE, TABLE_WITH_DIGESTS},
};

mod filter;

use filter::Filters;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree
    #[arg(long, conflicts_with_all = ["quiet", "format", "no_trunc", "digests"])]
    tree: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut filters = Filters::parse(&self.filter)?;
        if let Some(repository) = &self.repository {
            filters.require_reference(repository);
        }
        let mut images = to.connect().await?.images().await?;
        images.sort_by(|a, b| b.created.cmp(&a.created));
        let images = filters.pick(images)?;
        if self.quiet && self.format.is_none() {
            return self.ids(&images);
        }
        if self.tree {
            output::print(&image::tree(&images))?;
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<_> =
            images.iter().flat_map(|i| image::rows(i, None, self.no_trunc, now)).collect();
        let usual = if self.digests { TABLE_WITH_DIGESTS } else { TABLE };
        print_list(&Format::parse(self.format.as_deref()), usual, &COLUMNS, &rows)?;
        Ok(0)
    }

    fn ids(&self, images: &[ImageView]) -> Result<u8, CliError> {
        for image in images {
            let id = &image.id;
            output::line(if self.no_trunc { id } else { crate::show::short_id(id) })?;
        }
        Ok(0)
    }
}
