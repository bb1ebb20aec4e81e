//! What a session does by itself as time passes, and when it is over (PROTOCOL §5, §8.3, §8.7).

use std::time::{Duration, Instant};

use super::{Session, Stage};
use crate::base::Rng;
use crate::proto::event::Ended;
use crate::proto::handshake::Local;
use crate::proto::path::{Moved, Upkeep};
use crate::wire::record::CloseReason;

/// How long an unconfirmed session may stay so: half-open at the responder, without an epoch-1 packet at the initiator.
const HALF_OPEN: Duration = Duration::from_secs(10);
const UNCONFIRMED: Duration = Duration::from_secs(5);
/// How long a session that is not sent on outlives the last packet that arrived on it.
const LINGER: Duration = Duration::from_secs(10);
/// Expiries of the retransmission timer in a row that end a session which is not sent on while user records wait on it.
const ABANDONED_EXPIRIES: u32 = 3;
/// Silence after receiving, before a keepalive.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How often a session is looked at that other threads carry bytes on: so soon is it noticed that nothing comes back.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// An introduced session that is not confirmed by then tries its other ways, one after another.
pub(super) const ROTATE: Duration = Duration::from_millis(400);
/// Silence after sending user data, before the path is in doubt.
const DOUBT: Duration = Duration::from_millis(300);
/// Without user data for so long, nothing is held open any more, and then the session ends.
const COOLING: Duration = Duration::from_secs(120);
const IDLE: Duration = Duration::from_secs(180);
/// A peer that holds the session is heard more often than this, even while it measures how long its NAT remembers (PROTOCOL §12.9).
const HELD: Duration = Duration::from_secs(210);
/// The last pings of a session in use arrive by then after it has cooled; who is heard later holds it.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a goodbye to an idle session may take to leave.
const FAREWELL: Duration = Duration::from_millis(100);

/// What the owner of a session wants of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hold {
    /// It is the one that is sent on.
    pub(crate) active: bool,
    /// It is to stay, whether it is used or not: pinged after so much silence.
    pub(crate) standing: Option<Duration>,
    /// Its paths are held open while it is used, by a ping after so much silence: there are others, through whom and to whom it may lead.
    pub(crate) in_use: Option<Duration>,
    /// The configured keepalive.
    pub(crate) keepalive: Option<Duration>,
}

/// Why a keepalive is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveKind {
    /// The operator wants the path kept open: it keeps the session alive, too.
    Configured,
    /// A sign of life for a peer that sends; it is never answered by another.
    Answer,
}

