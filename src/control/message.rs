//! What is said over the control socket, and what the commands print with `--json`.
//!
//! The form is stable: within a version, fields are only added. Who reads it must ignore fields it does not know.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Version of the messages.
pub const VERSION: u32 = 1;

/// A question to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub command: Command,
}

impl Request {
    /// `command` in the present version.
    pub const fn new(command: Command) -> Self {
        Self { version: VERSION, command }
    }
}

/// What can be asked.
///
/// A peer is named by its name in the configuration, by one of its overlay addresses, or by the beginning of its public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The state of the node and its peers.
    Status,
    /// How the network lets this node reach others, and be reached.
    Netcheck,
    /// The round trip to a peer, on the path that its packets take now.
    Ping {
        /// Which one.
        peer: String,
        /// Comes back with the answer.
        #[serde(default)]
        number: u32,
    },
    /// Why packets for a peer take the way they take, or none.
    Why {
        /// Which one.
        peer: String,
    },
}

/// An answer of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Answer to [`Command::Status`].
    Status(Box<Status>),
    /// Answer to [`Command::Netcheck`].
    Netcheck(Box<Netcheck>),
    /// Answer to [`Command::Ping`], whether the peer answered or not.
    Pong(Box<Pong>),
    /// Answer to [`Command::Why`].
    Why(Box<Why>),
    /// The request was not served.
    Error(Refusal),
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason, for people: one line.
    pub message: String,
}

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not a request, or one too long.
    BadRequest,
    /// A version or command that this daemon does not know.
    Unsupported,
    /// Too many connections, or the daemon is stopping.
    Busy,
    /// The caller may not ask.
    Denied,
    /// No peer, or more than one, is called so.
    UnknownPeer,
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that runs as the daemon.
    pub daemon_version: String,
    /// The network interface.
    pub interface: InterfaceStatus,
    /// Own public key, base64.
    pub public_key: String,
    /// UDP port.
    pub port: u16,
    /// Since the start of the daemon.
    pub uptime_seconds: f64,
    /// In the order of the configuration.
    pub peers: Vec<PeerStatus>,
    /// Packets that were dropped, by reason, and that no peer is to be charged with.
    pub drops: BTreeMap<String, u64>,
    /// Other counters of the node, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Own addresses with the length of their network.
    pub addresses: Vec<IpNet>,
    /// In bytes.
    pub mtu: u16,
}

/// The state of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its public key, base64.
    pub public_key: String,
    /// What lies behind it.
    pub prefixes: Vec<IpNet>,
    /// Where packets go now; null also if they go through another member.
    pub endpoint: Option<SocketAddr>,
    /// Whether there is a session.
    pub state: PeerState,
    /// Since the session was confirmed.
    pub session_age_seconds: Option<f64>,
    /// Cipher of the present epoch, such as `AES-256-GCM`.
    pub cipher: Option<String>,
    /// Whether the present keys come from ML-KEM too, not from X25519 alone.
    pub post_quantum: bool,
    /// Smoothed round trip time.
    pub rtt_ms: Option<f64>,
    /// Since the last authenticated packet.
    pub last_received_seconds: Option<f64>,
    /// Bytes of IP packets received from the peer.
    pub rx_bytes: u64,
    /// Bytes of IP packets sent to the peer.
    pub tx_bytes: u64,
    /// IP packets received from the peer.
    pub rx_packets: u64,
    /// IP packets sent to the peer.
    pub tx_packets: u64,
    /// Largest UDP payload that is sent on the present path, in bytes.
    pub datagram_limit: Option<u16>,
    /// Every path of the session, the one that is used first.
    #[serde(default)]
    pub paths: Vec<PathStatus>,
    /// This node keeps a session with it, to be introduced to others and found by them.
    #[serde(default)]
    pub standing: bool,
    /// It relays for others.
    #[serde(default)]
    pub relay: bool,
    /// Names of the members that say they have a session with it.
    #[serde(default)]
    pub known_by: Vec<String>,
    /// Its reliable channels.
    pub reliable: ReliableStatus,
    /// Packets that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Whether there is a session with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// No session and no attempt: the next packet makes one.
    Idle,
    /// A handshake is under way.
    Connecting,
    /// Packets flow.
    Connected,
}

/// The reliable channels of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReliableStatus {
    /// Bytes that wait or are not acknowledged yet.
    pub queued_bytes: u64,
    /// Messages sent again in the present session.
    pub retransmissions: u64,
}

