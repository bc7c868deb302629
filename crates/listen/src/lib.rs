//! HTTP servers, as far as they are all alike: sockets, TLS, connections and their limits, bodies.
//!
//! ```text
//! Listener ──accept──▶ TLS ──▶ HTTP/1.1 ──▶ a function from a request to an answer
//! ```
//!
//! Knows nothing of what is asked.

mod body;
mod incoming;
mod listener;
mod serve;
mod tls;

pub use body::{Body, Broken, full, parts};
pub use incoming::Incoming;
pub use listener::Listener;
pub use serve::{Limits, serve};
pub use tls::{TlsError, TlsFiles};
