//! The vm driver: a sandbox in a machine of its own.

pub mod initramfs;
mod machine;
mod translate;