/// One path of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Where it leads.
    pub hop: Hop,
    /// How it came to be known.
    pub kind: PathKind,
    /// Packets go this way.
    pub primary: bool,
    /// Packets of full size went both ways.
    pub proven: bool,
    /// Smoothed round trip time.
    pub rtt_ms: Option<f64>,
    /// Since it answered last.
    pub heard_seconds: Option<f64>,
    /// Pings that were sent and not answered since.
    pub unanswered: u32,
}

/// Where packets of a path go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// To this address.
    Direct(SocketAddr),
    /// To the member of this name, which forwards them.
    Relay(String),
}

/// How an address came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// An interface of the node has it.
    Local,
    /// Another member sees the node there.
    Observed,
    /// A router forwards it.
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

impl PathKind {
    /// As it stands in tables and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Observed => "observed",
            Self::Mapped => "mapped",
            Self::Configured => "configured",
            Self::Heard => "heard",
            Self::Predicted => "predicted",
            Self::Relayed => "relayed",
        }
    }
}

/// What came of a ping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the peer.
    pub peer: String,
    /// Of the ping.
    pub number: u32,
    /// Between ping and answer; null if there was none within two seconds.
    pub rtt_ms: Option<f64>,
    /// Which way they went; null if there was no answer.
    pub hop: Option<Hop>,
    /// Whether there was a session, when the answer came or was given up.
    pub state: PeerState,
}

/// How the network lets a node reach others, and be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Netcheck {
    /// [`VERSION`].
    pub version: u32,
    /// Other members are reached by IPv4.
    pub ipv4: bool,
    /// Other members are reached by IPv6.
    pub ipv6: bool,
    /// Where other members see this node.
    pub observed: Vec<Observed>,
    /// Where the host says that this node can be reached.
    pub local: Vec<LocalAddress>,
    /// An own interface has an observed address: there is no NAT.
    pub public_address: bool,
    /// All members see the same port; false if the NAT gives each destination another one (a symmetric NAT); null as long as fewer than two were asked.
    pub same_mapping: Option<bool>,
    /// Observed ports follow each other at this distance.
    pub port_step: Option<u16>,
    /// Packets of members get in that this node has not written to.
    pub open_filter: Option<bool>,
    /// The router sends packets for its own outer address back in.
    pub hairpin: Option<bool>,
    /// A mapping of the NAT lives at least this long without traffic.
    pub lifetime_seconds: Option<f64>,
    /// Between the keepalives that hold it open.
    pub keepalive_seconds: f64,
    /// The peers that relay for others.
    pub relays: Vec<RelayStatus>,
    /// What that means for direct paths, and what would improve it: one line.
    pub advice: String,
}

/// Where another member sees this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Name of the member.
    pub by: String,
    /// What it sees.
    pub address: SocketAddr,
}

/// Where the host says that this node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddress {
    /// The address.
    pub address: SocketAddr,
    /// Of an interface, or opened by a router.
    pub kind: PathKind,
}

/// A peer that relays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its name.
    pub name: String,
    /// Whether there is a session with it.
    pub state: PeerState,
    /// Smoothed round trip time of its present path.
    pub rtt_ms: Option<f64>,
    /// What it says that it forwards for one member, at least, in 10^6 bits a second.
    pub mbit: f64,
}

/// Why packets for a peer take the way they take, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the peer.
    pub peer: String,
    /// What packets for it meet.
    pub verdict: Verdict,
    /// One paragraph for people.
    pub explanation: String,
    /// What was tried last, the oldest first.
    pub steps: Vec<StepStatus>,
}

/// What packets for a peer meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A session on a direct path.
    Direct,
    /// A session through another member.
    Relayed,
    /// An attempt that is under way.
    Connecting,
    /// Nothing, for the last attempt failed; the next packet begins another.
    Unreachable,
    /// Nothing, for none wanted to go there; the next packet begins an attempt.
    Idle,
}

/// One thing that was tried to reach a peer, or happened to a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// Since then.
    pub seconds_ago: f64,
    /// What, for programs: `wanted`, `greeted`, `asked`, `not_known_by`, `requested`, `acknowledged`, `no_answer`, `introduced`, `answered`, `connected`, `moved`, `died`, `sprayed` or `gave_up`.
    pub step: String,
    /// What, for people.
    pub text: String,
}
