//! From the interface to the underlay: read, route, cut, seal, send.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::fair::{FairQueue, Turn};
use super::packing::Packing;
use super::table::View;
use super::{Notice, Shared};
use crate::base::{Dropped, Ecn, PeerIndex, TrafficClass};
use crate::envelope::{Sending, Traffic, UNRELIABLE};
use crate::io::offload::{Checksum, Gso, Plan, VnetHeader};
use crate::io::tun::{MAX_PACKET, Queue, TunError};
use crate::io::udp::Sender;
use crate::ip::{IpPacket, ecn, mss};
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::{PART_OVERHEAD, UNRELIABLE_OVERHEAD};
use crate::wire::sealed::{HEADER, TAG};

/// Packets and bytes taken from the interface in one burst: enough to send them in trains, little enough that datagrams do not wait.
const BURST_PACKETS: usize = 128;
const BURST_BYTES: usize = 256 << 10;

/// Packets that are at least this long go alone: another one is unlikely to fit beside them.
const ALONE: usize = 512;

/// How often the control thread is asked to tell a host that its packets are too large. It has a bound of its own; this one spares it the work.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// The sending side of a data thread.
#[derive(Debug)]
pub(super) struct Outbound {
    /// What was read and is not sent.
    waiting: FairQueue,
    /// Room for one packet whose checksum must be completed.
    scratch: Box<[u8]>,
    packing: Packing,
    /// Where packets to the last destination went, as of which table.
    route: Option<(u64, IpAddr, PeerIndex)>,
    /// When a packet that is too large was left to the control thread last.
    told: Option<Instant>,
    /// What was sent to the last peer in this burst.
    tally: Option<(PeerIndex, Tally)>,
}

/// What one burst has sent to one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    traffic: Traffic,
    /// The longest datagram.
    largest: usize,
}

