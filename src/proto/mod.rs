//! Layer 4: the protocol core, without input or output. Imports `base`, `crypto`, `ip`, `wire`, `overlay`, `envelope`.
//!
//! # The contract
//!
//! A [`Node`] owns no socket, clock, thread or file. Whoever drives it:
//!
//! 1. hands in the world: [`Node::handle_datagram`] for what the underlay brings, [`Node::handle_tun`] for what the overlay interface brings,
//!    [`Node::handle_timeout`] for time, [`Node::handle_command`] for the operator; `now` never decreases;
//! 2. then calls [`Node::poll_transmit`] until it returns false, and [`Node::poll_event`] until it returns `None` (after a burst of inputs is soon enough);
//! 3. then waits for input, but no longer than [`Node::poll_timeout`] says.
//!
//! 4. where other threads carry bytes as well ([`NodeConfig::publishes`]), takes what is published of each peer from [`Node::poll_published`], and hands in what those threads opened
//!    but must not judge ([`Node::handle_opened`]), and whom they woke it for ([`Node::handle_awake`]).
//!
//! Bulk data never waits for rule 2: it is sealed and handed to the [`TxSink`](crate::base::TxSink) while it is handled. The same seed and the same inputs give the same bytes.
//! A dropped packet is a fact, not an error: an [`event::Dropped`], counted, with nothing else changed.

pub(crate) mod bucket;
pub(crate) mod capacity;
pub mod channel;
pub mod command;
mod delivery;
pub mod event;
mod fitting;
pub(crate) mod handshake;
pub(crate) mod hop;
mod inbound;
pub(crate) mod mesh;
pub(crate) mod mtu;
mod node;
mod outbound;
pub(crate) mod packing;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod probing;
mod publish;
pub(crate) mod session;
#[cfg(test)]
pub(crate) mod tests;
mod tick;
pub(crate) mod waiting;

pub use command::{CandidateKind, Command, Hop, NodeConfig, NodeStatus, PeerConfig, RelayLimits, Step};
pub use event::{Dropped, Event};
pub use inbound::OpenedElsewhere;
pub use node::Node;
