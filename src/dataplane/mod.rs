//! Layer 6: the threads that carry bulk data. Imports `base`, `crypto`, `envelope`, `wire`, `ip`, `overlay`, `io`; never `proto`.
//!
//! A data thread owns one queue of the interface and one pair of sockets, and runs each packet to completion: read, route, seal and send ([`outbound`]); receive,
//! open, check and write ([`inbound`]). It decides nothing. What it may do stands in the [`Table`], which the control thread writes and the data
//! threads read; whatever else arrives, or is noticed, goes to the control thread through the [`Mailbox`], which is bounded, so that neither waits
//! for the other.

mod codel;
mod fair;
mod inbound;
mod mailbox;
mod outbound;
mod packing;
mod patience;
#[cfg(test)]
mod sample;
mod table;
mod worker;

use std::net::IpAddr;

use crate::base::{OuterDscp, SharedDrops};
use crate::io::offload::Capabilities;
use crate::io::tun::TunCounters;
use crate::overlay::flow::ChannelRules;

pub use mailbox::{Mail, Mailbox, Notice, OpenedMail, StrangerMail};
pub use table::{Owner, Table, View};
pub use worker::{DataThread, Edges, Present, WorkerError};

/// What all data threads and the control thread share.
#[derive(Debug)]
pub struct Shared {
    /// What the data threads may do.
    pub table: Table,
    /// What they leave to the control thread.
    pub mailbox: Mailbox,
    /// Flows that travel reliably, which is the control thread's business.
    pub rules: ChannelRules,
    /// This node's own addresses, from which nobody else may send.
    pub addresses: Vec<IpAddr>,
    /// What the outer header says of the traffic inside.
    pub dscp: OuterDscp,
    /// What the kernel does for the interface.
    pub offload: Capabilities,
    /// What was dropped and belongs to no peer.
    pub drops: SharedDrops,
    /// What became of what was written to the interface.
    pub tun: std::sync::Arc<TunCounters>,
}
