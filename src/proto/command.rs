//! What the shell tells the core, and what the core shows of itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::event::Drops;
use crate::base::{OuterDscp, PeerId, PeerIndex};
use crate::crypto::aead::Cipher;
pub use crate::envelope::Traffic;
use crate::overlay::flow::ChannelRules;

/// The largest datagram of a node that was not told otherwise: a jumbo frame of 9000 bytes, less the headers of IPv4 and UDP.
const MAX_DATAGRAM: usize = 8972;

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The peers; their place here is their [`PeerIndex`].
    pub peers: Vec<PeerConfig>,
    /// Overlay addresses of this node: the sources of ICMP errors.
    pub addresses: Vec<IpAddr>,
    /// Flows that travel reliably.
    pub channels: ChannelRules,
    /// Whether AES-256-GCM is fast on this hardware (PROTOCOL §5.1).
    pub prefers_aes: bool,
    /// Whether other threads carry bytes as well: then [`crate::proto::Node::poll_published`] must be drained.
    pub publishes: bool,
    /// Codepoint of the datagrams in the underlay.
    pub dscp: OuterDscp,
    /// The largest datagram that is ever sent, in bytes of UDP payload; how much of it a path carries is found out (PROTOCOL §8.5). With 1228 or less nothing is asked, and all
    /// datagrams are as small as every path carries.
    pub max_datagram: usize,
    /// Whether this node forwards sealed packets for other members, and how many (PROTOCOL §12.6); `None` if it does not.
    pub relay: Option<RelayLimits>,
}

/// How much a node relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes a second for each member that sends, with a burst of half a second.
    pub bytes_per_second: u64,
    /// Members for which it forwards within the same ten seconds; those that come later are refused.
    pub members: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            addresses: Vec::new(),
            channels: ChannelRules::default(),
            prefers_aes: false,
            publishes: false,
            dscp: OuterDscp::default(),
            max_datagram: MAX_DATAGRAM,
            relay: None,
        }
    }
}

/// One static peer.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its identity.
    pub id: PeerId,
    /// Where it may be reached; only the first eight are greeted (PROTOCOL §13).
    pub endpoints: Vec<SocketAddr>,
    /// Destinations behind it, which are also the only sources it may use.
    pub prefixes: Vec<IpNet>,
    /// Something is sent at least this often, for peers behind a NAT.
    pub keepalive: Option<Duration>,
}

/// What the shell tells the core.
#[derive(Clone, Debug)]
pub enum Command {
    /// A peer has these addresses from now on.
    SetEndpoints {
        /// Whose.
        peer: PeerIndex,
        /// All of them.
        endpoints: Vec<SocketAddr>,
    },
    /// The host refused to send a datagram, because it is too large for the way to `remote`.
    TooBig {
        /// Where it was to go.
        remote: SocketAddr,
        /// Its length.
        len: usize,
    },
    /// Where this node can be reached as far as the host knows: what its interfaces have, and what port mapping has opened. All of it, whenever any of it changes.
    SetLocal {
        /// Address, port, and how it is known; at most 16 are used.
        addresses: Vec<(SocketAddr, CandidateKind)>,
    },
    /// The network of the host has changed, or the host has slept: every path is in doubt (PROTOCOL §8.7).
    NetworkChanged,
    /// The host is on a link on which it was not before, or has an address there that it did not have: who is there is to be told (PROTOCOL §12.7).
    LinkJoined,
    /// A datagram came by multicast on the link: perhaps a member is there (PROTOCOL §12.7).
    Announced {
        /// Its source.
        from: SocketAddr,
        /// All of it.
        datagram: Vec<u8>,
    },
    /// Measure the round trip to a peer on its present path: the answer is [`super::Event::Pong`], or nothing.
    Ping {
        /// Whose.
        peer: PeerIndex,
        /// Comes back with the answer.
        number: u32,
    },
    /// Say goodbye to every peer; nothing new begins after this.
    Shutdown,
}

/// How an address came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An interface of the node has it.
    Local,
    /// Another member sees the node there.
    Observed,
    /// A router was asked to forward it.
    Mapped,
    /// The configuration says so.
    Configured,
    /// The peer was heard from there.
    Heard,
    /// Next to an observed port of a NAT that counts its ports.
    Predicted,
    /// Through another member.
    Relayed,
}

/// Where packets of a path go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hop {
    /// To this address.
    Direct(SocketAddr),
    /// To this member, which forwards them.
    Relay(PeerIndex),
}

