//! The EROFS form of a layer.
//!
//! ```text
//! block 0          1 …                      b …                     m …
//! superblock │ content of files │ blocks of large directories │ inodes, small content between
//!                 as it arrives      └────────── at the end ──────────┘
//! ```
//!
//! Only what Linux 5.4 reads is used: extended inodes, plain and inline data, inline extended
//! attributes, nothing compressed. The exception are sparse files, whose chunks need Linux 5.15;
//! an image without them does not ask for that. Nothing depends on a clock or on the order of a
//! hash map: the same archive gives the same bytes, however it was compressed.
//!
//! Source: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux.

mod area;
mod contents;
mod dirents;
mod finish;
pub(super) mod format;
mod plan;

pub(super) use contents::Writer;
