//! `impl Node`: packets of the overlay interface go out, and so does whatever the node itself decides to send.

use std::net::IpAddr;
use std::time::Instant;

use super::command::Step;
use super::event::{Dropped, Event};
use super::hop;
use super::node::Node;
use super::peer::Peer;
use super::session::{KeepaliveKind, Lane, Serial, SessionRef};
use crate::base::{Link, PeerIndex, TrafficClass, TunSink, TxSink};
use crate::envelope::UNRELIABLE;
use crate::ip::icmp;
use crate::ip::packet::IpPacket;
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::{Frame, PART_OVERHEAD, UNRELIABLE_OVERHEAD};
use crate::wire::hello::{COOKIE_PACKET_LEN, CookieKind, encode_cookie_packet};
use crate::wire::sealed::{HEADER, MAX_PLAINTEXT, TAG};

/// Datagrams with reliable frames that one peer may send before the next peer has its turn.
const BURST: usize = 16;

impl Node {
    /// Takes one IP packet of the overlay interface. What cannot be delivered is answered by ICMP into `tun`.
    ///
    /// The packet may stay in an open data packet until [`Node::poll_transmit`] or [`Node::flush`] is called.
    ///
    /// # Errors
    /// Why the packet was dropped; it is counted already.
    pub fn handle_tun(
        &mut self,
        now: Instant,
        packet: &[u8],
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        let Ok(inner) = IpPacket::parse(packet) else {
            self.drops.count(Dropped::NotIp);
            return Err(Dropped::NotIp);
        };
        let Some(index) = self.routes.route(inner.dst()) else {
            // In the name of the destination: Linux takes an IPv4 packet from its own address for a forgery (a martian source), and drops it in silence.
            if let Some(answer) = icmp::unreachable(&inner, inner.dst()) {
                tun.deliver(&answer);
            }
            self.drops.count(Dropped::NoRoute);
            return Err(Dropped::NoRoute);
        };
        if self.peers.get_mut(index).is_some_and(|peer| peer.carries_user_data()) {
            self.send_waiting(now, index, tx);
            self.tell_size(now, index, &inner, tun);
            let clamped = self.clamped(index, &inner);
            let inner = clamped.as_deref().and_then(|copy| IpPacket::parse(copy).ok()).unwrap_or(inner);
            return self.send_ip(now, index, &inner, tx);
        }
        let Some(peer) = self.peers.get_mut(index).filter(|_| !self.stopping) else {
            return Err(Dropped::NoRoute);
        };
        let result = peer.await_session(now, self.rules.channel_for(&inner), packet);
        peer.begin_attempt(now, &mut self.rng, &mut self.events);
        self.settle(now, index);
        result
    }

    /// Sends one IP packet on the session of a peer that carries user data.
    fn send_ip(
        &mut self,
        now: Instant,
        index: PeerIndex,
        inner: &IpPacket<'_>,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        let channel = self.rules.channel_for(inner);
        let Some(peer) = self.peers.get_mut(index) else {
            return Err(Dropped::NoRoute);
        };
        let packet = inner.bytes();
        let result = if let Some(channel) = channel {
            peer.carrier()
                .ok_or(Dropped::NoRoute)
                .and_then(|session| session.channels.send(now, channel, packet).map_err(|_| Dropped::ReliableFull))
        } else {
            self.send_unreliably(now, index, inner, tx)
        };
        if let Some(peer) = self.peers.get_mut(index) {
            match result {
                Ok(()) => {
                    peer.traffic.tx_packets += 1;
                    peer.traffic.tx_bytes += packet.len() as u64;
                    if let Some(session) = peer.sending() {
                        session.on_user_sent(now);
                    }
                }
                Err(reason) => peer.drops.count(reason),
            }
        }
        self.settle(now, index);
        result
    }

