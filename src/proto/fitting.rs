//! `impl Node`: the hosts behind the overlay learn what one datagram of the path carries (PROTOCOL §11.4).
//!
//! A packet that is too long for one datagram still travels, in parts. But parts multiply loss, so its sender is told the size that needs none: by ICMP, and in the segment size
//! that TCP announces. Nothing is said before the search has ended, for a host keeps a small value for ten minutes.

use std::time::Instant;

use super::bucket::Rate;
use super::node::Node;
use crate::base::{PeerIndex, TunSink};
use crate::ip::packet::IpPacket;
use crate::ip::{icmp, mss};

/// ICMP errors about the size of packets for one peer.
pub(super) const TOO_BIG: Rate = Rate { per_second: 1, burst: 4 };

impl Node {
    /// Tells the sender of a packet that is longer than one datagram carries.
    pub(super) fn tell_size(&mut self, now: Instant, index: PeerIndex, inner: &IpPacket<'_>, tun: &mut impl TunSink) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(mtu) = peer.sending().and_then(|session| session.told_mtu()) else {
            return;
        };
        // A reliable channel is a stream of bytes, in which size costs nothing.
        if inner.bytes().len() <= mtu || self.rules.channel_for(inner).is_some() {
            return;
        }
        // In the name of the destination, as whatever is said to this host.
        if let Some(answer) = icmp::too_big(inner, inner.dst(), mtu)
            && peer.may_tell_size(now)
        {
            tun.deliver(&answer);
        }
    }

    /// A copy of a packet that opens a TCP connection to a peer, with a segment size that fits one datagram; `None` if it fits as it is.
    pub(super) fn clamped(&mut self, index: PeerIndex, inner: &IpPacket<'_>) -> Option<Vec<u8>> {
        if !mss::opens_connection(inner) {
            return None;
        }
        let mtu = self.peers.get_mut(index)?.sending()?.inner_mtu()?;
        mss::clamp(inner, mtu)
    }
}
