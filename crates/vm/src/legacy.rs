//! The devices of a PC that a kernel looks for where they have always been.
//!
//! Each is a plain value: registers are read and written a byte at a time, time comes in as a
//! parameter, and what it wants of the world (an interrupt line, bytes for the console) is asked
//! of it. The value is what a snapshot keeps.

mod board;
mod clock;
mod keyboard;
mod power;
mod serial;

pub use board::{Board, Effect, Now};
pub use clock::Clock;
pub use keyboard::Keyboard;
pub use power::{Power, SOFT_OFF};
pub use serial::Serial;

/// Where the clock keeps the century, as the FADT says.
pub const CENTURY: u8 = 0x32;
