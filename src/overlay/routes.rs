//! Which peer an address belongs to.

use std::net::IpAddr;

use ipnet::IpNet;

use super::lpm::Lpm;
use crate::base::PeerIndex;

/// The prefixes of all peers: where packets are sent, and from whom they are taken.
///
/// Both questions are one table on purpose: a peer that may send from an address is the peer that packets to this address go to.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    peers: Lpm<PeerIndex>,
}

impl RouteTable {
    /// A table without routes.
    pub const fn new() -> Self {
        Self { peers: Lpm::new() }
    }

    /// Gives `prefix` to `peer` and returns the peer that had it.
    pub fn insert(&mut self, prefix: IpNet, peer: PeerIndex) -> Option<PeerIndex> {
        self.peers.insert(prefix, peer)
    }

    /// Takes `prefix` from the peer that has it, and returns that peer.
    pub fn remove(&mut self, prefix: IpNet) -> Option<PeerIndex> {
        self.peers.remove(prefix)
    }

    /// The peer to which packets for `destination` go.
    pub fn route(&self, destination: IpAddr) -> Option<PeerIndex> {
        self.peers.longest(destination).copied()
    }

    /// Whether `peer` may send packets from `source`: only if the longest prefix around it, over all peers, is its own (PROTOCOL §11.3).
    pub fn permits(&self, peer: PeerIndex, source: IpAddr) -> bool {
        self.route(source) == Some(peer)
    }
}
