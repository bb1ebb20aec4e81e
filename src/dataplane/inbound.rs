//! From the underlay to the interface: receive, open, check, put together, write.

use std::io::IoSlice;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Shared;
use super::codel::Codel;
use super::mailbox::OpenedMail;
use super::table::{Owner, View};
use crate::base::{Dropped, Ecn, Link, PeerIndex, TrafficClass};
use crate::envelope::{FIRST_UNRELIABLE, Opening, Traffic, UNRELIABLE};
use crate::io::offload::Coalescer;
use crate::io::tun::Queue;
use crate::io::udp::Receiver;
use crate::ip::{IpPacket, ecn, mss};
use crate::wire::Frame;
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::UNRELIABLE_OVERHEAD;
use crate::wire::packet::Packet;
use crate::wire::sealed::{HEADER, SealedHeader, TAG};

/// Datagrams of one peer in one train: room for them is made at once.
const TRAIN: usize = 64;

/// How long datagrams may wait in the socket, and for how long longer than that. All flows of a peer wait there in one line, so it is far shorter than the
/// round trip of a distant peer: only when this thread cannot keep up does the line stand.
const TARGET: Duration = Duration::from_micros(500);
const INTERVAL: Duration = Duration::from_millis(10);

/// What one system call must yield to be part of a line, in bytes.
const LINE: usize = 64 << 10;

/// Datagrams from this length on are part of what makes the line long, in bytes.
const BULK: usize = 512;

/// The receiving side of a data thread.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Who sent the last packet, and from which address, as of which table: permitted.
    permitted: Option<(u64, PeerIndex, IpAddr)>,
    /// How long datagrams wait in the socket.
    codel: Codel,
}

/// Datagrams of one epoch that came one after another.
struct Run<'view, 'batch> {
    owner: &'view Owner,
    opening: Opening<'view>,
    opened: Vec<Plaintext<'batch>>,
    /// Where one of them came from, if that interests the control thread.
    elsewhere: Option<Link>,
}

/// A datagram that opened.
struct Plaintext<'batch> {
    counter: u64,
    link: Link,
    highest: bool,
    bytes: &'batch mut [u8],
}

/// What a run held.
#[derive(Default)]
struct Received {
    traffic: Traffic,
    /// The peer waits for a sign of life.
    content: bool,
}

/// Where what was received goes.
pub(super) struct Way<'a> {
    pub(super) now: Instant,
    /// The same moment by the wall clock.
    pub(super) since_epoch: Duration,
    pub(super) shared: &'a Shared,
    pub(super) queue: &'a Queue,
}

impl Inbound {
    pub(super) const fn new() -> Self {
        Self { permitted: None, codel: Codel::new(TARGET, INTERVAL) }
    }

    /// Carries what one system call yields. Returns how many bytes that were.
    pub(super) fn carry(&mut self, receiver: &mut Receiver, way: &Way<'_>) -> usize {
        let view = way.shared.table.read();
        let mut run: Option<Run<'_, '_>> = None;
        let (arrival, datagrams) = receiver.receive();
        let waited = way.since_epoch.saturating_sub(arrival.first.unwrap_or(way.since_epoch));
        // A few that have waited long are no line: this thread had no processor.
        let mut congested = self.codel.on_leave(way.now, waited, arrival.bytes < LINE);
        for (mut link, datagram) in datagrams {
            if congested && datagram.len() >= BULK {
                // As a router would have marked it. What the packets in it make of that is RFC 6040's.
                link = link.bearing(TrafficClass::new(link.class.dscp(), Ecn::Ce));
                congested = false;
            }
            let Ok(Packet::Sealed(header)) = Packet::decode(datagram) else {
                leave_stranger(way.shared, link, datagram);
                continue;
            };
            if run.as_ref().is_none_or(|run| run.owner.receiving.index != header.index) {
                if let Some(done) = run.take() {
                    self.finish(&view, done, way);
                }
                run = view.owner(header.index).map(Run::new);
            }
            match &mut run {
                Some(run) => run.open(way, &header, link, datagram),
                None => leave_stranger(way.shared, link, datagram),
            }
        }
        if let Some(done) = run {
            self.finish(&view, done, way);
        }
        arrival.bytes
    }