    /// As one frame if it fits, else in parts of nearly equal size (PROTOCOL §11).
    fn send_unreliably(
        &mut self,
        now: Instant,
        index: PeerIndex,
        inner: &IpPacket<'_>,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        let (packet, whose) = (inner.bytes(), (index, self.dscp.outer(inner.class())));
        let session = self.peers.get_mut(index).and_then(Peer::sending).ok_or(Dropped::NoRoute)?;
        let room = session.datagram_limit() - DATA_HEADER;
        if UNRELIABLE_OVERHEAD + packet.len() <= room {
            self.pack(now, whose, &Frame::UnreliableData { channel: UNRELIABLE, data: packet }, tx);
            return Ok(());
        }
        if !session.takes_parts() {
            return Err(Dropped::TooLarge);
        }
        let parts = session.splitter.cut(UNRELIABLE, packet, room - PART_OVERHEAD).ok_or(Dropped::TooLarge)?;
        for part in parts {
            self.pack(now, whose, &part, tx);
        }
        Ok(())
    }

    /// Puts a frame into the open data packet, sending the packet before it where it must.
    fn pack(&mut self, now: Instant, whose: (PeerIndex, TrafficClass), frame: &Frame<'_>, tx: &mut impl TxSink) {
        if self.packing.whose().is_some_and(|open| open != whose) {
            self.flush(now, tx);
        }
        let Some(limit) = self.peers.get_mut(whose.0).and_then(Peer::sending).map(|session| session.datagram_limit())
        else {
            return;
        };
        if !self.packing.push(whose, frame, limit) {
            self.flush(now, tx);
            let fits = self.packing.push(whose, frame, limit);
            debug_assert!(fits, "a frame is cut to fit an empty packet");
        }
    }

    /// Sends the open data packet, if there is one. To be called when no more packets are ready.
    pub fn flush(&mut self, now: Instant, tx: &mut impl TxSink) {
        let Some((owner, class)) = self.packing.whose() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(owner) else {
            return;
        };
        let Some(session) = peer.sending() else {
            // The session ended in between: its packet goes with it.
            self.packing.close(0, |_| {});
            return;
        };
        let limit = session.datagram_limit();
        let user = session.scopes().iter().find(|(lane, _)| *lane == Lane::User).map(|&(_, scope)| scope);
        // A reliable channel does not hear of marks, and its records are of no class (PROTOCOL §11.6).
        let user = user.filter(|_| class == self.dscp.own());
        let channels = &mut session.channels;
        let (datagram, len) = self.packing.close(limit, |writer| {
            if let Some(scope) = user {
                channels.fill(now, writer, scope);
            }
        });
        match session.seal(now, Lane::User, datagram, len) {
            Ok(total) => {
                let link = session.path.link().bearing(class);
                peer.traffic.tx_datagrams += 1;
                if hop::is_relayed(link.remote) {
                    let datagram = datagram[..total].to_vec();
                    return self.emit(now, link, &datagram, tx);
                }
                tx.transmit(link, total, |slot| slot.copy_from_slice(&datagram[..total]));
            }
            Err(reason) => peer.drops.count(reason),
        }
    }

    /// Sends what is due: hellos, control records, reliable data, checks, keepalives. To be called after every input until it returns false.
    pub fn poll_transmit(&mut self, now: Instant, tx: &mut impl TxSink) -> bool {
        self.flush(now, tx);
        self.send_posted(now, tx);
        let Some(index) = self.peers.pop_ready() else {
            return false;
        };
        self.tend_contact(now, index);
        self.send_posted(now, tx);
        self.send_mesh_frames(now, index, tx);
        self.send_hellos(now, index, tx);
        let serials: Vec<Serial> = match self.peers.get_mut(index) {
            Some(peer) => peer.sessions.iter().map(|session| session.serial).collect(),
            None => return true,
        };
        let mut more = false;
        for serial in serials {
            let at = SessionRef { peer: index, serial };
            self.send_checks(now, at, tx);
            more |= self.send_reliable(now, at, tx);
            self.send_early(now, at, tx);
            self.send_keepalive(now, at, tx);
        }
        self.send_waiting(now, index, tx);
        self.flush(now, tx);
        self.send_probes(now, index, tx);
        self.peers.settle(now, index);
        if more {
            self.peers.wake(index);
        }
        true
    }

