//! The driver against a real kernel, with a root file system of Debian's static busybox.

mod fixture;
mod run;
