//! The underlay: for each thread one UDP socket for IPv4 and one for IPv6, all on the same port.
//!
//! - [`socket`] binds them and states their options;
//! - [`receive`] takes datagrams in batches (`recvmmsg`, GRO);
//! - [`extra`] has sockets beside them, on ports of their own, for a while;
//! - [`send`] gathers datagrams into batches per destination (GSO) and is the core's [`TxSink`](crate::base::TxSink).

pub mod extra;
pub mod receive;
pub mod send;
pub mod socket;

pub use extra::Outlets;
pub use receive::{Arrival, Receiver};
pub use send::{SendCounters, Sender};
pub use socket::{BindError, Pair, bind};
