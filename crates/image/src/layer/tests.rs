//! Layers as a whole: GNU tar, `fsck.erofs` and the kernel are the referees.

mod golden;
mod hostile;
mod properties;
mod shape;
