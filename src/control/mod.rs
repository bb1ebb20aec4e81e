//! Layer 5: the local administration protocol. Imports `base` and `config`.
//!
//! A client connects to the control socket and writes one [`Request`] as a line of JSON; the daemon answers with one [`Response`] as a line of JSON.
//! A connection may carry several requests, one after the other.

pub mod client;
pub mod message;
pub mod server;

pub use message::{Command, Request, Response, Status};
pub use server::{ControlListener, serve};
