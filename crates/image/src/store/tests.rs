//! The store as a whole: what comes in is there, is mounted, goes, and survives kills.

mod fixture;
mod kill;
mod life;
mod parallel;
