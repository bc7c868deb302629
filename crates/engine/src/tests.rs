//! The engine over a fake driver, fake images and fake networks: no root, no host.

mod harness;
mod lifecycle;
mod recovery;
