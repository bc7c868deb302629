//! The store as a whole: what comes in is there, goes, and survives kills.

mod churn;
mod kill;
mod life;
mod random;
mod referee;
