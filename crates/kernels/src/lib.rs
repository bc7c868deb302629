//! Guest kernels: found, fetched, verified, kept.
//!
//! A kernel is a directory of the [store](Store), named by the digest of what is in it. It comes
//! from Debian's archive, whose index is signed; from files of the user's; or from Debian's source,
//! compiled with the configuration in `minimal.config`.

mod build;
mod compressed;
mod debian;
mod fetch;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod modules;
mod names;
pub mod openpgp;
mod pull;
mod settings;
mod store;

pub use build::{Build, BuildError, CONFIG, SourceError, Tool, build};
pub use debian::{ReleaseError, StanzaError};
pub use fetch::FetchError;
pub use image::{Image, ImageError, KERNEL_BYTES_MAX};
pub use modules::WANTED;
pub use names::NameError;
pub use pull::{Event, PACKAGE, PullError, Tell, pull};
pub use settings::{MIRRORS, Mirror, MirrorError, Settings, SettingsError};
pub use store::{
    Added, Damage, Draft, Entry, FileEntry, Held, Kernel, Manifest, ModuleEntry, Source, Staging,
    Store, StoreError,
};
