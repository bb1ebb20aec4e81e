//! Where the packets of a session go: every address at which the peer may be, and the one that is used (PROTOCOL §8.1, §8.7).
//!
//! - **Candidates** come from everywhere: the handshake, what the peer and introducers say, what it was heard from, a relay. None is believed: each is pinged inside the session, and an
//!   address counts only when it has answered. Both ends do that at the same time, which is what opens NATs.
//! - **Proof.** An address becomes the primary one only after a ping of full size was answered in full size. So a path that carries pings and loses packets is never taken.
//! - **Choice** is one comparison ([`candidate::is_better`]) with hysteresis, made when something was measured.
//! - **Doubt** begins when packets were sent and nothing came back, when packets of the peer arrive from elsewhere, and when the network of this host has changed. Then the primary and all
//!   proven addresses are pinged at once. If the primary answers, that was all. If another one does and the primary does not, for two round trips, traffic moves. If none does for
//!   a second, the session is lost ([`Paths::lost_at`]) and somebody else has to find a way.
//! - **Upkeep.** While the session is in use, the primary's NAT mapping and those of the proven others are held open, so that a move costs nothing; an idle session keeps nothing warm.
//! - Whoever copies packets and sends them on from elsewhere makes one address be pinged, and moves nothing. Whoever relays pings and answers, too, is a path like any other: he sees ciphertext only.

mod candidate;
mod choice;
mod extra;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::candidate::Candidate;
use self::choice::REST;
use super::bucket::{Bucket, Rate};
use super::capacity::Capacity;
use super::command::{CandidateKind, PathStatus};
use super::hop;
use crate::base::{Link, Rng};

/// Addresses of one peer, at most.
pub(crate) const MAX_CANDIDATES: usize = 16;
/// Addresses from which packets came, and that are asked for the first time.
const MAX_HEARD: usize = 2;
/// Addresses from which packets came for the first time. Behind two routers that have a port for each destination, each ping that goes to such an address comes from another one: without end.
/// Where nothing holds the path open, and it is in no doubt, none comes back.
const HEARD: Rate = Rate { per_second: 1, burst: 8 };
/// Sealed pings that are answered: both ends may try all candidates at once.
const ANSWERS: Rate = Rate { per_second: 20, burst: 40 };
/// Pings to addresses that have never answered: whoever names them may be lying about somebody else's. The burst is a round to all of them.
const BLIND: Rate = Rate { per_second: 20, burst: 64 };
/// Between the pings of a path that is in doubt.
const DOUBT_INTERVAL: Duration = Duration::from_millis(150);
/// A primary that does not answer is given this long at least, and two round trips.
const GRACE: Duration = Duration::from_millis(100);
/// A primary that answered so recently is not in doubt because packets come from elsewhere. Where the two ends send on different paths, nothing else tells that the own one has died: no
/// longer than a rest, so that it is left within a second all the same.
const WORKS: Duration = REST;
/// After a round of pings without an answer, the next one waits this long, and twice as long each time.
const RETRY: Duration = Duration::from_secs(10);
const MAX_RETRY: Duration = Duration::from_secs(120);
/// Pings in a row without an answer after which a proven address is no longer one.
const FORGET: u32 = 3;

/// What is to be held open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upkeep {
    /// The primary is pinged whenever nothing was heard from it for so long.
    pub(crate) primary: Option<Duration>,
    /// Other addresses are kept warm in the same way, and looked for.
    pub(crate) others: bool,
}

/// A ping to send inside the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathPing {
    pub(crate) link: Link,
    pub(crate) cookie: [u8; 32],
    /// The datagram is to be as long as every path carries.
    pub(crate) full: bool,
    /// Nobody has ever answered from there.
    pub(crate) is_blind: bool,
}

