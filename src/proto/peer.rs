//! One peer: the attempt to reach it, its sessions, and what waits for it (PROTOCOL §7, §8.3).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Rate};
use super::command::{CandidateKind, Hop, PathStatus, PeerConfig, PeerStatus, SessionStatus};
use super::event::{Dropped, Drops, Ended, Event};
use super::fitting::TOO_BIG;
use super::handshake::Local;
use super::handshake::initiator::Initiator;
use super::mtu::Probe;
use super::session::{Serial, Session};
use super::waiting::{Backlog, Waiting};
use crate::base::{Link, PeerId, PeerIndex, Rng, SessionIndex};
use crate::envelope::{Counters, Traffic};
use crate::wire::hello::HELLO_LEN;
use crate::wire::record::CloseReason;

/// Silence after sending, before a new handshake (PROTOCOL §8.3).
const UNANSWERED: Duration = Duration::from_secs(15);
/// Hellos of one identity that are answered (PROTOCOL §4.3, step 7).
const HELLOS: Rate = Rate { per_second: 1, burst: 10 };
/// Confirmed sessions of one peer: the one sent on, and one that lingers.
const MAX_CONFIRMED: usize = 2;
/// Hellos of one identity that are remembered. A cookie lasts 120 s at most, and more attempts than these in that time are rare.
const MAX_ANSWERED: usize = 4;
/// Transmissions of an attempt after which names are looked up again, and then every so many.
const RESOLVE_EVERY: u32 = 3;
/// Names of one peer are not asked for more often.
const RESOLVE_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) index: PeerIndex,
    pub(crate) id: PeerId,
    endpoints: Vec<SocketAddr>,
    keepalive: Option<Duration>,
    /// Where the last confirmed session had it: greeted besides the configured addresses.
    last_endpoint: Option<SocketAddr>,
    pub(crate) attempt: Option<Initiator>,
    stopped: bool,
    pub(crate) sessions: Vec<Session>,
    /// The session that is sent on.
    active: Option<Serial>,
    pub(crate) waiting: Waiting,
    /// Packets for reliable channels: what ended sessions have not delivered, and what came when there was none.
    backlog: Backlog,
    /// On sessions that have ended.
    last_received: Option<Instant>,
    hellos: Bucket,
    /// The attempts answered last, by their first answer, the newest first.
    answered: Vec<Answered>,
    pub(crate) traffic: Traffic,
    pub(crate) drops: Drops,
    /// The same of other threads.
    pub(crate) counters: Arc<Counters>,
    /// See `publish`.
    pub(super) published_stamp: u64,
    /// ICMP errors about the size of packets.
    sizes_told: Bucket,
    /// Indexes and addresses under which the table finds this peer.
    pub(crate) registered: Vec<SessionIndex>,
    pub(crate) registered_greeted: Vec<SocketAddr>,
    sessions_removed: bool,
    /// Names were asked for; not again before this.
    resolve_after: Option<Instant>,
    /// Where the node's schedule has it.
    pub(crate) scheduled: Option<Instant>,
    /// It stands in the node's queue of peers that may have something to send.
    pub(crate) ready: bool,
}

/// An attempt of the peer that was answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    ephemeral: [u8; 32],
    /// It led to a confirmed session: its hellos have served their purpose.
    finished: bool,
}

impl Peer {
    pub(crate) fn new(index: PeerIndex, config: &PeerConfig) -> Self {
        Self {
            index,
            id: config.id,
            endpoints: config.endpoints.clone(),
            keepalive: config.keepalive,
            last_endpoint: None,
            attempt: None,
            stopped: false,
            sessions: Vec::new(),
            active: None,
            waiting: Waiting::default(),
            backlog: Backlog::default(),
            last_received: None,
            hellos: Bucket::default(),
            answered: Vec::new(),
            traffic: Traffic::default(),
            drops: Drops::default(),
            counters: Arc::default(),
            published_stamp: 0,
            sizes_told: Bucket::default(),
            registered: Vec::new(),
            registered_greeted: Vec::new(),
            sessions_removed: false,
            resolve_after: None,
            scheduled: None,
            ready: false,
        }
    }

