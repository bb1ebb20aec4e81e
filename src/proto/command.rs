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
    /// Say goodbye to every peer; nothing new begins after this.
    Shutdown,
}

/// What a node shows of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// In the order of [`NodeConfig::peers`].
    pub peers: Vec<PeerStatus>,
    /// What was dropped and belongs to no peer, or to any.
    pub drops: Drops,
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