/// Traffic went over to another path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The old one did not answer any more.
    pub(crate) died: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Paths {
    /// The first is the primary; there always is one.
    candidates: Vec<Candidate>,
    /// The session is made by an introduction and not confirmed: the last valid packet says where the peer is.
    tentative: bool,
    doubt: Option<Instant>,
    rested_until: Option<Instant>,
    upkeep: Upkeep,
    /// An address has proven itself, or the session has come into use, since the owner looked.
    news: bool,
    answers: Bucket,
    blind: Bucket,
    heard: Bucket,
    /// Of these, since the path was wanted last.
    heard_at_rest: u32,
}

impl Paths {
    /// The handshake has proven `link`.
    pub(crate) fn new(now: Instant, link: Link) -> Self {
        let mut first = Candidate::new(now, link, CandidateKind::Heard);
        (first.proven, first.heard, first.next_at) = (true, Some(now), None);
        Self {
            candidates: vec![first],
            tentative: false,
            doubt: None,
            rested_until: None,
            upkeep: Upkeep::default(),
            news: false,
            answers: Bucket::default(),
            blind: Bucket::default(),
            heard: Bucket::default(),
            heard_at_rest: 0,
        }
    }

    /// The peer has not been heard yet, and may be at `link`.
    pub(crate) fn tentative(now: Instant, link: Link) -> Self {
        Self { tentative: true, ..Self::new(now, link) }
    }

    /// Whether it is pinged if it is named now.
    pub(crate) fn would_ask(&self, now: Instant, address: SocketAddr) -> bool {
        let known = self.candidates.iter().find(|known| known.link.is_same_way(Link::to(address)));
        known.is_none_or(|known| known.wants_retry(now + GRACE))
    }

    fn knows(&self, address: SocketAddr) -> bool {
        self.candidates.iter().any(|known| known.link.is_same_way(Link::to(address)))
    }

    /// The peer may also be there.
    pub(crate) fn add(&mut self, now: Instant, link: Link, kind: CandidateKind) {
        if let Some(known) = self.candidates.iter_mut().find(|known| known.link.is_same_way(link)) {
            if candidate::says_more(kind, known.kind) {
                known.kind = kind;
            }
            if known.wants_retry(now + GRACE) {
                known.retry(now);
            }
            return;
        }
        if self.candidates.len() >= MAX_CANDIDATES {
            // Of those that never answered, the oldest makes room; not a relay, of which there are few, and which are what is left when nothing else answers, before it was asked.
            let dispensable = |old: &Candidate| !old.proven && (!old.is_relayed() || old.is_over() || old.failures > 0);
            let Some(position) = self.candidates.iter().skip(1).position(dispensable) else { return };
            self.candidates.remove(position + 1);
        }
        // They are few, and stay.
        self.candidates.reserve_exact(1);
        self.candidates.push(Candidate::new(now, link, kind));
    }

    /// The peer may also be reached through a relay that gives this node so much.
    pub(crate) fn add_relayed(&mut self, now: Instant, address: SocketAddr, capacity: Capacity) {
        let link = Link::to(address);
        self.add(now, link, CandidateKind::Relayed);
        let known = self.candidates.iter_mut().find(|known| known.link.is_same_way(link));
        if let Some(known) = known.filter(|known| known.capacity != capacity) {
            known.capacity = capacity;
            // Its next answer makes another choice of it.
            if known.proven {
                known.next_at = Some(now);
            }
        }
    }

    /// The peer may also be there, as anybody can say who has recorded it: nothing makes room for that.
    pub(crate) fn add_if_room(&mut self, now: Instant, link: Link, kind: CandidateKind) {
        if self.candidates.len() < MAX_CANDIDATES || self.knows(link.remote) {
            self.add(now, link, kind);
        }
    }

