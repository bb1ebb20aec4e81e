//! Forwarding sealed packets between two members, and being at an end of that (PROTOCOL §12.6).
//!
//! A relay forwards once: what came through a relay is not forwarded, and goes only to members that it reaches directly. So there are no loops, whatever anybody says. It keeps nothing of a
//! datagram, cannot read it, and whoever alters it makes it fail to open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::frame::MeshFrame;
use crate::base::{Ecn, Link, PeerId, PeerIndex, TunSink, TxSink};
use crate::proto::capacity::Capacity;
use crate::proto::channel::parts::Reassembly;
use crate::proto::command::RelayLimits;
use crate::proto::event::Dropped;
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::session::{Lane, SessionRef};
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::{RELAYED_OVERHEAD, RELAYED_PART_OVERHEAD};
use crate::wire::sealed::HEADER;

/// Members that were forwarded for in this time count against the limit.
const ACTIVE: Duration = Duration::from_secs(10);
/// Members whose pieces one relay brings at the same time.
const MAX_SENDERS: usize = 8;
/// The longest datagram that is relayed: what every path carries, with room for later editions.
const LONGEST: usize = 2048;
/// What a datagram costs besides its bytes: its envelope, and the headers below.
const ENVELOPE: usize = 80;

/// For whom this node relays.
#[derive(Debug)]
pub(crate) struct Relaying {
    limits: Option<RelayLimits>,
    members: BTreeMap<PeerIndex, Allowance>,
    /// Nobody makes room before: who is refused costs no search through all for each datagram.
    full_until: Option<Instant>,
}

/// What is left of one member's share.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    bytes: u64,
    updated: Instant,
}

/// Pieces that one relay has brought: those of each sender apart, so that none can crowd out another's.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// By tag, those that sent last at the end.
    senders: Vec<(u64, Reassembly)>,
}

