//! Names of things: nodes, sessions, and the slot of a peer in this process.

use std::fmt;

/// Identity of a node: the 32 bytes of its Ed25519 public key (PROTOCOL §1).
///
/// Any 32 bytes can stand here; whether they are a usable key is decided where a signature is verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// The key as it stands in packets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The first four bytes are enough to tell peers apart in a log.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PeerId({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// Index by which the receiver of a sealed packet finds the session (`idx`, PROTOCOL §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionIndex(pub u32);

/// Slot of a peer in the tables of this process; never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u32);

impl PeerIndex {
    /// As an index into a slice.
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}