/// What a burst is sent with.
pub(super) struct Way<'a> {
    pub(super) now: Instant,
    pub(super) shared: &'a Shared,
    pub(super) sender: &'a mut Sender,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            waiting: FairQueue::new(),
            scratch: vec![0; MAX_PACKET].into_boxed_slice(),
            packing: Packing::new(),
            route: None,
            told: None,
            tally: None,
        }
    }

    /// Whether packets wait for their turn.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what the interface has ready, up to a burst.
    pub(super) fn fill(&mut self, queue: &Queue, now: Instant, shared: &Shared) -> Result<(), TunError> {
        let mut bytes = 0;
        for _ in 0..BURST_PACKETS {
            let Some(length) = queue.read(self.waiting.room())? else { break };
            bytes += length;
            match self.waiting.push(now, length, &shared.rules) {
                Some(lost) => shared.drops.count_many(Dropped::QueueFull, lost),
                None => shared.drops.count(Dropped::NotIp),
            }
            if bytes >= BURST_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Sends what waits, up to a burst. Returns how many bytes that were.
    pub(super) fn carry(&mut self, way: &mut Way<'_>) -> usize {
        let view = way.shared.table.read();
        let (mut packets, mut bytes) = (0, 0);
        while packets < BURST_PACKETS && bytes < BURST_BYTES && !way.sender.is_blocked() {
            let Some(mut turn) = self.waiting.pop(way.now) else { break };
            packets += 1;
            bytes += turn.len();
            if let Err(reason) = self.packet(&view, &mut turn, way) {
                way.shared.drops.count(reason);
            }
            self.waiting.recycle(turn);
        }
        self.flush(&view, way);
        self.settle(&view, way);
        bytes
    }

    /// One read of the interface.
    fn packet(&mut self, view: &View, turn: &mut Turn, way: &mut Way<'_>) -> Result<(), Dropped> {
        let lost = turn.congested && !mark(turn.bytes());
        let (header, packet) = VnetHeader::split(turn.bytes()).ok_or(Dropped::NotIp)?;
        let inner = IpPacket::parse(packet).map_err(|_| Dropped::NotIp)?;
        let Some(peer) = self.route_to(view, inner.dst()) else {
            return leave_to_node(&header, &inner, way.shared);
        };
        let reliably = way.shared.rules.channel_for(&inner).is_some();
        let Some(sending) = view.sending(peer).filter(|_| !reliably) else {
            return leave_to_node(&header, &inner, way.shared);
        };
        let room = sending.limit.saturating_sub(DATA_HEADER + UNRELIABLE_OVERHEAD);
        if self.must_tell_size(&header, &inner, sending, room, way.now) {
            return leave_to_node(&header, &inner, way.shared);
        }
        let plan = Plan::new(&header, inner, room).map_err(|_| Dropped::NotIp)?;
        let class = way.shared.dscp.outer(inner.class());
        // One piece is enough to tell a sender, and a super packet is many.
        let first = usize::from(lost);
        let result = self.pieces(view, peer, sending, &plan, first, room, class, way);
        if lost {
            sending.counters.count_drop(Dropped::Congestion);
        }
        if let Err(reason) = result {
            sending.counters.count_drop(reason);
        }
        Ok(())
    }

    /// Whether the control thread should look at this packet, because its sender should send smaller ones (PROTOCOL §11.4).
    fn must_tell_size(
        &mut self,
        header: &VnetHeader,
        inner: &IpPacket<'_>,
        sending: &Sending,
        room: usize,
        now: Instant,
    ) -> bool {
        let Some(mtu) = sending.inner_mtu.or_else(|| sending.splitter.is_none().then_some(room)) else { return false };
        if mss::clamp(inner, mtu).is_some() {
            return true;
        }
        let is_whole = header.gso() == Some(Gso::None);
        if !is_whole || inner.bytes().len() <= mtu || self.told.is_some_and(|told| now < told + TELL_EVERY) {
            return false;
        }
        self.told = Some(now);
        true
    }

    fn route_to(&mut self, view: &View, destination: IpAddr) -> Option<PeerIndex> {
        match self.route {
            Some((generation, last, peer)) if generation == view.generation && last == destination => Some(peer),
            _ => {
                let peer = view.route(destination)?;
                self.route = Some((view.generation, destination, peer));
                Some(peer)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the packet, and where it goes")]
    fn pieces(
        &mut self,
        view: &View,
        peer: PeerIndex,
        sending: &Sending,
        plan: &Plan<'_>,
        first: usize,
        room: usize,
        class: TrafficClass,
        way: &mut Way<'_>,
    ) -> Result<(), Dropped> {
        let whose = (peer, class);
        let partial = plan.is_partial() && sending.takes_partial;
        let checksum = if partial { Checksum::Partial } else { Checksum::Complete };
        for piece in first..plan.count() {
            let len = plan.piece_len(piece);
            if self.packing.whose().is_some_and(|open| open != whose) {
                self.flush(view, way);
            }
            if len > room {
                self.parts(view, whose, sending, plan, piece, way)?;
            } else if len >= ALONE {
                self.flush(view, way);
                let total = HEADER + DATA_HEADER + UNRELIABLE_OVERHEAD + len + TAG;
                let link = sending.link.bearing(class);
                let mut result = Ok(());
                way.sender.try_transmit(link, total, |datagram| {
                    result = write(datagram, partial, len, |out| plan.write(piece, out, checksum))
                        .and_then(|()| sending.sealer.seal(way.now, datagram));
                    result.is_ok()
                });
                result?;
                self.count(view, peer, way).sent(total);
            } else {
                let add = |writer: &mut DataWriter<'_>| {
                    let room = writer.packet(UNRELIABLE, partial, len);
                    room.map(|out| plan.write(piece, out, checksum)).is_ok()
                };
                if !self.packing.push(whose, sending.limit, add) {
                    self.flush(view, way);
                    let added = self.packing.push(whose, sending.limit, add);
                    debug_assert!(added, "a piece is cut to fit an empty datagram");
                }
            }
            let tally = self.count(view, peer, way);
            tally.traffic.tx_packets += 1;
            tally.traffic.tx_bytes += len as u64;
        }
        Ok(())
    }

    /// What is larger than a datagram, and must not be cut as IP: in parts of nearly equal size (PROTOCOL §11.2).
    fn parts(
        &mut self,
        view: &View,
        whose: (PeerIndex, TrafficClass),
        sending: &Sending,
        plan: &Plan<'_>,
        piece: usize,
        way: &mut Way<'_>,
    ) -> Result<(), Dropped> {
        let splitter = sending.splitter.as_ref().ok_or(Dropped::TooLarge)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = (|| {
            let packet = scratch.get_mut(..plan.piece_len(piece)).ok_or(Dropped::TooLarge)?;
            plan.write(piece, packet, Checksum::Complete);
            let limit = sending.limit.saturating_sub(DATA_HEADER + PART_OVERHEAD);
            for part in splitter.cut(UNRELIABLE, packet, limit).ok_or(Dropped::TooLarge)? {
                if !self.packing.push_frame(whose, sending.limit, &part) {
                    self.flush(view, way);
                    self.packing.push_frame(whose, sending.limit, &part);
                }
            }
            Ok(())
        })();
        self.scratch = scratch;
        result
    }

    /// Sends the open datagram, if there is one.
    fn flush(&mut self, view: &View, way: &mut Way<'_>) {
        let Some((peer, class)) = self.packing.whose() else { return };
        let datagram = self.packing.close();
        // It was there when the datagram was opened, under the same lock.
        let Some(sending) = view.sending(peer) else { return };
        match sending.sealer.seal(way.now, datagram) {
            Ok(()) => {
                let link = sending.link.bearing(class);
                let total = datagram.len();
                way.sender.try_transmit(link, total, |slot| {
                    slot.copy_from_slice(datagram);
                    true
                });
                self.count(view, peer, way).sent(total);
            }
            Err(reason) => sending.counters.count_drop(reason),
        }
    }
}

impl Outbound {
    /// Where to count what is sent to `peer`.
    fn count(&mut self, view: &View, peer: PeerIndex, way: &Way<'_>) -> &mut Tally {
        if self.tally.is_some_and(|(last, _)| last != peer) {
            self.settle(view, way);
        }
        &mut self.tally.get_or_insert_with(|| (peer, Tally::default())).1
    }

    /// Tells the owner of the session what was sent: once a burst, since every word costs all threads.
    fn settle(&mut self, view: &View, way: &Way<'_>) {
        let Some((peer, tally)) = self.tally.take() else { return };
        let Some(sending) = view.sending(peer) else { return };
        sending.counters.add(&tally.traffic);
        sending.sealer.mark_used();
        sending.activity.on_sealed(way.now);
        sending.activity.on_user_sent(way.now, tally.largest);
        if sending.activity.must_wake() {
            way.shared.mailbox.awake(peer);
        }
    }
}

impl Tally {
    fn sent(&mut self, datagram: usize) {
        self.traffic.tx_datagrams += 1;
        self.largest = self.largest.max(datagram);
    }
}

/// Tells the sender of a packet of congestion by a mark; false if it does not know marks, and must lose something.
fn mark(read: &mut [u8]) -> bool {
    let Some(packet) = read.get_mut(VnetHeader::LEN..) else { return false };
    let is_capable = IpPacket::parse(packet).is_ok_and(|inner| inner.ecn() != Ecn::NotEct);
    if is_capable {
        ecn::mark(packet, Ecn::Ce);
    }
    is_capable
}

/// A data packet with one frame in it, but for the envelope.
fn write(datagram: &mut [u8], partial: bool, len: usize, piece: impl FnOnce(&mut [u8])) -> Result<(), Dropped> {
    let end = datagram.len().checked_sub(TAG).ok_or(Dropped::TooLarge)?;
    let plaintext = datagram.get_mut(HEADER..end).ok_or(Dropped::TooLarge)?;
    let mut writer = DataWriter::new(plaintext);
    piece(writer.packet(UNRELIABLE, partial, len).map_err(|_| Dropped::TooLarge)?);
    writer.finish();
    Ok(())
}

/// Packets without a session, without a peer, or for a reliable channel: whole, and no longer than the interface's own.
fn leave_to_node(header: &VnetHeader, inner: &IpPacket<'_>, shared: &Shared) -> Result<(), Dropped> {
    // A super packet is cut as its sender would have cut it.
    let plan = Plan::new(header, *inner, MAX_PACKET).map_err(|_| Dropped::NotIp)?;
    for piece in 0..plan.count() {
        let mut packet = vec![0; plan.piece_len(piece)];
        plan.write(piece, &mut packet, Checksum::Complete);
        shared.mailbox.packet(packet)?;
    }
    Ok(())
}

/// The kernel refused a size.
pub(super) fn report_too_big(sender: &mut Sender, shared: &Shared) {
    while let Some((remote, len)) = sender.take_too_big() {
        shared.mailbox.notice(Notice::TooBig(remote, len));
    }
}

#[cfg(test)]
mod tests;
