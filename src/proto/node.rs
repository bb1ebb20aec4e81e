//! The node: owns everything below and routes inputs to it. It holds no protocol rules of its own.
//!
//! What comes in stands in `inbound` (datagrams), `outbound` (packets of the overlay interface, and whatever the node itself decides to send) and `tick` (time and commands).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use super::bucket::{PrefixBuckets, Rate};
use super::command::{NodeConfig, NodeStatus};
use super::event::{Drops, Event};
use super::handshake::Local;
use super::handshake::responder::Responder;
use super::mesh::Mesh;
use super::mtu::{BASE, LARGEST};
use super::packing::Packing;
use super::peers::PeerTable;
use super::session::Serial;
use crate::base::{OuterDscp, PeerId, PeerIndex, Rng};
use crate::crypto::keys::IdentitySecret;
use crate::crypto::schedule::Net;
use crate::crypto::secret::Secret;
use crate::overlay::flow::ChannelRules;
use crate::overlay::routes::RouteTable;

/// Clear pings that are answered (PROTOCOL §8.4).
const PINGS: Rate = Rate { per_second: 5, burst: 10 };

/// A Handfast node without input and output. The contract of its methods stands in [`crate::proto`].
#[derive(Debug)]
pub struct Node {
    pub(super) local: Local,
    pub(super) rng: Rng,
    pub(super) responder: Responder,
    pub(super) pings: PrefixBuckets,
    pub(super) peers: PeerTable,
    /// Half-open sessions in the order of their making; those that were confirmed meanwhile count until they come to the front.
    pub(super) half_open: VecDeque<(PeerIndex, Serial)>,
    pub(super) routes: RouteTable,
    pub(super) rules: ChannelRules,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) dscp: OuterDscp,
    pub(super) packing: Packing,
    pub(super) mesh: Mesh,
    /// Room for one datagram.
    pub(super) scratch: Box<[u8]>,
    pub(super) events: Vec<Event>,
    pub(super) drops: Drops,
    pub(super) serials: u64,
    pub(super) stopping: bool,
}

impl Node {
    /// A node that greets its introducers: up to three peers whose address is known, and those with a keepalive, ten milliseconds apart. All others it reaches when packets want to.
    ///
    /// `rng` is the only source of its randomness: the same seed and the same inputs give the same bytes.
    pub fn new(config: NodeConfig, identity: IdentitySecret, mut rng: Rng, now: Instant) -> Self {
        let max_datagram = config.max_datagram.clamp(BASE, LARGEST);
        // A node without a mesh has no secret: PROTOCOL §1, `psk`.
        let net = Net::new(&Secret::fill(|psk| psk.fill(0)));
        let mut routes = RouteTable::new();
        for (peer, index) in config.peers.iter().zip(0..) {
            for &prefix in &peer.prefixes {
                routes.insert(prefix, PeerIndex(index));
            }
        }
        let peers = PeerTable::new(&config.peers, config.publishes);
        let members = config.peers.iter().zip(0..).map(|(peer, index)| (PeerIndex(index), &peer.id));
        let mesh = Mesh::new(now, &net, members, config.relay, &mut rng);
        let mut node = Self {
            local: Local::new(identity, net, config.prefers_aes, max_datagram),
            mesh,
            responder: Responder::new(now, &mut rng),
            pings: PrefixBuckets::new(PINGS, &mut rng),
            rng,
            peers,
            half_open: VecDeque::new(),
            routes,
            rules: config.channels,
            addresses: config.addresses,
            dscp: config.dscp,
            packing: Packing::new(max_datagram),
            scratch: vec![0; max_datagram].into_boxed_slice(),
            events: Vec::new(),
            drops: Drops::default(),
            serials: 0,
            stopping: false,
        };
        node.take_up_standing(now);
        node
    }

    /// The identity that peers know it by.
    pub fn id(&self) -> PeerId {
        self.local.id
    }

    /// The next thing that happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() { None } else { Some(self.events.remove(0)) }
    }

    /// When [`Node::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [Some(self.responder.deadline()), Some(self.mesh.deadline()), self.peers.deadline()].into_iter().flatten().min()
    }

    /// Which peer an address belongs to.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// What an operator may see.
    pub fn status(&self, now: Instant) -> NodeStatus {
        NodeStatus {
            peers: self.peers.iter().map(|peer| peer.status(now)).collect(),
            drops: self.drops.clone(),
            nat: self.mesh.nat(self.peers.holding),
        }
    }

    pub(super) fn next_serial(&mut self) -> Serial {
        self.serials += 1;
        Serial(self.serials)
    }

    /// After anything was done with a peer.
    pub(super) fn settle(&mut self, now: Instant, index: PeerIndex) {
        self.peers.settle(now, index);
        self.peers.wake(index);
    }
}