impl Session {
    /// Timers of everything inside. An error ends the session.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        hold: Hold,
        local: &Local,
        rng: &mut Rng,
    ) -> Result<(), Ended> {
        if self.leaving.is_some_and(|at| now >= at) {
            return Err(Ended::Idle);
        }
        if now >= self.ends_at(hold.active) {
            return Err(Ended::Expired);
        }
        if self.previous.as_ref().is_some_and(|&(_, until)| now >= until) {
            self.previous = None;
            self.indexes_changed = true;
        }
        self.channels.handle_timeout(now);
        // The peer may be alive on another session that waits for these records: if it does not answer on this one, it does not have it any more.
        let abandoned = !hold.active && self.is_confirmed() && self.channels.has_unacknowledged();
        if self.channels.is_dead() || (abandoned && self.channels.expiries() >= ABANDONED_EXPIRIES) {
            return Err(Ended::Silent);
        }
        self.reassembly.handle_timeout(now);
        self.rotate(now);
        self.look(now);
        if hold.active && self.may_rekey() && self.wants_rekey(now, hold) {
            self.start_rekey(now, local, rng);
        }
        if hold.active && self.has_paths() {
            self.keep_up(now, hold);
        }
        Ok(())
    }

    /// Before the session is confirmed: the next way, if this one has not led to the end.
    fn rotate(&mut self, now: Instant) {
        if self.is_confirmed() || self.rotate_at.is_none_or(|at| now < at) {
            return;
        }
        self.rotate_at = Some(now + ROTATE);
        if self.path.rotate(now) {
            self.mtu.on_path_changed(self.path.remote());
            self.send_again(now);
            self.keepalive_at = Some(now);
        }
    }

    /// Whether its paths are chosen and held by pings (PROTOCOL §8.7).
    fn has_paths(&self) -> bool {
        self.is_confirmed() && self.takes_mesh()
    }

    /// Paths: what is held open, whether the primary is in doubt, and whether traffic moves. And the end, if nobody wants the session.
    fn keep_up(&mut self, now: Instant, hold: Hold) {
        self.path.set_upkeep(now, self.upkeep(now, hold));
        if self.doubt_at().is_some_and(|at| now >= at) {
            self.path.on_doubt(now);
        }
        if let Some(moved) = self.path.handle_timeout(now) {
            self.on_moved(now, moved);
        }
        if self.idle_at(hold).is_some_and(|at| now >= at) && self.leaving.is_none() {
            self.close(now, CloseReason::Idle);
            self.leaving = Some(now + FAREWELL);
        }
    }

    /// What is held open by pings.
    pub(crate) fn upkeep(&self, now: Instant, hold: Hold) -> Upkeep {
        let in_use = hold.in_use.filter(|_| hold.active && !self.has_cooled(now));
        let primary = [hold.standing.filter(|_| hold.active), in_use].into_iter().flatten().min();
        // Introducers are to know an address of each family, and an own one in each.
        Upkeep { primary, others: primary.is_some() }
    }

    /// Another interval holds the paths open from now on.
    pub(crate) fn on_hold_changed(&mut self, now: Instant, hold: Hold) {
        if hold.active && self.has_paths() {
            self.path.set_upkeep(now, self.upkeep(now, hold));
        }
    }

    /// No user data went over it for so long that nothing holds it open for their sake.
    pub(crate) fn has_cooled(&self, now: Instant) -> bool {
        self.activity.user().is_none_or(|at| now >= at + COOLING)
    }

    /// Traffic takes another path.
    pub(crate) fn on_moved(&mut self, now: Instant, moved: Moved) {
        self.mtu.on_path_changed(moved.to);
        if moved.died {
            self.channels.on_new_path(now);
        }
        self.moved = Some(Box::new(moved));
    }

    /// What has moved since this was asked last.
    pub(crate) fn take_moved(&mut self) -> Option<Moved> {
        self.moved.take().map(|moved| *moved)
    }

    /// When packets have been unanswered for so long that the path is in doubt.
    fn doubt_at(&self) -> Option<Instant> {
        let since = self.activity.unanswered().filter(|_| self.has_paths())?;
        // Over a slow path an answer takes longer than it does to grow suspicious.
        let patience = DOUBT.max(self.path.rtt().unwrap_or_default() * 2);
        self.path.doubt_at(since, patience)
    }

    /// When the session ends because nobody uses or holds it.
    fn idle_at(&self, hold: Hold) -> Option<Instant> {
        if !self.has_paths() || !hold.active || hold.standing.is_some() || hold.keepalive.is_some() {
            return None;
        }
        let idle = self.activity.user().unwrap_or(self.made) + IDLE;
        Some(if self.is_held() { idle.max(self.activity.received() + HELD) } else { idle })
    }

    fn wants_rekey(&self, now: Instant, hold: Hold) -> bool {
        self.rekey_at(hold).is_some_and(|at| now >= at)
    }

    /// When a successor of the present keys becomes due: of a session that is held and not used, so rarely that holding costs little (PROTOCOL §5.2).
    fn rekey_at(&self, hold: Hold) -> Option<Instant> {
        self.current.rekey_at(hold.standing.is_some() || self.is_held())
    }

    /// Whether the peer is heard long after the last user data: it wants the session to stay.
    fn is_held(&self) -> bool {
        self.held_by_peer || self.cooled_at() < self.activity.received()
    }

    /// The peer has pinged it. Once it has held it, it is believed to go on after user data, too: it may wait for longer than an idle session lives.
    pub(crate) fn on_pinged(&mut self, now: Instant) {
        self.held_by_peer |= self.cooled_at() < now;
    }

    fn cooled_at(&self) -> Instant {
        self.activity.user().unwrap_or(self.made) + COOLING + MARGIN
    }

    /// Sees to it that what other threads noted moves the timers, as long as they note anything.
    fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        self.take_sizes();
        let events = self.activity.events();
        let asleep = std::mem::replace(&mut self.looked, events) == events && self.activity.sleep(events);
        self.look_at = (!asleep).then(|| now + LOOK);
    }

    /// When the session is over unless something happens.
    fn ends_at(&self, active: bool) -> Instant {
        match self.stage {
            Stage::Offered(_) => self.made + HALF_OPEN,
            Stage::AwaitsOffer | Stage::Finishing => self.made + UNCONFIRMED,
            Stage::Confirmed(_) if active => self.current.refused_at(),
            Stage::Confirmed(_) => self.current.refused_at().min(self.activity.received() + LINGER),
        }
    }

    /// The earliest moment at which [`Self::handle_timeout`] or a transmission has something to do.
    pub(crate) fn deadline(&self, hold: Hold) -> Instant {
        let Hold { active, keepalive, .. } = hold;
        let rekey = self.rekey_at(hold).filter(|_| active && self.may_rekey());
        let keepalive = keepalive.filter(|_| active).map(|interval| self.activity.sent() + interval);
        let paths = self.has_paths();
        // What is held besides while it is in use is let go then; what stands, stands.
        let cooled = hold.standing.filter(|_| active);
        let holds_more = self.path.upkeep() != Upkeep { primary: cooled, others: cooled.is_some() };
        let cooling = self.activity.user().map(|at| at + COOLING).filter(|_| holds_more);
        [
            rekey,
            keepalive,
            self.owed_at(),
            self.rotate_at.filter(|_| !self.is_confirmed()),
            self.previous.as_ref().map(|&(_, until)| until),
            self.look_at,
            self.channels.deadline(),
            self.reassembly.deadline(),
            self.path.deadline().filter(|_| active && paths),
            self.mtu.deadline().filter(|_| active && self.is_confirmed()),
            self.doubt_at().filter(|_| active),
            self.leaving.or_else(|| self.idle_at(hold)),
            cooling.filter(|_| active && paths),
        ]
        .into_iter()
        .flatten()
        .fold(self.ends_at(active), Instant::min)
    }

    /// Whether a keepalive is due (PROTOCOL §8.3); `interval` is the configured one.
    pub(crate) fn keepalive_due(&self, now: Instant, interval: Option<Duration>) -> Option<KeepaliveKind> {
        if interval.is_some_and(|interval| now >= self.activity.sent() + interval) {
            return Some(KeepaliveKind::Configured);
        }
        self.owed_at().filter(|&at| now >= at).map(|_| KeepaliveKind::Answer)
    }

    /// When the peer is to hear something, if nothing is sent before.
    fn owed_at(&self) -> Option<Instant> {
        let owing = self.activity.owing().filter(|_| self.is_confirmed()).map(|since| since + KEEPALIVE);
        [self.keepalive_at, owing].into_iter().flatten().min()
    }
}
