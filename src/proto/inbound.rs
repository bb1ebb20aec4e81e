//! `impl Node`: a datagram comes in and becomes a hello, a retry, an answer, a ping, or a sealed packet with frames.

use std::time::Instant;

use super::delivery::Delivery;
use super::event::{Dropped, Ended, Event};
use super::handshake::responder::{self, Proof};
use super::hop;
use super::node::Node;
use super::peer::Peer;
use super::session::{Context, Opening, Outcome, Serial, Session, SessionRef, Which};
use crate::base::{Ecn, Link, PeerIndex, TunSink, TxSink};
use crate::crypto::equal;
use crate::envelope::Publication;
use crate::proto::handshake::initiator::split;
use crate::wire::data::Frames;
use crate::wire::hello::{CookieKind, Hello, encode_cookie_packet};
use crate::wire::packet::Packet;
use crate::wire::sealed::{HEADER, MAX_PLAINTEXT, SealedHeader};

/// Half-open sessions of all peers together (PROTOCOL §4.4).
const MAX_HALF_OPEN: usize = 1024;
/// Epochs that may share a session index: more than two is already beyond all probability.
const MAX_OWNERS: usize = 4;

impl Node {
    /// Takes one datagram of the underlay, which it decrypts in place. What is inside goes to `tun`, what must be answered at once to `tx`.
    ///
    /// # Errors
    /// Why the datagram was dropped; it is counted already. A dropped datagram has changed nothing else.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        link: Link,
        datagram: &mut [u8],
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        if hop::is_relayed(link.remote) {
            // Such an address is this node's own invention.
            self.drops.count(Dropped::Ignored);
            return Err(Dropped::Ignored);
        }
        let result = self.take_datagram(now, link, datagram, tx, tun);
        if let Err(reason) = result {
            self.drops.count(reason);
        }
        result
    }

    /// The same for a datagram that may have come through a relay.
    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        link: Link,
        datagram: &mut [u8],
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        let marked = link;
        // What is answered, and where a path leads, does not bear the mark of what came.
        let link = marked.unmarked();
        match Packet::decode(datagram) {
            Ok(Packet::Sealed(header)) => self.handle_sealed(now, marked, header, datagram, tx, tun),
            Ok(Packet::Hello(hello)) => self.handle_hello(now, link, &hello, tx),
            Ok(Packet::HelloAnswer(answer)) => self.handle_answer(now, link, &answer),
            Ok(Packet::HelloRetry(cookie)) => self.handle_retry(now, link, cookie),
            Ok(Packet::Ping(cookie)) => self.handle_ping(now, link, cookie, tx),
            Ok(Packet::PingAnswer(_)) => Err(Dropped::Unexpected),
            Ok(Packet::Data(_)) | Err(_) => Err(Dropped::Malformed),
        }
    }

    /// PROTOCOL §4.1 and §4.3, step by step.
    fn handle_hello(
        &mut self,
        now: Instant,
        link: Link,
        hello: &Hello<'_>,
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        if self.stopping {
            return Err(Dropped::Ignored);
        }
        match self.responder.check_cookie(now, link.remote, hello, &self.local)? {
            Proof::Cookie => {}
            Proof::Retry(retry) => {
                self.emit(now, link, &retry, tx);
                return Ok(());
            }
        }
        let peer = self.peers.by_id(&hello.identity()).ok_or(Dropped::UnknownPeer)?;
        if let Some(answer) = peer.stored_answer(link, hello.bytes()) {
            let answer = *answer;
            self.emit(now, link, &answer, tx);
            return Ok(());
        }
        peer.refuse_recorded(hello.ephemeral())?;
        self.responder.admit(now, link.remote)?;
        responder::verify_hello(&self.local, hello)?;
        peer.may_answer_hello(now)?;
        let accepted = responder::answer(&self.local, hello, &mut self.rng)?;
        let index = peer.index;
        self.emit(now, link, &accepted.answer, tx);
        let serial = self.next_serial();
        let opening = Opening::Hello(hello.bytes());
        let session = Session::offered(now, serial, link, opening, accepted, &self.local, &mut self.rng);
        self.add_half_open(now, index, session);
        Ok(())
    }

    /// Half-open sessions are bounded over all peers; the oldest makes room.
    pub(super) fn add_half_open(&mut self, now: Instant, index: PeerIndex, session: Session) {
        self.half_open.push_back((index, session.serial));
        if self.half_open.len() > MAX_HALF_OPEN
            && let Some((oldest, serial)) = self.half_open.pop_front()
            && let Some(peer) = self.peers.get_mut(oldest)
            && peer.session(serial).is_some_and(Session::is_half_open)
        {
            peer.remove(now, serial);
            self.peers.settle(now, oldest);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.add_half_open(session);
        }
        self.settle(now, index);
    }

    /// PROTOCOL §4.2. The retry names nobody: the address tells whose it may be, its tag whose it is.
    fn handle_retry(&mut self, now: Instant, link: Link, cookie: &[u8; 32]) -> Result<(), Dropped> {
        let mut result = Err(Dropped::Unexpected);
        for index in self.peers.greeted_at(link.remote) {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let Some(attempt) = &mut peer.attempt else {
                continue;
            };
            result = attempt.on_retry(now, link.remote, cookie, &self.local, &peer.id);
            if result.is_ok() {
                self.settle(now, index);
                break;
            }
        }
        result
    }

    /// PROTOCOL §4.4, last paragraph.
    fn handle_answer(&mut self, now: Instant, link: Link, answer: &Hello<'_>) -> Result<(), Dropped> {
        let peer = self.peers.by_id(&answer.identity()).ok_or(Dropped::UnknownPeer)?;
        let greeted = peer.attempt.as_ref().is_some_and(|attempt| attempt.awaits_answer_from(link.remote));
        if !greeted && peer.is_seeking() {
            return self.handle_introduced_answer(now, link, answer);
        }
        let attempt = peer.attempt.as_mut().ok_or(Dropped::Unexpected)?;
        attempt.may_examine(now, link.remote)?;
        let answered = match attempt.verify_answer(now, &self.local, &peer.id, answer) {
            Ok(answered) => answered,
            // It may be greeted there, and be introduced as well.
            Err(_) if peer.is_seeking() && self.handle_introduced_answer(now, link, answer).is_ok() => return Ok(()),
            Err(reason) => return Err(reason),
        };
        let index = peer.index;
        let serial = self.next_serial();
        // Without a local address: if this host's address changes, its datagrams leave from the new one.
        let session =
            Session::initiated(now, serial, Link::to(link.remote), answered.epoch, answered.rtt, &mut self.rng);
        if let Some(peer) = self.peers.get_mut(index) {
            peer.add_initiated(now, session);
        }
        self.settle(now, index);
        Ok(())
    }

    /// PROTOCOL §8.4.
    fn handle_ping(
        &mut self,
        now: Instant,
        link: Link,
        cookie: &[u8; 32],
        tx: &mut impl TxSink,
    ) -> Result<(), Dropped> {
        if self.on_token(now, link, cookie) || self.on_measured(now, link, cookie) || self.on_sprayed(now, link, cookie)
        {
            return Ok(());
        }
        let (n, mac) = split(cookie);
        if !equal(&self.local.net.ping_mac(&self.local.id, &n), &mac) {
            return Err(Dropped::BadMac);
        }
        if !self.pings.take(now, link.remote.ip()) {
            return Err(Dropped::RateLimited);
        }
        let mut pong = *cookie;
        pong[16..].copy_from_slice(&self.local.net.pong_mac(&self.local.id, &n));
        let packet = encode_cookie_packet(CookieKind::PingAnswer, &pong);
        self.emit(now, link, &packet, tx);
        Ok(())
    }

    /// PROTOCOL §6.
    fn handle_sealed(
        &mut self,
        now: Instant,
        link: Link,
        header: SealedHeader,
        datagram: &mut [u8],
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        let mut owners = [None; MAX_OWNERS];
        for (slot, owner) in owners.iter_mut().zip(self.peers.owners(header.index)) {
            *slot = Some(owner);
        }
        let count = owners.iter().flatten().count();
        let mut result = Err(Dropped::UnknownSession);
        for (tried, &(index, serial, which)) in owners.iter().flatten().enumerate() {
            // A failed opening destroys the bytes, so all but the last of several owners get a copy.
            let mut copy = if tried + 1 < count { Some(datagram.to_vec()) } else { None };
            let bytes = copy.as_deref_mut().unwrap_or(datagram);
            if !self.is_behind(link, index) {
                result = Err(Dropped::Ignored);
                continue;
            }
            let session = self.peers.get_mut(index).and_then(|peer| peer.session_mut(serial));
            result = session.map_or(Err(Dropped::UnknownSession), |session| session.open(now, which, &header, bytes));
            if let Ok((opened, epoch)) = result {
                let at = SessionRef { peer: index, serial };
                let (highest, len) = (opened.highest, bytes.len());
                let (link, mark) = (link.unmarked(), link.class.ecn());
                let arrival = Arrival { now, link, mark, at, which, epoch, highest, len };
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.traffic.rx_datagrams += 1;
                }
                let plaintext = bytes.get(HEADER..HEADER + opened.len).unwrap_or_default();
                self.handle_authentic(&arrival, plaintext, tx, tun);
                return Ok(());
            }
        }
        result.map(|_| ())
    }

    /// Takes what another thread has opened and may not judge: control frames, reliable data, parts, path checks.
    ///
    /// `session` is what was published with the key, and `highest` what it said when it opened.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        from: OpenedElsewhere,
        plaintext: &[u8],
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) {
        let OpenedElsewhere { peer, session, link, highest, len } = from;
        let at = SessionRef { peer, serial: Serial(session) };
        let (link, mark) = (link.unmarked(), link.class.ecn());
        // What is published is never of epoch 0.
        let arrival = Arrival { now, link, mark, at, which: Which::Current, epoch: 1, highest, len };
        self.handle_authentic(&arrival, plaintext, tx, tun);
    }

    /// Another thread carries bytes on a session of this peer, after a pause.
    pub fn handle_awake(&mut self, now: Instant, peer: PeerIndex) {
        if let Some(known) = self.peers.get_mut(peer) {
            let awake = known.sessions.iter_mut().filter(|session| session.activity.is_awake());
            awake.for_each(|session| session.on_awake(now));
        }
        self.settle(now, peer);
    }

    /// The next peer of which something else is published than before.
    pub fn poll_published(&mut self) -> Option<Publication> {
        let index = self.peers.pop_published()?;
        let published = self.peers.get_mut(index).map(|peer| peer.published()).unwrap_or_default();
        Some((index, published))
    }

    /// A datagram that a peer has sealed: from here on it may change things.
    fn handle_authentic(&mut self, arrival: &Arrival, plaintext: &[u8], tx: &mut impl TxSink, tun: &mut impl TunSink) {
        let Arrival { now, link, at, which, highest, .. } = *arrival;
        let SessionRef { peer: index, serial } = at;
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(session) = peer.session_mut(serial) else {
            return;
        };
        let packet = Packet::decode_inside(plaintext);
        let is_ping = matches!(packet, Ok(Packet::Ping(_) | Packet::PingAnswer(_)));
        let says_where = highest && session.path.follows(is_ping);
        if session.on_authentic(now, which, says_where, link) {
            peer.on_confirmed(now, serial, &self.local, &mut self.events);
            self.add_all_relayed_paths(now, index);
        }
        self.on_introduced(index, serial);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.on_authentic(serial);
        match packet {
            Ok(Packet::Data(frames)) => self.handle_frames(arrival, frames, tx, tun),
            Ok(Packet::Ping(cookie)) => {
                let Some(session) = peer.session_mut(serial) else {
                    return;
                };
                session.on_pinged(now);
                session.path.on_ping(now, link);
                if session.path.may_answer(now) {
                    self.send_cookie(now, at, link, CookieKind::PingAnswer, cookie, plaintext.len(), tx);
                } else {
                    peer.drops.count(Dropped::RateLimited);
                }
            }
            Ok(Packet::PingAnswer(cookie)) => {
                if peer
                    .session_mut(serial)
                    .is_some_and(|session| session.on_path_answer(now, link, cookie, plaintext.len() >= MAX_PLAINTEXT))
                {
                    peer.on_authentic(serial);
                } else if let Some((number, rtt)) = peer.on_echo(now, cookie) {
                    self.events.push(Event::Pong { peer: index, number, rtt, hop: hop::hop(link.remote) });
                } else {
                    peer.drops.count(Dropped::Unexpected);
                }
            }
            Ok(Packet::Hello(_) | Packet::HelloAnswer(_) | Packet::HelloRetry(_) | Packet::Sealed(_)) | Err(_) => {
                peer.drops.count(Dropped::Malformed)
            }
        }
        self.settle(now, index);
    }

    /// The frames of one data packet, then the records they completed.
    fn handle_frames(&mut self, arrival: &Arrival, frames: Frames<'_>, tx: &mut impl TxSink, tun: &mut impl TunSink) {
        let Arrival { now, link, mark, at, epoch, .. } = *arrival;
        let SessionRef { peer: index, serial } = at;
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Peer { sessions, traffic, drops, .. } = peer;
        let Some(session) = sessions.iter_mut().find(|session| session.serial == serial) else {
            return;
        };
        let mtu = session.inner_mtu();
        let alone = (frames.remaining() == 1).then_some(arrival.len);
        let (routes, addresses) = (&self.routes, &self.addresses);
        let mesh = Vec::new();
        let mut delivery = Delivery { index, mark, routes, addresses, traffic, drops, tun, mtu, alone, mesh };
        let mut ended = None;
        let mut frames = frames;
        for frame in frames.by_ref() {
            match frame {
                Ok(frame) => {
                    if let Err(end) = delivery.handle_frame(now, session, epoch, &frame) {
                        ended = Some(end);
                        break;
                    }
                }
                Err(_) => delivery.drops.count(Dropped::BadFrame),
            }
        }
        delivery.drops.count_many(Dropped::BadFrame, u64::from(frames.remaining()).saturating_sub(1));
        let mut control = Vec::new();
        while let Some((channel, record)) = session.channels.poll_record() {
            if channel == 0 {
                control.push(record);
            } else {
                // No datagram stands for a record, so no mark does.
                delivery.deliver(&record, Ecn::NotEct);
            }
        }
        let mesh = delivery.mesh;
        if ended.is_none() {
            ended = self.handle_records(now, at, &control).err();
        }
        for frame in mesh {
            if let Err(reason) = self.handle_mesh_frame(now, index, link, frame, tx, tun)
                && let Some(peer) = self.peers.get_mut(index)
            {
                peer.drops.count(reason);
            }
        }
        if let Some(reason) = ended {
            self.end_session(now, at, reason);
        }
    }

    /// Control records, in order (PROTOCOL §9.3). An error ends the session.
    fn handle_records(&mut self, now: Instant, at: SessionRef, records: &[Vec<u8>]) -> Result<(), Ended> {
        let SessionRef { peer: index, serial } = at;
        for record in records {
            let Some(peer) = self.peers.get_mut(index) else {
                return Ok(());
            };
            let id = peer.id;
            let Some(session) = peer.session_mut(serial) else {
                return Ok(());
            };
            if session.is_confirmed() && session.takes_mesh() && self.handle_mesh_record(now, index, record) {
                continue;
            }
            let Some(peer) = self.peers.get_mut(index) else {
                return Ok(());
            };
            let Some(session) = peer.session_mut(serial) else {
                return Ok(());
            };
            let mut context = Context { now, local: &self.local, peer: &id, rng: &mut self.rng };
            match session.on_record(record, &mut context)? {
                Outcome::Handled => {}
                Outcome::Confirmed(ephemeral) => {
                    peer.on_finished(&ephemeral);
                    peer.on_confirmed(now, serial, &self.local, &mut self.events);
                    self.add_all_relayed_paths(now, index);
                }
                Outcome::Superseded => peer.on_superseded(now, serial),
                Outcome::Ignored => peer.drops.count(Dropped::Ignored),
            }
        }
        Ok(())
    }

    fn end_session(&mut self, now: Instant, at: SessionRef, reason: Ended) {
        if let Some(peer) = self.peers.get_mut(at.peer) {
            let disconnected = match reason {
                Ended::PeerStopped => peer.remove_up_to(now, at.serial),
                Ended::Expired | Ended::Idle | Ended::ClosedByPeer | Ended::Silent | Ended::Fault => {
                    peer.remove(now, at.serial)
                }
            };
            if disconnected {
                self.events.push(Event::Disconnected { peer: at.peer, reason });
            }
        }
        self.settle(now, at.peer);
    }
}

/// Where and when a sealed packet came in.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    now: Instant,
    link: Link,
    /// That of the datagram.
    mark: Ecn,
    at: SessionRef,
    which: Which,
    /// Number of the epoch that opened it.
    epoch: u64,
    /// No packet with a higher counter was seen in this epoch.
    highest: bool,
    /// Length of the datagram.
    len: usize,
}

/// What another thread says of a datagram that it opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedElsewhere {
    /// Who sealed it.
    pub peer: PeerIndex,
    /// Which session of the peer's, as published with the key.
    pub session: u64,
    /// How it came.
    pub link: Link,
    /// No packet with a higher counter was seen in its epoch.
    pub highest: bool,
    /// Length of the whole datagram; 0 if it held more frames than are handed over.
    pub len: usize,
}