    /// Starts to greet the peer, unless that is under way, or has led to a session that is about to be confirmed, or its address is unknown.
    pub(crate) fn begin_attempt(&mut self, now: Instant, rng: &mut Rng, events: &mut impl Extend<Event>) {
        if self.stopped || self.attempt.is_some() || self.sessions.iter().any(Session::is_pending) {
            return;
        }
        if self.greetable().is_empty() {
            self.ask_for_addresses(now, events);
            return;
        }
        self.attempt = Some(Initiator::new(now, rng));
    }

    /// Ends the attempt and begins no other: the node is shutting down.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.attempt = None;
    }

    /// The addresses to greet: where it was last, then the configured ones.
    pub(crate) fn greetable(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.last_endpoint.into_iter().collect();
        all.extend(self.endpoints.iter().filter(|&&endpoint| Some(endpoint) != self.last_endpoint));
        all
    }

    /// The operator, or a name lookup, gave new addresses.
    pub(crate) fn set_endpoints(&mut self, now: Instant, endpoints: Vec<SocketAddr>, rng: &mut Rng) {
        if endpoints == self.endpoints || endpoints.is_empty() {
            return;
        }
        let had_none = self.endpoints.is_empty();
        self.endpoints = endpoints;
        if let Some(attempt) = &mut self.attempt {
            attempt.on_new_endpoints(now);
        } else if had_none && !self.carries_user_data() {
            // A name that was looked up for the first time is like an address that was known from the start.
            self.attempt = Some(Initiator::new(now, rng));
        }
    }

    /// Whether something waits for a session.
    fn wants_session(&self) -> bool {
        !self.carries_user_data() && (!self.waiting.is_empty() || !self.backlog.is_empty() || self.keepalive.is_some())
    }

    /// After a hello of the attempt was sent.
    pub(crate) fn on_greeted(&mut self, now: Instant, events: &mut impl Extend<Event>) {
        if self.attempt.as_ref().is_some_and(|attempt| attempt.transmissions() % RESOLVE_EVERY == 0) {
            self.ask_for_addresses(now, events);
        }
    }

    fn ask_for_addresses(&mut self, now: Instant, events: &mut impl Extend<Event>) {
        if self.resolve_after.is_none_or(|after| now >= after) {
            self.resolve_after = Some(now + RESOLVE_PAUSE);
            events.extend([Event::Resolve { peer: self.index }]);
        }
    }

    /// Whether one more hello of this identity is answered now. Asked only after its signature was verified.
    pub(crate) fn may_answer_hello(&mut self, now: Instant) -> Result<(), Dropped> {
        if self.hellos.take(now, HELLOS) { Ok(()) } else { Err(Dropped::RateLimited) }
    }

    /// The answer to a hello that was answered already.
    pub(crate) fn stored_answer(&self, link: Link, hello: &[u8; HELLO_LEN]) -> Option<&[u8; HELLO_LEN]> {
        self.sessions.iter().find_map(|session| session.stored_answer(link, hello))
    }

    /// Refuses a hello that only a recorder can have sent: of an attempt that has led to a session, or of an earlier attempt while a later one is half-open, which it
    /// would end (PROTOCOL §4.3, step 4).
    pub(crate) fn refuse_recorded(&self, ephemeral: &[u8; 32]) -> Result<(), Dropped> {
        let place = |key: &[u8; 32]| self.answered.iter().position(|answered| answered.ephemeral == *key);
        let Some(own) = place(ephemeral) else {
            return Ok(());
        };
        let finished = self.answered.get(own).is_some_and(|answered| answered.finished);
        let half_open = self.sessions.iter().find_map(Session::half_open_ephemeral).and_then(|key| place(&key));
        if finished || half_open.is_some_and(|newer| newer < own) { Err(Dropped::Replayed) } else { Ok(()) }
    }

    /// The attempt with this ephemeral key has led to a session.
    pub(crate) fn on_finished(&mut self, ephemeral: &[u8; 32]) {
        if let Some(answered) = self.answered.iter_mut().find(|answered| answered.ephemeral == *ephemeral) {
            answered.finished = true;
        }
    }

    /// Adds a half-open session; an older one makes room.
    pub(crate) fn add_half_open(&mut self, session: Session) {
        if let Some(ephemeral) = session.half_open_ephemeral()
            && !self.answered.iter().any(|answered| answered.ephemeral == ephemeral)
        {
            self.answered.truncate(MAX_ANSWERED - 1);
            self.answered.insert(0, Answered { ephemeral, finished: false });
        }
        self.sessions.retain(|old| !old.is_half_open());
        self.sessions_removed = true;
        self.sessions.push(session);
    }

    /// Adds a session that this node initiated; an older unconfirmed one makes room.
    pub(crate) fn add_initiated(&mut self, now: Instant, session: Session) {
        let pending = self.sessions.iter().find(|old| old.is_pending()).map(|old| old.serial);
        if let Some(pending) = pending {
            self.remove(now, pending);
        }
        self.sessions.push(session);
        self.attempt = None;
    }

    /// A session became confirmed: it is sent on from now on (PROTOCOL §7).
    pub(crate) fn on_confirmed(
        &mut self,
        now: Instant,
        serial: Serial,
        local: &Local,
        events: &mut impl Extend<Event>,
    ) {
        self.attempt = None;
        self.traffic.sessions += 1;
        let first = self.active.is_none();
        self.activate(now, serial, local);
        while self.sessions.iter().filter(|session| session.is_confirmed()).count() > MAX_CONFIRMED {
            // A superseded session carries less in flight than the one that was sent on until now.
            let others = self.sessions.iter().filter(|session| session.is_confirmed() && session.serial != serial);
            let Some(dispensable) = others.min_by_key(|session| !session.is_superseded()).map(|session| session.serial)
            else {
                break;
            };
            self.remove(now, dispensable);
        }
        if first {
            events.extend([Event::Connected { peer: self.index }]);
        }
    }

    /// A valid packet arrived on a session.
    pub(crate) fn on_authentic(&mut self, serial: Serial) {
        if self.active == Some(serial) {
            self.last_endpoint = self.session(serial).map(|session| session.path.remote());
        }
    }

    /// The peer, which holds the larger key, has left a session (PROTOCOL §7).
    pub(crate) fn on_superseded(&mut self, now: Instant, serial: Serial) {
        let other = self.sessions.iter().rev().find(|session| session.is_confirmed() && !session.is_superseded());
        if self.active == Some(serial) {
            self.active = other.map(|session| session.serial).or(self.active);
            self.redeliver(now);
        }
    }

    /// Sends on `serial` from now on.
    ///
    /// Two nodes that greeted each other at once may have confirmed their sessions in different orders: the holder of the larger key decides (PROTOCOL §7).
    fn activate(&mut self, now: Instant, serial: Serial, local: &Local) {
        let left = self.active.replace(serial).filter(|&left| left != serial && local.id > self.id);
        if let Some(left) = left.and_then(|left| self.session_mut(left)) {
            left.close(now, CloseReason::Superseded);
        }
        self.last_endpoint = self.session(serial).map(|session| session.path.remote());
        self.redeliver(now);
    }

    /// Removes a session. True if there is none left to send on.
    pub(crate) fn remove(&mut self, now: Instant, serial: Serial) -> bool {
        let Some(position) = self.sessions.iter().position(|session| session.serial == serial) else {
            return false;
        };
        let session = self.sessions.remove(position);
        self.sessions_removed = true;
        if session.is_confirmed() {
            self.last_received = self.last_received.max(Some(session.activity.received()));
        }
        let undelivered = session.channels.into_unacknowledged();
        let refused = undelivered.into_iter().filter_map(|(channel, packet)| self.backlog.push(channel, packet).err());
        let refused = refused.count() as u64;
        self.drops.count_many(Dropped::ReliableFull, refused);
        let was_active = self.active == Some(serial);
        if was_active {
            // A session that lingered is better than none.
            self.active =
                self.sessions.iter().rev().find(|session| session.is_confirmed()).map(|session| session.serial);
        }
        self.redeliver(now);
        was_active && self.active.is_none()
    }

    /// Removes a session and all older ones: the peer stops, and has closed those that it remembers. Newer ones stay, for a goodbye may be late. True if there is none left
    /// to send on.
    pub(crate) fn remove_up_to(&mut self, now: Instant, last: Serial) -> bool {
        let was_active = self.active.is_some();
        while let Some(serial) = self.sessions.iter().map(|session| session.serial).find(|&serial| serial <= last) {
            self.remove(now, serial);
        }
        was_active && self.active.is_none()
    }

    /// Hands what earlier sessions did not deliver to the present one (PROTOCOL §7).
    pub(crate) fn redeliver(&mut self, now: Instant) {
        if self.backlog.is_empty() {
            return;
        }
        let backlog = std::mem::take(&mut self.backlog);
        let Some(session) = self.sending() else {
            self.backlog = backlog;
            return;
        };
        session.mark_used();
        let refused =
            backlog.into_iter().filter(|(channel, packet)| session.channels.send(now, *channel, packet).is_err());
        let refused = refused.count() as u64;
        self.drops.count_many(Dropped::ReliableFull, refused);
    }

    /// Keeps a packet until there is a session; `channel` if it travels reliably.
    pub(crate) fn await_session(&mut self, now: Instant, channel: Option<u8>, packet: &[u8]) -> Result<(), Dropped> {
        let Some(channel) = channel else {
            let made_room = self.waiting.push(now, packet);
            self.drops.count_many(Dropped::WaitedTooLong, made_room);
            return Ok(());
        };
        self.backlog.push(channel, packet.to_vec()).inspect_err(|reason| self.drops.count(*reason))
    }

    /// The session that takes packets for reliable channels: the one that still has some to deliver, so that none overtakes another.
    pub(crate) fn carrier(&mut self) -> Option<&mut Session> {
        match self.sessions.iter().position(|session| session.channels.has_unacknowledged()) {
            Some(position) => self.sessions.get_mut(position),
            None => self.sending(),
        }
    }

    /// Timers of the peer, its attempt and its sessions.
    pub(crate) fn handle_timeout(&mut self, now: Instant, local: &Local, rng: &mut Rng, events: &mut Vec<Event>) {
        if self.attempt.as_ref().is_some_and(|attempt| attempt.is_over(now)) {
            self.attempt = None;
            self.forgive();
            let lost = std::mem::take(&mut self.backlog).len() as u64;
            self.drops.count_many(Dropped::WaitedTooLong, lost);
            events.push(Event::Unreachable { peer: self.index });
        }
        let ended: Vec<(Serial, bool, Ended)> = self
            .sessions
            .iter_mut()
            .filter_map(|session| {
                let active = self.active == Some(session.serial);
                let ended = session.handle_timeout(now, active, local, rng).err()?;
                Some((session.serial, session.is_pending(), ended))
            })
            .collect();
        let given_up = self.sessions.iter_mut().map(|session| session.reassembly.take_given_up()).sum();
        self.drops.count_many(Dropped::BadPart, given_up);
        let mut retry = false;
        for (serial, pending, reason) in ended {
            retry |= pending;
            if self.remove(now, serial) {
                events.push(Event::Disconnected { peer: self.index, reason });
            }
        }
        let expired = self.waiting.expire(now);
        self.drops.count_many(Dropped::WaitedTooLong, expired);
        let unanswered = self.unanswered_since().is_some_and(|since| now >= since + UNANSWERED);
        if unanswered || retry || self.wants_session() {
            self.begin_attempt(now, rng, events);
        }
        if unanswered && self.attempt.is_none() {
            // Without an address there is nothing to do before the next packet wants out.
            self.forgive();
        }
    }

    /// Whether a session was removed since this was asked last.
    pub(crate) fn sessions_removed(&mut self) -> bool {
        std::mem::take(&mut self.sessions_removed)
    }

    /// The earliest moment at which a timer of this peer has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let unanswered = self.unanswered_since().filter(|_| self.attempt.is_none()).map(|since| since + UNANSWERED);
        let sessions = self
            .sessions
            .iter()
            .map(|session| session.deadline(self.active == Some(session.serial), self.keepalive))
            .min();
        [self.attempt.as_ref().map(Initiator::deadline), unanswered, sessions, self.waiting.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Since user data was sent that nothing has answered, on whichever session.
    fn unanswered_since(&self) -> Option<Instant> {
        let since = self.sessions.iter().filter_map(|session| session.activity.unanswered()).min()?;
        let heard = self.sessions.iter().any(|session| session.is_confirmed() && session.activity.received() > since);
        (!heard).then_some(since)
    }

    /// What was sent so far needs no answer any more.
    fn forgive(&self) {
        self.sessions.iter().for_each(|session| session.activity.forgive());
    }

    /// The session that is sent on, once it is confirmed.
    pub(crate) fn active(&self) -> Option<Serial> {
        self.active
    }

    /// The configured keepalive, if `serial` is the session sent on.
    pub(crate) fn keepalive_of(&self, serial: Serial) -> Option<Duration> {
        self.keepalive.filter(|_| self.active == Some(serial))
    }

    /// The session that user data is sent on.
    pub(crate) fn sending(&mut self) -> Option<&mut Session> {
        match self.active {
            Some(active) => self.session_mut(active),
            None => self.sessions.iter_mut().find(|session| session.carries_user_data()),
        }
    }

    /// The next probe on the session that is sent on.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let active = self.active?;
        self.session_mut(active)?.poll_probe(now)
    }

    /// Whether a host may be told once more that a packet was too large.
    pub(crate) fn may_tell_size(&mut self, now: Instant) -> bool {
        self.sizes_told.take(now, TOO_BIG)
    }

    pub(crate) fn carries_user_data(&self) -> bool {
        self.sessions.iter().any(Session::carries_user_data)
    }

    pub(crate) fn session(&self, serial: Serial) -> Option<&Session> {
        self.sessions.iter().find(|session| session.serial == serial)
    }

    pub(crate) fn session_mut(&mut self, serial: Serial) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.serial == serial)
    }

    /// What an operator may see.
    pub(crate) fn status(&self, now: Instant) -> PeerStatus {
        let active = self.active.and_then(|active| self.session(active));
        let path = active.map(|session| PathStatus {
            hop: Hop::Direct(session.path.remote()),
            kind: if self.endpoints.contains(&session.path.remote()) {
                CandidateKind::Configured
            } else {
                CandidateKind::Heard
            },
            is_primary: true,
            is_proven: session.is_confirmed(),
            rtt: session.channels.rtt(),
            heard: Some(now.saturating_duration_since(session.activity.received())),
            unanswered: 0,
        });
        let session = active.map(|session| SessionStatus {
            age: session.confirmed_at().map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
            endpoint: session.path.remote(),
            cipher: session.cipher(),
            epoch: session.epoch_number(),
            rtt: session.channels.rtt(),
            datagram_limit: session.datagram_limit(),
            reliable_queued: session.channels.queued(),
            reliable_repeated: session.channels.repeated(),
        });
        let (mut traffic, mut drops) = (self.traffic, self.drops.clone());
        self.counters.add_to(&mut traffic);
        self.counters.drops.add_to(&mut drops);
        let confirmed = self.sessions.iter().filter(|session| session.is_confirmed());
        let last_received =
            confirmed.map(|session| Some(session.activity.received())).fold(self.last_received, Option::max);
        PeerStatus {
            id: self.id,
            connecting: self.attempt.is_some() || self.sessions.iter().any(|session| !session.is_confirmed()),
            session,
            traffic,
            last_received: last_received.map(|at| now.saturating_duration_since(at)),
            waiting: self.waiting.len(),
            is_standing: false,
            is_relay: false,
            known_by: Vec::new(),
            paths: path.into_iter().collect(),
            steps: Vec::new(),
            drops,
        }
    }
}
