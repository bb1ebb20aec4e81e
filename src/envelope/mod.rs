//! Layer 3: sealing and opening datagrams under the keys of one epoch (PROTOCOL §6), from any thread. Imports `base`, `crypto`, `wire`.
//!
//! A session is owned by one thread, which decides everything; its bytes may be carried by others. What those need of it stands here, behind `Arc`s, and
//! nothing else: [`Sealer`] and [`Opener`] are the two directions of one epoch, [`Activity`] is where whoever carries bytes notes when, and the owner
//! reads it, [`Sending`] and [`Receiving`] are what the owner publishes of a session.

mod activity;
mod open;
mod parts;
mod seal;

pub use activity::{Activity, Counters, Traffic};
pub use open::{Opened, Opener, Opening};
pub use parts::{MAX_PARTS, Splitter, split};
pub use seal::{REFUSED_BLOCKS, Sealer};

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{Link, PeerIndex, SessionIndex};

/// The unreliable channel that senders use (PROTOCOL §9.2).
pub const UNRELIABLE: u8 = 128;
/// Channels from here on are unreliable (PROTOCOL §9.2).
pub const FIRST_UNRELIABLE: u8 = 128;

/// What is published of one peer. It replaces whatever was published of it before.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The session that user data is sent on, if there is a confirmed one.
    pub sending: Option<Sending>,
    /// Every epoch that may open its datagrams.
    pub receiving: Vec<Receiving>,
}

/// How user data is sent to a peer now.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Seals.
    pub sealer: Arc<Sealer>,
    /// Where to.
    pub link: Link,
    /// Largest plaintext of a datagram on this path, in bytes.
    pub limit: usize,
    /// Largest IP packet that the path carries in one datagram; `None` while that is being found out.
    pub inner_mtu: Option<usize>,
    /// Whether the peer computes the transport checksums that are left out (PROTOCOL §11.5).
    pub takes_partial: bool,
    /// Cuts what is larger than a datagram, if the peer takes parts.
    pub splitter: Option<Arc<Splitter>>,
    /// Where it is noted.
    pub activity: Arc<Activity>,
    /// Where it is counted.
    pub counters: Arc<Counters>,
}

/// One epoch that may open datagrams.
#[derive(Clone, Debug)]
pub struct Receiving {
    /// By which its datagrams are found.
    pub index: SessionIndex,
    /// Opens.
    pub opener: Arc<Opener>,
    /// Which session of the peer, for its owner.
    pub session: u64,
    /// The path of the session: what comes from elsewhere interests its owner.
    pub path: Link,
    /// Where it is noted.
    pub activity: Arc<Activity>,
    /// Where it is counted.
    pub counters: Arc<Counters>,
}

impl Receiving {
    /// Whether the owner of the session wants to know that a datagram came over `link` (PROTOCOL §8.1).
    pub fn is_elsewhere(&self, link: Link) -> bool {
        let moved_here = |own: Option<IpAddr>| self.path.local.is_some() && own != self.path.local;
        link.remote != self.path.remote || moved_here(link.local)
    }
}

/// The peer of which something is published.
pub type Publication = (PeerIndex, Published);
