//! Making a session with a peer: hello, hello retry, hello, hello answer (PROTOCOL §4).
//!
//! The initiator is a small state machine per attempt; the responder keeps no state before a valid cookie. What follows the answer (offer and finish)
//! happens inside the session.

pub(crate) mod initiator;
pub(crate) mod responder;

use crate::base::PeerId;
use crate::crypto::keys::IdentitySecret;
use crate::crypto::schedule::Net;

/// The peer's hardware is fast at AES-256-GCM (PROTOCOL §4.5).
pub(crate) const CAP_AES: u32 = 0x0000_0001;
/// The peer understands part frames.
pub(crate) const CAP_PARTS: u32 = 0x0000_0002;
/// The peer answers probes of the path.
pub(crate) const CAP_PROBES: u32 = 0x0000_0004;

/// The peer computes transport checksums that were left out (PROTOCOL §11.5).
pub(crate) const CAP_PARTIAL: u32 = 0x0000_0008;
/// The peer has paths, lists, introductions and relays (PROTOCOL §8.7, §12).
pub(crate) const CAP_MESH: u32 = 0x0000_0010;

/// What every handshake of this node needs to know of itself.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) identity: IdentitySecret,
    pub(crate) id: PeerId,
    pub(crate) net: Net,
    pub(crate) caps: u32,
    /// The largest datagram that it is ready to send.
    pub(crate) max_datagram: usize,
}

impl Local {
    pub(crate) fn new(identity: IdentitySecret, net: Net, prefers_aes: bool, max_datagram: usize) -> Self {
        let caps = CAP_PARTS | CAP_PROBES | CAP_PARTIAL | CAP_MESH | if prefers_aes { CAP_AES } else { 0 };
        Self { id: identity.id(), identity, net, caps, max_datagram }
    }
}