    /// Hands on what a run of datagrams held.
    fn finish(&mut self, view: &View, run: Run<'_, '_>, way: &Way<'_>) {
        let Run { owner, opening, mut opened, elsewhere } = run;
        drop(opening);
        if opened.is_empty() {
            return;
        }
        // The order in which they were sealed: what the road has changed would break up trains.
        if !opened.is_sorted_by_key(|plaintext| plaintext.counter) {
            opened.sort_by_key(|plaintext| plaintext.counter);
        }
        let traffic = Traffic { rx_datagrams: opened.len() as u64, ..Traffic::default() };
        let mut received = Received { traffic, content: false };
        let mut write = |slices: &[IoSlice<'_>]| way.queue.write(slices, &way.shared.tun);
        let mut coalescer = Coalescer::new(way.shared.offload);
        for plaintext in opened {
            self.packets(view, owner, plaintext, way.shared, &mut received, |packet, is_partial| {
                coalescer.push(packet, is_partial, &mut write).is_ok()
            });
        }
        coalescer.finish(&mut write);
        owner.receiving.counters.add(&received.traffic);
        let activity = &owner.receiving.activity;
        activity.on_received(way.now);
        if received.content {
            activity.on_content(way.now);
            activity.on_user_received(way.now);
        }
        if activity.must_wake() {
            way.shared.mailbox.awake(owner.peer);
        }
        if let Some(link) = elsewhere {
            // A packet without frames says only how it came.
            let mut plaintext = vec![0; DATA_HEADER];
            DataWriter::new(&mut plaintext).finish();
            leave_opened(way.shared, owner, link, true, HEADER + DATA_HEADER + TAG, plaintext);
        }
    }

    /// Gives the IP packets of one datagram to `each`, and everything else in it to the control thread.
    fn packets<'batch>(
        &mut self,
        view: &View,
        owner: &Owner,
        plaintext: Plaintext<'batch>,
        shared: &Shared,
        received: &mut Received,
        mut each: impl FnMut(IpPacket<'batch>, bool) -> bool,
    ) {
        let Plaintext { link, highest, bytes, .. } = plaintext;
        let len = HEADER + bytes.len() + TAG;
        let counters = &owner.receiving.counters;
        let outer = link.class.ecn();
        if outer != Ecn::NotEct {
            mark_packets(bytes, outer);
        }
        let bytes: &'batch [u8] = bytes;
        let Ok(Packet::Data(mut frames)) = Packet::decode(bytes) else {
            // Path checks, and what is malformed.
            leave_opened(shared, owner, link, highest, len, bytes.to_vec());
            return;
        };
        let inner_mtu = view.sending(owner.peer).and_then(|sending| sending.inner_mtu);
        let mut packet = |data: &'batch [u8], is_partial| {
            received.content = true;
            let handed_on = self.admit(view, owner.peer, data, outer, shared).and_then(|inner| {
                if inner_mtu.is_some_and(|mtu| mss::clamp(&inner, mtu).is_some()) {
                    // It opens a connection, and announces more than the path carries: the control thread corrects it, and counts it.
                    leave_opened(shared, owner, link, highest, len, alone(data, is_partial));
                    return Ok(false);
                }
                if each(inner, is_partial) { Ok(true) } else { Err(Dropped::BadInner) }
            });
            match handed_on {
                Ok(true) => {
                    received.traffic.rx_packets += 1;
                    received.traffic.rx_bytes += data.len() as u64;
                }
                Ok(false) => {}
                Err(reason) => counters.count_drop(reason),
            }
        };
        let (all, mut others) = (frames.remaining(), 0);
        for frame in frames.by_ref() {
            match frame {
                Ok(Frame::UnreliableData { channel, data }) if channel >= FIRST_UNRELIABLE => packet(data, false),
                Ok(Frame::PartialData { channel, data }) if channel >= FIRST_UNRELIABLE => packet(data, true),
                Ok(_) => others += 1,
                Err(_) => counters.count_drop(Dropped::BadFrame),
            }
        }
        counters.count_drops(Dropped::BadFrame, u64::from(frames.remaining()).saturating_sub(1));
        if others > 0 {
            let len = if others == all { len } else { 0 };
            leave_opened(shared, owner, link, highest, len, without_packets(bytes));
        }
    }

    /// PROTOCOL §11.3.
    fn admit<'a>(
        &mut self,
        view: &View,
        peer: PeerIndex,
        packet: &'a [u8],
        outer: Ecn,
        shared: &Shared,
    ) -> Result<IpPacket<'a>, Dropped> {
        let inner = IpPacket::parse(packet).map_err(|_| Dropped::BadInner)?;
        let source = inner.src();
        if self.permitted != Some((view.generation, peer, source)) {
            // An own address may lie in a peer's wider prefix and is still nobody else's.
            if !view.permits(peer, source) || shared.addresses.contains(&source) {
                return Err(Dropped::SpoofedSource);
            }
            self.permitted = Some((view.generation, peer, source));
        }
        // What can bear the mark has it by now.
        if outer == Ecn::Ce && inner.ecn() != Ecn::Ce { Err(Dropped::Congestion) } else { Ok(inner) }
    }
}