    /// Something came from there that may be the peer's. False if enough such addresses are being asked: whoever copies packets and sends them on from many places has few of them asked at a
    /// time.
    pub(crate) fn hear(&mut self, now: Instant, link: Link) -> bool {
        let known = self.candidates.iter().find(|known| known.link.is_same_way(link));
        let is_asked = known.is_some_and(|known| known.is_asked(now));
        let is_vouched_for = known.is_some_and(|known| known.proven || known.kind != CandidateKind::Heard);
        let is_one_more = || self.candidates.iter().filter(|known| known.is_asked(now)).count() >= MAX_HEARD;
        let is_known = known.is_some();
        let may = is_asked || is_vouched_for || !is_one_more() && (is_known || self.may_ask_newcomer(now));
        // Each copy does not make it be asked once more.
        if may && !is_asked {
            self.add(now, link, CandidateKind::Heard);
        }
        may
    }

    /// Whether one more address from which packets came for the first time is asked.
    fn may_ask_newcomer(&mut self, now: Instant) -> bool {
        if self.upkeep.primary.is_some() || self.doubt.is_some() {
            self.heard_at_rest = 0;
        } else {
            self.heard_at_rest = self.heard_at_rest.saturating_add(1);
        }
        self.heard_at_rest <= HEARD.burst && self.heard.take(now, HEARD)
    }

    /// A valid packet arrived over `link`; `highest` says that no later one of its epoch was seen. True if it was the first and says where the peer is.
    pub(crate) fn on_packet(&mut self, now: Instant, link: Link, highest: bool) -> bool {
        if self.tentative {
            return self.settle_at(now, link);
        }
        let position = self.candidates.iter().position(|known| known.link.is_same_way(link));
        if let Some(known) = position.and_then(|position| self.candidates.get_mut(position)) {
            known.heard = Some(now);
            if position == Some(0) {
                if highest && known.link.local.is_some() {
                    known.link.local = link.local;
                }
                return false;
            }
        }
        if highest {
            self.on_elsewhere(now, link, true);
        }
        false
    }

    /// Whether traffic follows the newest packets of the peer, or pings and their answers. Behind some routers each of these comes from elsewhere: where nothing holds the path, two ends would keep
    /// each other in doubt with them, for ever.
    pub(crate) fn follows(&self, is_ping: bool) -> bool {
        !is_ping || self.upkeep.primary.is_some()
    }

    /// The peer pings from `link`, so it holds that for a way. Pings of several addresses leave together, and the road mixes them: whether it was the last packet says nothing.
    pub(crate) fn on_ping(&mut self, now: Instant, link: Link) {
        if !self.tentative && !link.is_same_way(self.link()) {
            self.on_elsewhere(now, link, false);
        }
    }

    /// The peer was heard elsewhere than where packets go.
    fn on_elsewhere(&mut self, now: Instant, link: Link, doubtful: bool) {
        if self.hear(now, link) && doubtful {
            // A peer behind a symmetric NAT sends from many ports, and one that has a better way back from elsewhere all the time.
            let works = self.candidates.first().and_then(|primary| primary.answered).is_some_and(|at| now < at + WORKS);
            if !works {
                self.on_doubt(now);
            }
        }
    }

    /// The session is confirmed: from now on addresses have to prove themselves.
    pub(crate) fn on_confirmed(&mut self) {
        self.tentative = false;
    }

    /// Nobody has proven yet that the peer hears what is sent.
    pub(crate) fn is_tentative(&self) -> bool {
        self.tentative
    }

    /// Tries the next way before the session is confirmed: a path may work in one direction only, and then the handshake does not end on it. False if there is no other.
    pub(crate) fn rotate(&mut self, now: Instant) -> bool {
        let next = self.candidates.iter().skip(1).position(|known| known.is_relayed() || known.heard.is_some());
        let Some(next) = next.filter(|_| self.tentative) else { return false };
        let mut chosen = self.candidates.remove(next + 1);
        chosen.next_at = None;
        let mut old = std::mem::replace(self.primary_mut(), chosen);
        old.on_died(now);
        self.candidates.push(old);
        true
    }

