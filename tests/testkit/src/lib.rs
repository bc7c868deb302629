//! What tests share: needs, fixtures, the fake driver, the driver conformance suite.
//!
//! Knows the contract (`workload`) and no concrete driver.

pub mod conformance;
pub mod demo;
pub mod fake;
pub mod need;
