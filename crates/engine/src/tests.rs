//! The engine over a fake driver, fake images and fake networks: no root, no host.

mod events;
mod forks;
mod harness;
mod health;
mod images;
mod lifecycle;
mod logs;
mod recovery;
mod restart;
mod stats;
mod update;