impl Pieces {
    /// Does something with those of one sender. Of too many senders, the one that was silent longest makes room.
    fn with<T>(&mut self, tag: u64, work: impl FnOnce(&mut Reassembly) -> T) -> T {
        let known = self.senders.iter().position(|(known, _)| *known == tag);
        let mut pieces = known.map_or_else(Reassembly::new, |position| self.senders.remove(position).1);
        let result = work(&mut pieces);
        if pieces.deadline().is_some() {
            if self.senders.len() == MAX_SENDERS {
                self.senders.remove(0);
            }
            self.senders.push((tag, pieces));
        }
        result
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.senders.retain_mut(|(_, pieces)| {
            pieces.handle_timeout(now);
            pieces.deadline().is_some()
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.senders.iter().filter_map(|(_, pieces)| pieces.deadline()).min()
    }
}

impl Relaying {
    pub(super) const fn new(limits: Option<RelayLimits>) -> Self {
        Self { limits, members: BTreeMap::new(), full_until: None }
    }

    pub(super) const fn is_enabled(&self) -> bool {
        self.limits.is_some()
    }

    /// What each member gets.
    pub(super) fn capacity(&self) -> Option<Capacity> {
        self.limits.map(|limits| Capacity::of(limits.bytes_per_second))
    }

    /// Whether `len` bytes more of `member` may be forwarded now.
    fn admit(&mut self, now: Instant, member: PeerIndex, len: usize) -> Result<(), Dropped> {
        let limits = self.limits.ok_or(Dropped::Ignored)?;
        if !self.members.contains_key(&member) {
            if self.members.len() >= limits.members && self.full_until.is_none_or(|until| now >= until) {
                self.members.retain(|_, allowance| now < allowance.updated + ACTIVE);
                self.full_until = self.members.values().map(|allowance| allowance.updated + ACTIVE).min();
            }
            if self.members.len() >= limits.members {
                return Err(Dropped::RelayLimit);
            }
        }
        let burst = limits.bytes_per_second / 2;
        let allowance = self.members.entry(member).or_insert(Allowance { bytes: burst, updated: now });
        let elapsed = now.saturating_duration_since(allowance.updated).as_micros().min(1_000_000) as u64;
        let gained = limits.bytes_per_second.saturating_mul(elapsed) / 1_000_000;
        allowance.bytes = (allowance.bytes + gained).min(burst);
        allowance.updated = now;
        match allowance.bytes.checked_sub((len + ENVELOPE) as u64) {
            Some(left) => allowance.bytes = left,
            None => return Err(Dropped::RelayLimit),
        }
        Ok(())
    }
}

impl Node {
    /// A frame that carries a datagram of another member, or for another member.
    pub(super) fn on_relayed(
        &mut self,
        now: Instant,
        from: PeerIndex,
        link: Link,
        frame: MeshFrame,
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        if hop::is_relayed(link.remote) {
            return Err(Dropped::RelayLoop);
        }
        match frame {
            MeshFrame::Relayed { hops: 1, tag, datagram } => {
                let own = self.own_tag(from);
                self.forward(now, from, tag, datagram.len(), |hops| MeshFrame::Relayed { hops, tag: own, datagram }, tx)
            }
            MeshFrame::RelayedPart { hops: 1, tag, number, index, count, data } => {
                let own = self.own_tag(from);
                let part = |hops| MeshFrame::RelayedPart { hops, tag: own, number, index, count, data: data.clone() };
                self.forward(now, from, tag, data.len(), part, tx)
            }
            MeshFrame::Relayed { hops: 0, tag, mut datagram } => {
                self.take_datagram(now, Link::to(hop::relayed(from, tag)), &mut datagram, tx, tun)
            }
            MeshFrame::RelayedPart { hops: 0, tag, number, index, count, data } => {
                let peer = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
                let whole = peer
                    .contact()
                    .pieces
                    .with(tag, |pieces| pieces.on_part(now, number, index, count, &data, Ecn::NotEct));
                let Some((mut datagram, _)) = whole.map_err(|_| Dropped::BadPart)? else { return Ok(()) };
                self.take_datagram(now, Link::to(hop::relayed(from, tag)), &mut datagram, tx, tun)
            }
            MeshFrame::Relayed { .. } | MeshFrame::RelayedPart { .. } => Err(Dropped::RelayLoop),
            MeshFrame::ListRequest { .. }
            | MeshFrame::Request { .. }
            | MeshFrame::Introduction { .. }
            | MeshFrame::Acknowledgement { .. } => Ok(()),
        }
    }

    /// Whether what came over `link` may be the peer's: a relay says whose it is, and could invent any number of hops that lead nowhere.
    pub(in crate::proto) fn is_behind(&self, link: Link, index: PeerIndex) -> bool {
        hop::through(link.remote).is_none_or(|(_, tag)| self.mesh.tags.get(&tag) == Some(&index))
    }

    fn own_tag(&mut self, of: PeerIndex) -> u64 {
        self.peers.get_mut(of).map_or(0, |peer| self.local.net.tag(&peer.id))
    }

    /// Sends one frame on to the member with `tag`.
    fn forward(
        &mut self,
        now: Instant,
        from: PeerIndex,
        tag: u64,
        len: usize,
        frame: impl FnOnce(u8) -> MeshFrame,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        if len > LONGEST {
            return Err(Dropped::TooLarge);
        }
        if !self.mesh.relaying.is_enabled() {
            return Err(Dropped::Ignored);
        }
        let target = *self.mesh.tags.get(&tag).filter(|target| **target != from).ok_or(Dropped::UnknownPeer)?;
        let peer = self.peers.get_mut(target).ok_or(Dropped::UnknownPeer)?;
        if peer.mesh_session().is_none_or(|session| session.path.is_relayed()) {
            return Err(Dropped::UnknownSession);
        }
        self.mesh.relaying.admit(now, from, len)?;
        let frame = frame(0);
        self.send_frame(now, target, &frame, tx)
    }

    /// Sends a datagram through a relay: `link` leads to a relayed hop.
    pub(in crate::proto) fn send_relayed(
        &mut self,
        now: Instant,
        relay: PeerIndex,
        tag: u64,
        datagram: &[u8],
        tx: &mut impl TxSink,
    ) {
        let Some(peer) = self.peers.get_mut(relay) else { return };
        let Some(limit) =
            peer.mesh_session().filter(|session| !session.path.is_relayed()).map(|session| session.datagram_limit())
        else {
            peer.drops.count(Dropped::UnknownSession);
            return;
        };
        let room = limit - DATA_HEADER;
        let result = if RELAYED_OVERHEAD + datagram.len() <= room {
            self.send_frame(now, relay, &MeshFrame::Relayed { hops: 1, tag, datagram: datagram.to_vec() }, tx)
        } else {
            let number = self.mesh.number();
            let piece = datagram.len().div_ceil(datagram.len().div_ceil(room - RELAYED_PART_OVERHEAD).max(2));
            let count = datagram.len().div_ceil(piece) as u8;
            (0..).zip(datagram.chunks(piece)).try_for_each(|(index, data)| {
                let frame = MeshFrame::RelayedPart { hops: 1, tag, number, index, count, data: data.to_vec() };
                self.send_frame(now, relay, &frame, tx)
            })
        };
        if let (Err(reason), Some(peer)) = (result, self.peers.get_mut(relay)) {
            peer.drops.count(reason);
        }
    }

    /// Seals one frame in a packet of its own. What is too long for the path to a relayed datagram's target is cut once more.
    fn send_frame(
        &mut self,
        now: Instant,
        to: PeerIndex,
        frame: &MeshFrame,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        let peer = self.peers.get_mut(to).ok_or(Dropped::UnknownPeer)?;
        let session = peer.mesh_session().ok_or(Dropped::UnknownSession)?;
        let (serial, limit) = (session.serial, session.datagram_limit());
        let mut writer = DataWriter::new(&mut self.scratch[HEADER..HEADER + limit]);
        if !frame.write(&mut writer) {
            return self.cut_once_more(now, to, frame, limit, tx);
        }
        let len = writer.finish();
        self.send_scratch(now, SessionRef { peer: to, serial }, Lane::User, len, None, tx);
        Ok(())
    }

    fn cut_once_more(
        &mut self,
        now: Instant,
        to: PeerIndex,
        frame: &MeshFrame,
        limit: usize,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        let MeshFrame::Relayed { hops, tag, datagram } = frame else { return Err(Dropped::TooLarge) };
        let (hops, tag) = (*hops, *tag);
        let number = self.mesh.number();
        let piece = datagram.len().div_ceil(2);
        if DATA_HEADER + RELAYED_PART_OVERHEAD + piece > limit {
            return Err(Dropped::TooLarge);
        }
        for (index, data) in (0..).zip(datagram.chunks(piece)) {
            self.send_frame(
                now,
                to,
                &MeshFrame::RelayedPart { hops, tag, number, index, count: 2, data: data.to_vec() },
                tx,
            )?;
        }
        Ok(())
    }

    /// Every way to a member through a relay with a session.
    pub(super) fn relayed_ways(&mut self, member: &PeerId) -> Vec<(SocketAddr, Capacity)> {
        let tag = self.local.net.tag(member);
        self.relays().into_iter().map(|(relay, capacity)| (hop::relayed(relay, tag), capacity)).collect()
    }

    /// Every relay with a session.
    fn relays(&mut self) -> Vec<(PeerIndex, Capacity)> {
        let connected = self.peers.connected().into_iter();
        connected.filter_map(|index| Some((index, self.peers.get_mut(index)?.relay_capacity()?))).collect()
    }

    /// A peer relays, or more or less than before: sessions that are in use may need it.
    pub(super) fn offer_relay(&mut self, now: Instant, relay: PeerIndex, capacity: Capacity) {
        for index in self.peers.connected() {
            self.add_relayed_paths(now, index, &[(relay, capacity)]);
        }
    }

    /// Every relay with a session is a way to a peer that is talked to.
    pub(in crate::proto) fn add_all_relayed_paths(&mut self, now: Instant, index: PeerIndex) {
        if self.peers.get_mut(index).is_some_and(|peer| peer.takes_relays()) {
            let relays = self.relays();
            self.add_relayed_paths(now, index, &relays);
        }
    }

    fn add_relayed_paths(&mut self, now: Instant, index: PeerIndex, relays: &[(PeerIndex, Capacity)]) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let tag = self.local.net.tag(&peer.id);
        if !peer.takes_relays() {
            return;
        }
        let Some(session) = peer.mesh_session() else { return };
        for &(relay, capacity) in relays.iter().filter(|(relay, _)| *relay != index) {
            session.path.add_relayed(now, hop::relayed(relay, tag), capacity);
        }
        self.settle(now, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_datagrams_use_up_the_share_of_a_member_too() {
        let now = crate::proto::tests::start();
        let mut relaying = Relaying::new(Some(RelayLimits { members: 1, bytes_per_second: 100_000 }));
        let sent = (0..10_000).filter(|_| relaying.admit(now, PeerIndex(0), 1).is_ok()).count();
        assert!(sent * 60 <= 50_000, "{sent} at once, each of which costs the bytes of its envelope");
    }
}
