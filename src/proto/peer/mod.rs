//! One peer: the attempt to reach it, its sessions, and what waits for it (PROTOCOL §7, §8.3).

mod member;
mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capacity::Capacity;
use super::command::{PeerConfig, PeerStatus, SessionStatus, Step};
use super::event::{Dropped, Drops, Ended, Event};
use super::fitting::TOO_BIG;
use super::handshake::Local;
use super::handshake::initiator::Initiator;
use super::mesh::{Contact, Seeking};
use super::mtu::Probe;
use super::session::{Hold, Serial, Session};
use crate::base::{PeerId, PeerIndex, Rng, SessionIndex};
use crate::envelope::{Counters, Traffic};

/// Silence after sending, before a new handshake (PROTOCOL §8.3).
const UNANSWERED: Duration = Duration::from_secs(15);
/// A peer whose paths are all silent is searched again after this long.
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// Where addresses are known, introducers are asked only if none of them has answered by then.
const GREET_FIRST: Duration = Duration::from_millis(700);
/// Of these, the newest are greeted: anybody on a link can repeat what was announced on another one.
const NEARBY_GREETED: usize = 2;
/// Introducers that say they know a peer.
const KNOWN_BY: usize = 3;
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
    pub(crate) attempt: Option<Box<Initiator>>,
    stopped: bool,
    /// A session is kept with it, to be introduced and found.
    standing: bool,
    /// It said that it relays, and how much.
    relays: Option<Capacity>,
    /// It has not been told what is new of this node.
    untold: bool,
    known_by: [Option<PeerIndex>; KNOWN_BY],
    away_until: Option<Instant>,
    times_away: u32,
    /// All its paths were silent: it is searched again then.
    search_at: Option<Instant>,
    /// What there is to know of a peer with which this node has or wants to do.
    contact: Option<Box<Contact>>,
    /// As the peers list has it: that it is there, and whether it relays.
    pub(super) listed: Option<bool>,
    pub(super) change: u32,
    pub(crate) sessions: Vec<Session>,
    /// The session that is sent on.
    active: Option<Serial>,
    pub(crate) traffic: Traffic,
    pub(crate) drops: Drops,
    /// The same of other threads.
    counters: Option<Arc<Counters>>,
    /// See `publish`.
    pub(super) published_stamp: u64,
    /// Indexes and addresses under which the table finds this peer.
    pub(crate) registered: Box<[SessionIndex]>,
    pub(crate) registered_greeted: Box<[SocketAddr]>,
    sessions_removed: bool,
    /// Where the node's schedule has it.
    pub(crate) scheduled: Option<Instant>,
    /// It stands in the node's queue of peers that may have something to send.
    pub(crate) ready: bool,
}

// Of most members nothing more is ever known: what there is only of some stands in `Contact`, or in a box of its own.
const _: () = assert!(size_of::<Peer>() <= 368);

