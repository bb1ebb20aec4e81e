//! The sessions of one peer: which come, which make room for them, and which is sent on (PROTOCOL §4.3, §7).

use std::time::Instant;

use super::{Answered, Peer};
use crate::base::Link;
use crate::proto::bucket::Rate;
use crate::proto::command::{CandidateKind, Step};
use crate::proto::event::{Dropped, Event};
use crate::proto::handshake::Local;
use crate::proto::hop;
use crate::proto::session::{Serial, Session};
use crate::wire::hello::HELLO_LEN;
use crate::wire::record::CloseReason;

/// Hellos of one identity that are answered (PROTOCOL §4.3, step 7).
const HELLOS: Rate = Rate { per_second: 1, burst: 10 };
/// Confirmed sessions of one peer: the one sent on, and one that lingers.
const MAX_CONFIRMED: usize = 2;
/// Hellos of one identity that are remembered. A cookie lasts 120 s at most, and more attempts than these in that time are rare.
const MAX_ANSWERED: usize = 4;

impl Peer {
    /// Whether one more hello of this identity is answered now. Asked only after its signature was verified.
    pub(crate) fn may_answer_hello(&mut self, now: Instant) -> Result<(), Dropped> {
        if self.contact().hellos.take(now, HELLOS) { Ok(()) } else { Err(Dropped::RateLimited) }
    }

    /// The answer to a hello that was answered already.
    pub(crate) fn stored_answer(&self, link: Link, hello: &[u8; HELLO_LEN]) -> Option<&[u8; HELLO_LEN]> {
        self.sessions.iter().find_map(|session| session.stored_answer(link, hello))
    }

    /// Refuses a hello that only a recorder can have sent: of an attempt that has led to a session, or of an earlier attempt while a later one is half-open, which it
    /// would end (PROTOCOL §4.3, step 4).
    pub(crate) fn refuse_recorded(&self, ephemeral: &[u8; 32]) -> Result<(), Dropped> {
        let answered = self.contact.as_ref().map_or(&[][..], |contact| &contact.answered);
        let place = |key: &[u8; 32]| answered.iter().position(|answered| answered.ephemeral == *key);
        let Some(own) = place(ephemeral) else {
            return Ok(());
        };
        let finished = answered.get(own).is_some_and(|answered| answered.finished);
        let half_open = self.sessions.iter().find_map(Session::half_open_ephemeral).and_then(|key| place(&key));
        if finished || half_open.is_some_and(|newer| newer < own) { Err(Dropped::Replayed) } else { Ok(()) }
    }

    /// The attempt with this ephemeral key has led to a session.
    pub(crate) fn on_finished(&mut self, ephemeral: &[u8; 32]) {
        let mut known = self.contact.iter_mut().flat_map(|contact| &mut contact.answered);
        if let Some(answered) = known.find(|answered| answered.ephemeral == *ephemeral) {
            answered.finished = true;
        }
    }

    /// Adds a half-open session; an older one that began in the same way makes room.
    ///
    /// One that began with a hello leaves one that an introduction made, and the reverse: introducers can hold introductions back, and whoever has recorded a hello that was lost can send it.
    pub(crate) fn add_half_open(&mut self, session: Session) {
        let opening = session.half_open_ephemeral();
        let answered = &mut self.contact().answered;
        if let Some(ephemeral) = opening
            && !answered.iter().any(|answered| answered.ephemeral == ephemeral)
        {
            answered.truncate(MAX_ANSWERED - 1);
            answered.reserve_exact(1);
            answered.insert(0, Answered { ephemeral, finished: false });
        }
        let is_alike = |old: &Session| old.half_open_ephemeral().is_some() == opening.is_some();
        self.sessions.retain(|old| !(old.is_half_open() && is_alike(old)));
        self.sessions_removed = true;
        self.push_session(session);
    }

    /// Most peers have one session, or none.
    fn push_session(&mut self, session: Session) {
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
    }

    /// Adds a session that this node initiated; an older unconfirmed one makes room.
    pub(crate) fn add_initiated(&mut self, now: Instant, session: Session) {
        let pending = self.sessions.iter().find(|old| old.is_pending()).map(|old| old.serial);
        if let Some(pending) = pending {
            self.remove(now, pending);
        }
        self.push_session(session);
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
        (self.away_until, self.times_away, self.search_at, self.untold) = (None, 0, None, true);
        let hop = self.session(serial).map(|session| hop::hop(session.path.remote()));
        let endpoints = self.endpoints.clone();
        if let Some(session) = self.session_mut(serial).filter(|session| !session.path.is_relayed()) {
            endpoints
                .into_iter()
                .for_each(|address| session.path.add(now, Link::to(address), CandidateKind::Configured));
        }
        let contact = self.contact();
        contact.on_confirmed();
        if let Some(hop) = hop {
            contact.step(now, Step::Connected(hop));
        }
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
            self.note_endpoint(serial);
            if self.session(serial).is_some_and(|session| session.path.lost_at().is_none()) {
                self.search_at = None;
            }
        }
    }

    /// Where the peer is now will be greeted first when it is lost: an own address of it, not that of a relay.
    fn note_endpoint(&mut self, serial: Serial) {
        let remote = self.session(serial).map(|session| session.path.remote());
        if let Some(remote) = remote.filter(|remote| !hop::is_relayed(*remote)) {
            self.contact().last_endpoint = Some(remote);
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
        self.note_endpoint(serial);
        self.redeliver(now);
    }

    /// Removes a session. True if there is none left to send on.
    pub(crate) fn remove(&mut self, now: Instant, serial: Serial) -> bool {
        let Some(position) = self.sessions.iter().position(|session| session.serial == serial) else {
            return false;
        };
        let session = self.sessions.remove(position);
        self.sessions.shrink_to_fit();
        self.sessions_removed = true;
        let contact = self.contact();
        if session.is_confirmed() {
            contact.last_received = contact.last_received.max(Some(session.activity.received()));
        }
        let undelivered = session.channels.into_unacknowledged();
        let refused =
            undelivered.into_iter().filter_map(|(channel, packet)| contact.backlog.push(channel, packet).err());
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
}
