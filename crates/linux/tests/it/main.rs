//! The driver against a real kernel, with a root file system of Debian's static busybox.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fixture;
mod hostile;
mod join;
mod limits;
mod mounts;
mod privileges;
mod run;
mod user;