/// An attempt of the peer that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
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
            standing: false,
            relays: None,
            untold: false,
            known_by: [None; KNOWN_BY],
            away_until: None,
            times_away: 0,
            search_at: None,
            contact: None,
            listed: None,
            change: 0,
            attempt: None,
            stopped: false,
            sessions: Vec::new(),
            active: None,
            traffic: Traffic::default(),
            drops: Drops::default(),
            counters: None,
            published_stamp: 0,
            registered: Box::default(),
            registered_greeted: Box::default(),
            sessions_removed: false,
            scheduled: None,
            ready: false,
        }
    }

    /// Starts to greet the peer, unless that is under way, or has led to a session that is about to be confirmed, or its address is unknown.
    pub(crate) fn begin_attempt(&mut self, now: Instant, rng: &mut Rng, events: &mut impl Extend<Event>) {
        if self.stopped || self.sessions.iter().any(Session::is_pending) {
            return;
        }
        let can_greet = !self.greetable().is_empty();
        if self.attempt.is_none() {
            if can_greet {
                self.greet(now, rng);
            } else {
                self.ask_for_addresses(now, events);
            }
        }
        self.seek(now, if can_greet { now + GREET_FIRST } else { now });
    }

    /// Starts to greet the peer where it may be, without asking anybody.
    pub(crate) fn greet(&mut self, now: Instant, rng: &mut Rng) {
        let addresses = self.greetable().len();
        if self.stopped || self.attempt.is_some() || addresses == 0 || self.sessions.iter().any(Session::is_pending) {
            return;
        }
        self.attempt = Some(Box::new(Initiator::new(now, rng)));
        self.contact().step(now, Step::Greeted(addresses));
    }

    /// Begins to ask introducers, at the given time.
    fn seek(&mut self, now: Instant, at: Instant) {
        let contact = self.contact();
        if contact.seeking.is_none() {
            contact.step(now, Step::Wanted);
            contact.seeking = Some(Box::new(Seeking::new(now, at)));
        }
    }

    /// Ends the attempt and begins no other: the node is shutting down.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.attempt = None;
    }

    /// The addresses to greet: where it was last, then the configured ones, then a few at which it announced itself.
    pub(crate) fn greetable(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        let nearby = self.contact.iter().flat_map(|contact| contact.nearby.iter().take(NEARBY_GREETED));
        let last = self.contact.iter().filter_map(|contact| contact.last_endpoint.as_ref());
        for &address in last.chain(&self.endpoints).chain(nearby) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
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
            self.attempt = Some(Box::new(Initiator::new(now, rng)));
        }
    }

    /// Whether something waits for a session.
    fn wants_session(&self, now: Instant) -> bool {
        let stands = self.standing && self.away_until.is_none_or(|until| now >= until);
        !self.carries_user_data() && (self.has_waiting() || self.keepalive.is_some() || stands)
    }

    /// After a hello of the attempt was sent.
    pub(crate) fn on_greeted(&mut self, now: Instant, events: &mut impl Extend<Event>) {
        if self.attempt.as_ref().is_some_and(|attempt| attempt.transmissions() % RESOLVE_EVERY == 0) {
            self.ask_for_addresses(now, events);
        }
    }

    fn ask_for_addresses(&mut self, now: Instant, events: &mut impl Extend<Event>) {
        let contact = self.contact();
        if contact.resolve_after.is_none_or(|after| now >= after) {
            contact.resolve_after = Some(now + RESOLVE_PAUSE);
            events.extend([Event::Resolve { peer: self.index }]);
        }
    }

    /// Hands what earlier sessions did not deliver to the present one (PROTOCOL §7).
    pub(crate) fn redeliver(&mut self, now: Instant) {
        let Some(contact) = self.contact_mut().filter(|contact| !contact.backlog.is_empty()) else {
            return;
        };
        let backlog = std::mem::take(&mut contact.backlog);
        let Some(session) = self.sending() else {
            self.contact().backlog = backlog;
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
            let made_room = self.contact().waiting.push(now, packet);
            self.drops.count_many(Dropped::WaitedTooLong, made_room);
            return Ok(());
        };
        let kept = self.contact().backlog.push(channel, packet.to_vec());
        kept.inspect_err(|reason| self.drops.count(*reason))
    }

    /// The oldest packet that waits for a session.
    pub(crate) fn pop_waiting(&mut self) -> Option<Vec<u8>> {
        self.contact_mut()?.waiting.pop()
    }

    /// Packets wait for a session.
    fn has_waiting(&self) -> bool {
        self.contact.as_ref().is_some_and(|contact| !contact.waiting.is_empty() || !contact.backlog.is_empty())
    }

    /// The session that takes packets for reliable channels: the one that still has some to deliver, so that none overtakes another.
    pub(crate) fn carrier(&mut self) -> Option<&mut Session> {
        match self.sessions.iter().position(|session| session.channels.has_unacknowledged()) {
            Some(position) => self.sessions.get_mut(position),
            None => self.sending(),
        }
    }

    /// Ends the attempt if its time is over, in vain.
    pub(crate) fn end_attempt(&mut self, now: Instant) -> bool {
        let is_over = self.attempt.take_if(|attempt| attempt.is_over(now)).is_some();
        if is_over {
            self.forgive();
            let lost = self.contact_mut().map_or(0, |contact| std::mem::take(&mut contact.backlog).len() as u64);
            self.drops.count_many(Dropped::WaitedTooLong, lost);
        }
        is_over
    }

    /// Timers of the peer, its attempt and its sessions.
    ///
    /// `holding` is how often paths are pinged, if there are others to be introduced to.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        holding: Option<Holding>,
        local: &Local,
        rng: &mut Rng,
        events: &mut Vec<Event>,
    ) {
        let ended: Vec<(Serial, bool, Ended)> = self
            .sessions
            .iter_mut()
            .filter_map(|session| {
                let hold = hold(self.active == Some(session.serial), self.standing, self.keepalive, holding);
                let ended = session.handle_timeout(now, hold, local, rng).err()?;
                // An answer to a hello has shown a way in both directions, so the peer may hold the session for confirmed. That to an introduction has not: one that nobody used is not worth another.
                let used = session.activity.user().is_some() || !session.path.is_tentative();
                Some((session.serial, session.is_pending() && used, ended))
            })
            .collect();
        let given_up = self.sessions.iter_mut().map(|session| session.reassembly.take_given_up()).sum();
        self.drops.count_many(Dropped::BadPart, given_up);
        let mut retry = false;
        for (serial, again, reason) in ended {
            retry |= again;
            if self.remove(now, serial) {
                events.push(Event::Disconnected { peer: self.index, reason });
            }
        }
        let expired = self.contact_mut().map_or(0, |contact| contact.waiting.expire(now));
        self.drops.count_many(Dropped::WaitedTooLong, expired);
        let unanswered = self.unanswered_since().is_some_and(|since| now >= since + UNANSWERED);
        let lost = self.lost_at().is_some_and(|at| now >= at);
        if lost {
            self.search_at = Some(now + SEARCH_AGAIN);
        }
        let retry = retry && !self.carries_user_data();
        if unanswered || retry || lost || self.wants_session(now) {
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
    pub(crate) fn deadline(&self, holding: Option<Holding>) -> Option<Instant> {
        let unanswered = self.unanswered_since().filter(|_| self.attempt.is_none()).map(|since| since + UNANSWERED);
        let hold =
            |session: &Session| hold(self.active == Some(session.serial), self.standing, self.keepalive, holding);
        let sessions = self.sessions.iter().map(|session| session.deadline(hold(session))).min();
        let contact = self.contact.as_ref().and_then(|contact| contact.deadline());
        let waiting = self.contact.as_ref().and_then(|contact| contact.waiting.deadline());
        let attempt = self.attempt.as_ref().map(|attempt| attempt.deadline());
        // Only while an attempt would begin then: a time that is over, and at which nothing happens, would come again at once.
        let idle = self.attempt.is_none() && !self.carries_user_data() && !self.has_pending();
        let stands = self.away_until.filter(|_| self.standing && idle && !self.stopped && self.has_endpoints());
        [attempt, unanswered, sessions, waiting, contact, self.lost_at(), stands].into_iter().flatten().min()
    }

    /// When the silence of all paths makes it worth looking for another way.
    fn lost_at(&self) -> Option<Instant> {
        let lost = self.session(self.active?)?.path.lost_at()?;
        Some(self.search_at.map_or(lost, |again| lost.max(again)))
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

    /// Traffic has moved to another path since this was asked last.
    pub(crate) fn take_moved(&mut self) -> Option<super::path::Moved> {
        self.sessions.iter_mut().filter_map(Session::take_moved).last()
    }

    /// Whether a host may be told once more that a packet was too large.
    pub(crate) fn may_tell_size(&mut self, now: Instant) -> bool {
        self.contact().sizes_told.take(now, TOO_BIG)
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

    /// Where other threads count; there is nothing before anything is published.
    pub(crate) fn shared_counters(&mut self) -> &Arc<Counters> {
        self.counters.get_or_insert_default()
    }

    /// What an operator may see.
    pub(crate) fn status(&self, now: Instant) -> PeerStatus {
        let session = self.active.and_then(|active| self.session(active)).map(|session| SessionStatus {
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
        if let Some(counters) = &self.counters {
            counters.add_to(&mut traffic);
            counters.add_drops_to(&mut drops);
        }
        let paths = self.active.and_then(|active| self.session(active)).map(|session| session.path.status(now));
        let steps = self.contact.iter().flat_map(|contact| contact.steps());
        let steps = steps.map(|(at, step)| (now.saturating_duration_since(at), step)).collect();
        let confirmed = self.sessions.iter().filter(|session| session.is_confirmed());
        let contact = self.contact.as_deref();
        let last_received = confirmed
            .map(|session| Some(session.activity.received()))
            .fold(contact.and_then(|contact| contact.last_received), Option::max);
        PeerStatus {
            id: self.id,
            connecting: self.attempt.is_some() || self.sessions.iter().any(|session| !session.is_confirmed()),
            session,
            traffic,
            last_received: last_received.map(|at| now.saturating_duration_since(at)),
            waiting: contact.map_or(0, |contact| contact.waiting.len()),
            is_standing: self.standing,
            relays: self.relays.map(Capacity::bytes_per_second),
            known_by: self.known_by(),
            paths: paths.unwrap_or_default(),
            steps,
            drops,
        }
    }
}

/// What is wanted of one session.
fn hold(active: bool, standing: bool, configured: Option<Duration>, holding: Option<Holding>) -> Hold {
    Hold {
        active,
        standing: holding.filter(|_| standing).map(|holding| holding.standing),
        in_use: holding.map(|holding| holding.in_use),
        keepalive: configured,
    }
}

/// How often paths are pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Of standing peers.
    pub(crate) standing: Duration,
    /// Of sessions in use.
    pub(crate) in_use: Duration,
}