    fn send_hellos(&mut self, now: Instant, index: PeerIndex, tx: &mut impl TxSink) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let endpoints = peer.greetable();
        let Some(attempt) = &mut peer.attempt else {
            return;
        };
        let Some(greeting) = attempt.poll_greeting(now, &self.local, &peer.id, &endpoints, &mut self.rng) else {
            return;
        };
        peer.on_greeted(now, &mut self.events);
        for to in greeting.to {
            self.emit(now, Link::to(to), &greeting.hello, tx);
        }
    }

    /// The sealed pings that choose and hold the paths of the session that is sent on.
    fn send_checks(&mut self, now: Instant, at: SessionRef, tx: &mut impl TxSink) {
        loop {
            let Some(peer) = self.peers.get_mut(at.peer).filter(|peer| peer.active() == Some(at.serial)) else {
                return;
            };
            if let Some(moved) = peer.take_moved() {
                let step = if moved.died { Step::Died(hop::hop(moved.from)) } else { Step::Moved(hop::hop(moved.to)) };
                peer.contact().step(now, step);
                if moved.died {
                    peer.contact().step(now, Step::Moved(hop::hop(moved.to)));
                }
                peer.set_untold();
                peer.on_authentic(at.serial);
                self.events.push(Event::Moved { peer: at.peer });
                self.peers.wake(at.peer);
                continue;
            }
            if let Some((cookie, link)) = peer.poll_echo() {
                self.send_cookie(now, at, link, CookieKind::Ping, &cookie, COOKIE_PACKET_LEN, tx);
                continue;
            }
            let Some(session) = peer.session_mut(at.serial) else { return };
            if session.path.take_news() {
                peer.set_untold();
                self.peers.wake(at.peer);
                self.add_all_relayed_paths(now, at.peer);
                continue;
            }
            let Some(ping) = session.path.poll_ping(now, &mut self.rng) else { return };
            if ping.is_blind && !self.mesh.strangers.take(now, ping.link.remote.ip()) {
                // As if it were lost: whoever is there is named by too many.
                peer.drops.count(Dropped::RateLimited);
                continue;
            }
            let len = if ping.full { MAX_PLAINTEXT } else { COOKIE_PACKET_LEN };
            self.send_cookie(now, at, ping.link, CookieKind::Ping, &ping.cookie, len, tx);
        }
    }

    /// A sealed ping, or the answer to one, followed by zeros up to `len` bytes (PROTOCOL §8.2).
    #[expect(clippy::too_many_arguments, reason = "what is sent, and where it goes")]
    pub(super) fn send_cookie(
        &mut self,
        now: Instant,
        at: SessionRef,
        link: Link,
        kind: CookieKind,
        cookie: &[u8; 32],
        len: usize,
        tx: &mut impl TxSink,
    ) {
        let packet = encode_cookie_packet(kind, cookie);
        let len = len.clamp(packet.len(), self.scratch.len() - HEADER - TAG);
        self.scratch[HEADER..HEADER + packet.len()].copy_from_slice(&packet);
        self.scratch[HEADER + packet.len()..HEADER + len].fill(0);
        self.send_scratch(now, at, Lane::Control, len, Some(link), tx);
    }

    /// Reliable frames and acknowledgements. True if more are due than one turn allows.
    fn send_reliable(&mut self, now: Instant, at: SessionRef, tx: &mut impl TxSink) -> bool {
        for _ in 0..BURST {
            let mut sent = false;
            let Some(session) = self.peers.get_mut(at.peer).and_then(|peer| peer.session_mut(at.serial)) else {
                return false;
            };
            for &(lane, scope) in session.scopes() {
                let Some(session) = self.peers.get_mut(at.peer).and_then(|peer| peer.session_mut(at.serial)) else {
                    return false;
                };
                let end = HEADER + session.reliable_limit();
                let mut writer = DataWriter::new(&mut self.scratch[HEADER..end]);
                if session.channels.fill(now, &mut writer, scope) {
                    let len = writer.finish();
                    self.send_scratch(now, at, lane, len, None, tx);
                    sent = true;
                } else if lane == Lane::Control {
                    session.on_control_sent();
                }
            }
            if !sent {
                return false;
            }
        }
        true
    }

    /// What went another way before, which perhaps led nowhere.
    fn send_early(&mut self, now: Instant, at: SessionRef, tx: &mut impl TxSink) {
        while let Some((link, datagram)) =
            self.peers.get_mut(at.peer).and_then(|peer| peer.session_mut(at.serial)?.poll_early())
        {
            self.emit(now, link, &datagram, tx);
        }
    }

    fn send_keepalive(&mut self, now: Instant, at: SessionRef, tx: &mut impl TxSink) {
        let Some(peer) = self.peers.get_mut(at.peer) else {
            return;
        };
        let interval = peer.keepalive_of(at.serial);
        let Some(session) = peer.session_mut(at.serial) else {
            return;
        };
        let Some(kind) = session.keepalive_due(now, interval) else {
            return;
        };
        if kind == KeepaliveKind::Configured {
            session.mark_used();
        }
        let len = DataWriter::new(&mut self.scratch[HEADER..HEADER + DATA_HEADER]).finish();
        self.send_scratch(now, at, Lane::Control, len, None, tx);
    }

    /// Packets that waited for a session.
    fn send_waiting(&mut self, now: Instant, index: PeerIndex, tx: &mut impl TxSink) {
        let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.carries_user_data()) else {
            return;
        };
        // What earlier sessions did not deliver is older than what waits.
        peer.redeliver(now);
        while let Some(packet) = self.peers.get_mut(index).and_then(|peer| peer.pop_waiting()) {
            if let Ok(inner) = IpPacket::parse(&packet) {
                // A drop is counted where it happens.
                let _ = self.send_ip(now, index, &inner, tx);
            }
        }
    }

    /// Seals what stands in the scratch buffer and sends it, along the session's path unless another link is given.
    pub(super) fn send_scratch(
        &mut self,
        now: Instant,
        at: SessionRef,
        lane: Lane,
        len: usize,
        link: Option<Link>,
        tx: &mut impl TxSink,
    ) {
        let Some(peer) = self.peers.get_mut(at.peer) else {
            return;
        };
        let Some(session) = peer.session_mut(at.serial) else {
            return;
        };
        debug_assert!(HEADER + len + TAG <= self.scratch.len());
        match session.seal(now, lane, &mut self.scratch, len) {
            Ok(total) => {
                let link = link.unwrap_or_else(|| session.path.link());
                peer.traffic.tx_datagrams += 1;
                if hop::is_relayed(link.remote) {
                    let datagram = self.scratch[..total].to_vec();
                    return self.emit(now, link, &datagram, tx);
                }
                let datagram = &self.scratch[..total];
                tx.transmit(link, total, |slot| slot.copy_from_slice(datagram));
            }
            Err(reason) => peer.drops.count(reason),
        }
    }

    /// Sends a whole datagram, directly or through a relay.
    pub(super) fn emit(&mut self, now: Instant, link: Link, datagram: &[u8], tx: &mut impl TxSink) {
        match hop::through(link.remote) {
            Some((relay, tag)) => self.send_relayed(now, relay, tag, datagram, tx),
            None => {
                self.mesh.on_spoken(now);
                tx.transmit(link, datagram.len(), |slot| slot.copy_from_slice(datagram));
            }
        }
    }

    /// An address of this node's overlay, for tests and status.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}
