//! `kernel ls`.

use base::clock::Timestamp;
use kernels::{Entry, Store, StoreError};

use super::failed;
use crate::{
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::kernel::{self, COLUMNS, TABLE},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate digests
    #[arg(long)]
    no_trunc: bool,
    /// Read all files and compare them with their digests
    #[arg(long)]
    verify: bool,
}

impl Args {
    pub(super) fn run(self, store: &Store) -> Result<u8, CliError> {
        let mut entries = store.list().map_err(|error| failed(&error))?;
        if self.verify {
            entries = entries.into_iter().map(|entry| verified(store, entry)).collect();
        }
        // A default that is damaged is in the list as that.
        let default = store.default().ok().flatten().map(|kernel| kernel.digest);
        if self.quiet && self.format.is_none() {
            for entry in &entries {
                output::line(kernel::name(entry))?;
            }
            return Ok(0);
        }
        let now = Timestamp::now();
        let row = |entry: &Entry| kernel::row(entry, default, self.no_trunc, now);
        let rows: Vec<_> = entries.iter().map(row).collect();
        print_list(&Format::parse(self.format.as_deref()), TABLE, &COLUMNS, &rows)?;
        Ok(0)
    }
}

/// The same, damaged if what it contains is.
fn verified(store: &Store, entry: Entry) -> Entry {
    let Entry::Whole(kernel) = &entry else { return entry };
    match store.verify(kernel) {
        Err(StoreError::Damaged { name, damage }) => Entry::Damaged { name, damage },
        _ => entry,
    }
}
