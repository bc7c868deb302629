//! The driver against a real kernel, with a root file system of Debian's static busybox.

mod fixture;
mod hostile;
mod join;
mod limits;
mod mounts;
mod privileges;
mod run;
mod user;
