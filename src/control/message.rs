//! What is said over the control socket, and what `handfast status --json` prints.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The state of the node and its peers.
    Status,
}

/// An answer of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Answer to [`Command::Status`].
    Status(Box<Status>),
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
    /// Where packets go now.
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
