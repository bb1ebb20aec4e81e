//! What the tests of this module share: one peer, its session, and packets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Mailbox, Shared, Table};
use crate::base::{Link, OuterDscp, PeerIndex, SessionIndex, SharedDrops};
use crate::crypto::aead::{Cipher, OpenKey, SealKey};
use crate::crypto::secret::Secret;
use crate::envelope::{Activity, Counters, Opener, Published, Receiving, Sealer, Sending, Splitter};
use crate::io::offload::Capabilities;
use crate::overlay::flow::ChannelRules;
use crate::overlay::routes::RouteTable;

pub(super) const PEER: PeerIndex = PeerIndex(0);
pub(super) const INDEX: SessionIndex = SessionIndex(7);

/// What one datagram carries of an IP packet in [`shared`].
pub(super) const INNER_MTU: usize = 1191;

#[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
pub(super) fn start() -> Instant {
    Instant::now()
}

/// A node whose one peer has 10.0.0.0/8, and is at `remote`.
pub(super) fn shared(now: Instant, remote: SocketAddr) -> Shared {
    let mut routes = RouteTable::new();
    routes.insert("10.0.0.0/8".parse().unwrap(), PEER);
    let shared = Shared {
        table: Table::new(routes),
        mailbox: Mailbox::default(),
        rules: ChannelRules::default(),
        addresses: Vec::new(),
        offload: Capabilities { tso: false, uso: false },
        dscp: OuterDscp::default(),
        drops: SharedDrops::default(),
        tun: Arc::default(),
    };
    let (key, cipher, until) = (Secret::fill(|_| {}), Cipher::ChaCha20Poly1305, now + Duration::from_secs(180));
    let (activity, counters) = (Arc::new(Activity::new(now)), Arc::new(Counters::default()));
    let receiving = Receiving {
        index: INDEX,
        opener: Arc::new(Opener::new(OpenKey::new(cipher, &key), INDEX, until)),
        session: 1,
        path: Link::to(remote),
        activity: Arc::clone(&activity),
        counters: Arc::clone(&counters),
    };
    let sending = Sending {
        sealer: Arc::new(Sealer::new(SealKey::new(cipher, &key), INDEX, until)),
        link: Link::to(remote),
        limit: 1198,
        inner_mtu: Some(INNER_MTU),
        takes_partial: true,
        splitter: Some(Arc::new(Splitter::default())),
        activity,
        counters,
    };
    shared.table.publish(PEER, Published { sending: Some(sending), receiving: vec![receiving] });
    shared
}

/// An IPv4 packet of `len` bytes between two hosts of the peer, ECN-capable.
pub(super) fn capable(len: usize) -> Vec<u8> {
    let [high, low] = (len as u16).to_be_bytes();
    let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut packet = [&[0x45, 0b10, high, low, 0, 0, 0, 0, 64, 253, 0, 0][..], &from.octets(), &to.octets()].concat();
    packet.resize(len, 0);
    packet
}