impl<'view, 'batch> Run<'view, 'batch> {
    fn new(owner: &'view Owner) -> Self {
        let opening = owner.receiving.opener.lock();
        Self { owner, opening, opened: Vec::with_capacity(TRAIN), elsewhere: None }
    }

    fn open(&mut self, way: &Way<'_>, header: &SealedHeader, link: Link, datagram: &'batch mut [u8]) {
        match self.opening.open(way.now, header, datagram) {
            Ok(opened) => {
                if opened.highest && self.owner.receiving.is_elsewhere(link) {
                    self.elsewhere = Some(link);
                }
                let bytes = datagram.get_mut(HEADER..HEADER + opened.len).unwrap_or_default();
                self.opened.push(Plaintext { counter: header.counter, link, highest: opened.highest, bytes });
            }
            // Whoever sent it has proven nothing, so it is nobody's.
            Err(reason) => way.shared.drops.count(reason),
        }
    }
}

/// The mark of the datagram passes to the packets in it (RFC 6040).
fn mark_packets(plaintext: &mut [u8], outer: Ecn) {
    let start = plaintext.as_ptr() as usize;
    let mut at = [(0, 0); u8::MAX as usize];
    let mut count = 0;
    if let Ok(Packet::Data(frames)) = Packet::decode(plaintext) {
        for packet in frames.map_while(Result::ok).filter_map(packet_of).take(at.len()) {
            at[count] = (packet.as_ptr() as usize - start, packet.len());
            count += 1;
        }
    }
    for (offset, len) in at.into_iter().take(count) {
        let Some(packet) = plaintext.get_mut(offset..offset + len) else { continue };
        let Ok(inner) = IpPacket::parse(packet).map(|inner| inner.ecn()) else { continue };
        if let Some(marked) = ecn::decapsulate(outer, inner).filter(|marked| *marked != inner) {
            ecn::mark(packet, marked);
        }
    }
}

fn packet_of(frame: Frame<'_>) -> Option<&[u8]> {
    match frame {
        Frame::UnreliableData { channel, data } | Frame::PartialData { channel, data }
            if channel >= FIRST_UNRELIABLE =>
        {
            Some(data)
        }
        Frame::UnreliableData { .. }
        | Frame::PartialData { .. }
        | Frame::ReliableData { .. }
        | Frame::PeersListRequest { .. }
        | Frame::IntroductionRequest { .. }
        | Frame::Introduction { .. }
        | Frame::IntroductionAck { .. }
        | Frame::Part { .. }
        | Frame::Probe { .. }
        | Frame::ProbeAnswer { .. }
        | Frame::Relayed { .. }
        | Frame::RelayedPart { .. } => None,
    }
}

/// A data packet with one IP packet in it.
fn alone(packet: &[u8], is_partial: bool) -> Vec<u8> {
    let mut plaintext = vec![0; DATA_HEADER + UNRELIABLE_OVERHEAD + packet.len()];
    let mut writer = DataWriter::new(&mut plaintext);
    if let Ok(room) = writer.packet(UNRELIABLE, is_partial, packet.len()) {
        room.copy_from_slice(packet);
    }
    writer.finish();
    plaintext
}

/// The same data packet, but for the IP packets that were taken out of it.
fn without_packets(plaintext: &[u8]) -> Vec<u8> {
    let mut rest = vec![0; plaintext.len()];
    let mut writer = DataWriter::new(&mut rest);
    if let Ok(Packet::Data(frames)) = Packet::decode(plaintext) {
        for frame in frames.map_while(Result::ok).filter(|frame| packet_of(*frame).is_none()) {
            // There is room for a part of what was there.
            let _ = writer.push(&frame);
        }
    }
    let len = writer.finish();
    rest.truncate(len);
    rest
}

fn leave_opened(shared: &Shared, owner: &Owner, link: Link, highest: bool, len: usize, plaintext: Vec<u8>) {
    let mail = OpenedMail { peer: owner.peer, session: owner.receiving.session, link, highest, len, plaintext };
    if let Err(reason) = shared.mailbox.opened(mail) {
        owner.receiving.counters.count_drop(reason);
    }
}

fn leave_stranger(shared: &Shared, link: Link, datagram: &[u8]) {
    if let Err(reason) = shared.mailbox.stranger(link, datagram) {
        shared.drops.count(reason);
    }
}

#[cfg(test)]
mod tests;
