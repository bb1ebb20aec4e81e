//! Layer 5: files to values. Imports `base`, `crypto` and `overlay`.
//!
//! A [`Config`] exists only if everything in it was accepted: what a value may be is decided here, once, and every refusal names file, line, key,
//! value and what would be accepted ([`ConfigError`]). Nothing outside the two files (configuration and key) is touched.

mod address;
mod checked;
mod codepoint;
mod document;
mod error;
mod flow;
pub mod key;
pub mod keyfile;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::geteuid;

use crate::base::{OuterDscp, PeerId};
use crate::crypto::keys::IdentitySecret;
use crate::overlay::flow::{FlowMatch, MAX_RULES};

pub use error::ConfigError;

/// Name of the interface where none is configured.
pub const DEFAULT_INTERFACE: &str = "hf0";
/// UDP port where none is configured (PROTOCOL §2).
pub const DEFAULT_PORT: u16 = 18502;
/// Smallest MTU that IPv6 allows a link (RFC 8200 §5).
pub const LEAST_MTU: u16 = 1280;
/// Largest packet on the interface where none is configured: with all that goes around it, it fits one datagram on Ethernet and on PPPoE, over IPv4 and IPv6.
pub const DEFAULT_MTU: u16 = 1400;
/// Threads that carry data, at most.
pub const MAX_THREADS: usize = 64;
/// Routing table, and priority of the rule that leads to it, where none is configured.
pub const DEFAULT_TABLE: u32 = 5200;
/// What a relay forwards for each member, in megabits a second, where no bound is configured.
pub const DEFAULT_RELAY_MBIT: u32 = 100;
/// Members that a relay serves at a time where no bound is configured.
pub const DEFAULT_RELAY_MEMBERS: u16 = 64;
/// Key file where none is configured.
pub const DEFAULT_KEY_FILE: &str = "/var/lib/handfast/identity.key";
/// Directory of the control sockets where none is configured.
pub const RUNTIME_DIRECTORY: &str = "/run/handfast";
/// Reliable channels for user data (PROTOCOL §9.2).
pub const MAX_CHANNELS: usize = MAX_RULES;
/// Addresses of one peer: as many as one attempt greets (PROTOCOL §13).
pub const MAX_ENDPOINTS: usize = 8;

/// A configuration of some thousand peers is far below this; a file above it is not one.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Every key of the file, by section; what is not listed here is refused.
pub const KEYS: &[(&str, &[&str])] = &[
    ("interface", checked::INTERFACE_KEYS),
    ("identity", checked::IDENTITY_KEYS),
    ("listen", checked::LISTEN_KEYS),
    ("control", checked::CONTROL_KEYS),
    ("discovery", checked::DISCOVERY_KEYS),
    ("nat", checked::NAT_KEYS),
    ("relay", checked::RELAY_KEYS),
    ("peer", checked::PEER_KEYS),
    ("channel", checked::CHANNEL_KEYS),
    ("match", flow::MATCH_KEYS),
];

/// A whole, accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network interface to make.
    pub interface: Interface,
    /// The file that holds the identity, an absolute path.
    pub key_file: PathBuf,
    /// UDP port, never 0.
    pub port: u16,
    /// Path of the control socket: absolute and short enough for one.
    pub control_socket: PathBuf,
    /// Whether members on the same link are told of this node, and heard.
    pub lan_discovery: bool,
    /// Whether routers are asked to forward the port.
    pub port_mapping: bool,
    /// What this node forwards for other members; `None` if nothing.
    pub relay: Option<Relay>,
    /// The static peers, in the order of the file; names, keys and prefixes are unique.
    pub peers: Vec<Peer>,
    /// Rules for reliable channels, in the order of the file, at most [`MAX_CHANNELS`]; the first that matches decides.
    pub channels: Vec<ChannelRule>,
}

/// The network interface to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// A name the kernel accepts.
    pub name: String,
    /// Own addresses with the length of their network; host bits are kept. At least one.
    pub addresses: Vec<IpNet>,
    /// 1280 to 65535 bytes.
    pub mtu: u16,
    /// Routing table for the prefixes of the peers, and priority of the rule that leads to it.
    pub table: u32,
    /// Whether the kernel may hand over super packets and leave checksums to be computed.
    pub offload: bool,
    /// Codepoint of the datagrams in the underlay.
    pub dscp: OuterDscp,
    /// Threads that carry data, 1 to [`MAX_THREADS`]; `None` for one for each processor.
    pub threads: Option<usize>,
}

/// How much a node forwards for other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Megabits a second for each member that sends, 1 to 100000.
    pub max_mbit: u32,
    /// Members at a time, 1 to 10000.
    pub max_members: u16,
}

/// One static peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How people call it.
    pub name: String,
    /// Its public key.
    pub id: PeerId,
    /// Where it may be reached, at most [`MAX_ENDPOINTS`]; none if others know where it is, or it calls.
    pub endpoints: Vec<Endpoint>,
    /// What lies behind it: destinations that are sent to it, and sources that it may send from. No host bits.
    pub prefixes: Vec<IpNet>,
    /// Something is sent at least this often, to keep the mapping of a NAT; whole seconds, 1 to 3600.
    pub keepalive: Option<Duration>,
}

/// A place in the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address; never v4-mapped.
    Address(SocketAddr),
    /// A DNS name, to be resolved when it is needed.
    Name {
        /// The name, without a dot at its end.
        host: String,
        /// UDP port, never 0.
        port: u16,
    },
}

/// Flows that travel on a reliable channel of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule {
    /// How people call it.
    pub name: String,
    /// Which packets.
    pub matches: FlowMatch,
}

impl Config {
    /// Reads the configuration and the key file that it names, and checks both.
    ///
    /// # Errors
    /// The first fault found, with the place where it stands.
    pub fn load(path: &Path) -> Result<(Self, IdentitySecret), ConfigError> {
        let file = path.display().to_string();
        let text = read_text(path).map_err(|problem| ConfigError::of_file(&file, problem))?;
        let (config, places) = checked::read(&text, &file)?;
        let identity = keyfile::read(&config.key_file).map_err(|fault| places.refuse_key_file(&config, &fault))?;
        places.refuse_self(&config, &identity.id())?;
        Ok((config, identity))
    }

    /// Checks `text`; `file` is what errors call it. The key file is not read.
    ///
    /// # Errors
    /// The first fault found, with the place where it stands.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        checked::read(text, file).map(|(config, _)| config)
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(|error| {
        if error.kind() == ErrorKind::PermissionDenied {
            format!("cannot be read by user {}, who runs handfast; it holds no secret: chmod 644 it", geteuid())
        } else {
            cannot(error)
        }
    })?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("cannot be read: not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {} MiB; a configuration is not", MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}