    /// The peer is at `link`, where it was heard. True if it was not expected there.
    fn settle_at(&mut self, now: Instant, link: Link) -> bool {
        let position = self.candidates.iter().position(|known| known.link.is_same_way(link));
        let elsewhere = position != Some(0);
        if elsewhere {
            let found = match position {
                Some(position) => self.candidates.remove(position),
                None => Candidate::new(now, link, CandidateKind::Heard),
            };
            self.primary_mut().on_died(now);
            self.candidates.insert(0, found);
            self.candidates.truncate(MAX_CANDIDATES);
        }
        let primary = self.primary_mut();
        (primary.heard, primary.proven, primary.next_at) = (Some(now), true, None);
        elsewhere
    }

    /// A sealed answer arrived over `link`; `None` if no ping waits for it.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        link: Link,
        cookie: &[u8; 32],
        is_full: bool,
    ) -> Option<Option<Moved>> {
        let upkeep = self.upkeep;
        // Wherever it comes from (RFC 9000 §8.2.3): the peer has got the ping, so the address to which that went leads to it. A symmetric NAT answers from another port.
        let position = self.candidates.iter().position(|known| known.waits_for(cookie))?;
        let known = self.candidates.get_mut(position)?;
        let was_proven = known.proven;
        known.on_answer(now, cookie, is_full);
        self.news |= known.proven && !was_proven;
        if known.link.is_same_way(link) && (position > 0 || known.link.local.is_some()) {
            known.link.local = link.local;
        }
        known.next_at = if known.proven { upkeep_of(upkeep, position).map(|wait| now + wait) } else { Some(now) };
        Some(self.choose(now))
    }

    /// The host has another network: nothing is known any more, and everything is tried.
    pub(crate) fn on_network_changed(&mut self, now: Instant) {
        (self.doubt, self.rested_until) = (None, None);
        for known in &mut self.candidates {
            (known.link.local, known.failures) = (None, 0);
            known.retry(now);
        }
        self.on_doubt(now);
    }

    /// Every address that is held open is pinged now.
    pub(crate) fn refresh(&mut self, now: Instant) {
        for (position, known) in self.candidates.iter_mut().enumerate() {
            if position == 0 || known.proven && self.upkeep.others {
                known.next_at = Some(now);
            }
        }
    }

    /// Whether the peer is, or was thought to be, at this address, whatever the port.
    pub(crate) fn leads_to(&self, ip: IpAddr) -> bool {
        self.candidates.iter().any(|known| known.link.remote.ip() == ip)
    }

    /// What is to be held open from now on.
    pub(crate) fn set_upkeep(&mut self, now: Instant, upkeep: Upkeep) {
        let before = std::mem::replace(&mut self.upkeep, upkeep);
        if before == upkeep {
            return;
        }
        self.news |= upkeep.others && !before.others;
        let is_alone = self.candidates.len() == 1;
        for (position, known) in self.candidates.iter_mut().enumerate() {
            if known.proven && self.doubt.is_none() {
                // What was never measured is measured first: nothing can be found better, or worse, than it before.
                let due = known.heard.filter(|_| is_alone || known.rtt.is_some());
                known.next_at = upkeep_of(upkeep, position).map(|wait| due.map_or(now, |heard| heard + wait));
            } else if known.has_failed() && upkeep.others && known.next_at.is_none() {
                known.retry(now);
            }
        }
    }

    /// Moves traffic if it is time, and lets go of what nobody will answer. To be called when [`Self::deadline`] has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Moved> {
        self.candidates.iter_mut().for_each(|known| known.forget_late(now));
        self.choose(now)
    }

    /// The next ping, if one is due.
    pub(crate) fn poll_ping(&mut self, now: Instant, rng: &mut Rng) -> Option<PathPing> {
        let is_relayed = self.candidates.first().is_some_and(Candidate::is_relayed);
        let (in_doubt, others) = (self.doubt.is_some(), self.upkeep.others);
        let due = self.candidates.iter().position(|known| known.next_at.is_some_and(|at| at <= now))?;
        let known = self.candidates.get_mut(due)?;
        if due > 0 && known.proven && known.unanswered >= FORGET && !in_doubt {
            known.on_died(now);
        }
        if due > 0 && known.has_failed() {
            // Worth another round only where what there is goes through others; but a relay may be needed at any time, and troubles no stranger.
            let wait = RETRY.saturating_mul(1 << known.failures.min(8)).min(MAX_RETRY);
            let again = others && (is_relayed || known.is_relayed());
            known.failures = known.failures.saturating_add(1);
            known.unanswered = 0;
            known.next_at = again.then(|| now + wait);
            if !again {
                known.unanswered = candidate::OVER;
            }
            return self.poll_ping(now, rng);
        }
        let is_blind = due > 0 && !known.proven && known.answered.is_none() && !known.is_relayed();
        if is_blind && !self.blind.take(now, BLIND) {
            known.next_at = Some(now + GRACE);
            return self.poll_ping(now, rng);
        }
        let (cookie, full) = (rng.bytes(), known.wants_full());
        let wait = known.on_ping(now, cookie, full);
        let primary_in_trouble = due == 0 && known.unanswered > 1;
        known.next_at =
            Some(now + if in_doubt && (due == 0 || known.proven) { slower(known.unanswered) } else { wait.max(GRACE) });
        let ping = PathPing { link: known.link, cookie, full, is_blind };
        if primary_in_trouble {
            // The ping that held it open was not answered.
            self.on_doubt(now);
        }
        Some(ping)
    }

    /// When a ping or a decision is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pings = self.candidates.iter().filter_map(|known| known.next_at).min();
        [pings, self.doubt.map(|since| since + self.grace()).filter(|_| self.has_alternative())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether one more sealed ping may be answered now.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        self.answers.take(now, ANSWERS)
    }

    /// Where packets go.
    pub(crate) fn link(&self) -> Link {
        #[expect(clippy::expect_used, reason = "the primary is replaced, never removed")]
        self.candidates.first().expect("there always is a primary").link
    }

    #[expect(clippy::expect_used, reason = "the primary is replaced, never removed")]
    fn primary_mut(&mut self) -> &mut Candidate {
        self.candidates.first_mut().expect("there always is a primary")
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.link().remote
    }

    /// Packets go through another member.
    pub(crate) fn is_relayed(&self) -> bool {
        hop::is_relayed(self.remote())
    }

    /// What is held open.
    pub(crate) fn upkeep(&self) -> Upkeep {
        self.upkeep
    }

    /// Whether an address has proven itself, or the session has come into use, since this was asked last: there is something to tell the peer, and relays are to be known.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Other addresses of the peer that have answered, directly.
    pub(crate) fn alive_besides(&self) -> Vec<SocketAddr> {
        let besides = self.candidates.iter().skip(1).filter(|known| known.proven && !known.is_relayed());
        besides.map(|known| known.link.remote).collect()
    }

    /// Round trip of the primary, as pings have measured it.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.candidates.first()?.rtt
    }

    /// What an operator may see, the primary first.
    pub(crate) fn status(&self, now: Instant) -> Vec<PathStatus> {
        let statuses = self.candidates.iter().enumerate().map(|(position, known)| PathStatus {
            hop: hop::hop(known.link.remote),
            kind: if known.is_relayed() { CandidateKind::Relayed } else { known.kind },
            is_primary: position == 0,
            is_proven: known.proven,
            rtt: known.rtt,
            heard: known.heard.map(|at| now.saturating_duration_since(at)),
            // Between two rounds of pings, those of the last one are what there is to tell.
            unanswered: if known.is_over() || known.failures > 0 && known.unanswered == 0 {
                FORGET
            } else {
                known.unanswered
            },
        });
        statuses.collect()
    }
}

/// How long after the last sign of life the address at `position` is pinged.
fn upkeep_of(upkeep: Upkeep, position: usize) -> Option<Duration> {
    upkeep.primary.filter(|_| position == 0 || upkeep.others)
}

/// Pings of an address in doubt become rarer when it stays silent.
fn slower(unanswered: u32) -> Duration {
    DOUBT_INTERVAL.saturating_mul(1 << (unanswered / 8).min(6))
}