/// What a node shows of one path of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// Where it leads.
    pub hop: Hop,
    /// How it came to be known.
    pub kind: CandidateKind,
    /// Packets go this way.
    pub is_primary: bool,
    /// Full-size packets went both ways.
    pub is_proven: bool,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Since it answered last.
    pub heard: Option<Duration>,
    /// Pings that were sent and not answered since.
    pub unanswered: u32,
}

/// What was tried to reach a peer, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet wanted to go there and there was no session.
    Wanted,
    /// Addresses of the configuration, or where it was last, were greeted.
    Greeted(usize),
    /// This introducer was asked where the peer is.
    Asked(PeerIndex),
    /// It does not know.
    NotKnownBy(PeerIndex),
    /// This introducer was asked for an introduction.
    Requested(PeerIndex),
    /// What came of it (PROTOCOL §9.1), by the number on the wire.
    Acknowledged(PeerIndex, u8),
    /// This introducer did not answer.
    NoAnswer(PeerIndex),
    /// The peer was introduced by this introducer, and answered.
    Introduced(PeerIndex),
    /// The peer asked for this node, was introduced by this introducer, and is being answered.
    Answered(PeerIndex),
    /// A session was confirmed on this path.
    Connected(Hop),
    /// Traffic went over to this path.
    Moved(Hop),
    /// The path did not answer any more.
    Died(Hop),
    /// Ports of a NAT were tried at random (PROTOCOL §12.8).
    Sprayed {
        /// Datagrams that this node has sent for it.
        datagrams: u32,
        /// A direct path came of it.
        found: bool,
    },
    /// The attempt was given up.
    GaveUp,
}

/// How the NAT between this node and the others behaves (RFC 4787), as far as its introducers can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatStatus {
    /// Where introducers see this node.
    pub observed: Vec<(PeerIndex, SocketAddr)>,
    /// An own interface has an observed address: there is no NAT.
    pub has_public_address: bool,
    /// Different introducers see the same port (endpoint-independent mapping); `None` with fewer than two.
    pub same_mapping: Option<bool>,
    /// Observed ports follow each other at this distance.
    pub port_step: Option<u16>,
    /// Packets of members that it has not written to arrive (endpoint-independent filtering); `None` if that was not found out.
    pub open_filter: Option<bool>,
    /// The router sends packets for its own outer address back in; `None` if that was not found out.
    pub hairpin: Option<bool>,
    /// A mapping lives at least this long without traffic.
    pub lifetime: Option<Duration>,
    /// Between the keepalives that hold it open.
    pub keepalive: Duration,
    /// Where the host says that this node can be reached: what [`Command::SetLocal`] said last.
    pub local: Vec<(SocketAddr, CandidateKind)>,
}

/// What a node shows of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// In the order of [`NodeConfig::peers`].
    pub peers: Vec<PeerStatus>,
    /// What was dropped and belongs to no peer, or to any.
    pub drops: Drops,
    /// The way to the other members.
    pub nat: NatStatus,
}

/// What a node shows of one peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its identity.
    pub id: PeerId,
    /// Whether an attempt to reach it is under way.
    pub connecting: bool,
    /// The session that is sent on.
    pub session: Option<SessionStatus>,
    /// Counters over the life of the process.
    pub traffic: Traffic,
    /// Since a valid sealed packet arrived.
    pub last_received: Option<Duration>,
    /// Packets that wait for a session.
    pub waiting: usize,
    /// It is one of the few that this node keeps a session with, to be introduced and found.
    pub is_standing: bool,
    /// It relays for others: at least so many bytes a second for each.
    pub relays: Option<u64>,
    /// Introducers that say they have a session with it.
    pub known_by: Vec<PeerIndex>,
    /// Every path of the session that is sent on, the primary first.
    pub paths: Vec<PathStatus>,
    /// What was tried last and when, the oldest first; at most 32 steps.
    pub steps: Vec<(Duration, Step)>,
    /// What was dropped of its authenticated packets, and of packets for it.
    pub drops: Drops,
}

/// What a node shows of one session.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Since it was confirmed.
    pub age: Duration,
    /// Where its packets go.
    pub endpoint: SocketAddr,
    /// How they are sealed.
    pub cipher: Cipher,
    /// Number of the present epoch; from 1 on the keys are post-quantum (PROTOCOL §4.5).
    pub epoch: u64,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Largest plaintext of a sealed packet, in bytes.
    pub datagram_limit: usize,
    /// Bytes on the reliable channels that are not acknowledged yet.
    pub reliable_queued: usize,
    /// Messages of the reliable channels that were sent again.
    pub reliable_repeated: u64,
}
