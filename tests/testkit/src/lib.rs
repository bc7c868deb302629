//! What tests share: needs, fixtures, small kernels, the fake driver, the driver conformance suite.
//!
//! Knows the contract (`workload`) and no concrete driver.

mod compile;
pub mod conformance;
pub mod demo;
pub mod fake;
pub mod kernel;
pub mod need;

pub use compile::attack;
