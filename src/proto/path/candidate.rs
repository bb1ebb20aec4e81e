//! One way to reach the peer, and which of two is better (PROTOCOL §8.7).

use std::time::{Duration, Instant};

use crate::base::Link;
use crate::proto::capacity::Capacity;
use crate::proto::command::CandidateKind;
use crate::proto::hop;

/// So many pings stand for an address that is not asked any more.
pub(super) const OVER: u32 = u32::MAX;
/// Pings whose answers still count, and for how long at least: longer than a round lasts.
const OUTSTANDING: usize = 4;
const LATE: Duration = Duration::from_secs(5);
/// Between the pings to an address that has not proven itself.
const WAITS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1500),
    Duration::from_millis(1500),
];
/// Pings to an address that only packets have come from.
const HEARD: usize = 4;
/// A path that is to replace another one of its kind must be faster by this, and by a fifth of the other's round trip: what is hardly better is not worth a move.
const GAIN: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) link: Link,
    pub(super) kind: CandidateKind,
    /// Of the relay, if it leads through one.
    pub(super) capacity: Capacity,
    /// A datagram of full size went there and came back.
    pub(super) proven: bool,
    pub(super) rtt: Option<Duration>,
    /// When a ping was answered last.
    pub(super) answered: Option<Instant>,
    /// When a packet came from there last.
    pub(super) heard: Option<Instant>,
    /// Pings since the last answer.
    pub(super) unanswered: u32,
    /// How often it was given up in a row.
    pub(super) failures: u32,
    /// When the next ping is due.
    pub(super) next_at: Option<Instant>,
    outstanding: Vec<Ping>,
}

// A session has up to sixteen.
const _: () = assert!(size_of::<Candidate>() <= 168);

/// A ping under way.
#[derive(Clone, Copy, Debug)]
struct Ping {
    cookie: [u8; 32],
    sent_at: Instant,
    full: bool,
}

impl Candidate {
    pub(super) fn new(now: Instant, link: Link, kind: CandidateKind) -> Self {
        Self {
            link,
            kind,
            capacity: Capacity::AMPLE,
            proven: false,
            rtt: None,
            answered: None,
            heard: None,
            unanswered: 0,
            failures: 0,
            next_at: Some(now),
            outstanding: Vec::new(),
        }
    }

    pub(super) fn is_relayed(&self) -> bool {
        hop::is_relayed(self.link.remote)
    }

    /// All pings of a round went unanswered.
    pub(super) fn has_failed(&self) -> bool {
        let rounds = if self.kind == CandidateKind::Heard { HEARD } else { WAITS.len() };
        !self.proven && self.unanswered as usize >= rounds
    }

    /// Nobody asks there any more.
    pub(super) fn is_over(&self) -> bool {
        self.unanswered == OVER
    }

    /// Pings go there, or will before long: it was not given up twice.
    pub(super) fn may_come_back(&self) -> bool {
        !self.is_over() && self.failures < 2
    }

    /// Only packets have come from there, and pings ask whether the peer is there.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        let is_due = self.unanswered > 0 || self.next_at.is_some_and(|at| at <= now);
        self.kind == CandidateKind::Heard && !self.proven && !self.is_over() && is_due
    }

    /// The ping that leaves now is to have the size of a full packet: the address answers, and has not shown that it carries more than that.
    pub(super) fn wants_full(&self) -> bool {
        !self.proven && self.answered.is_some()
    }

    /// Notes a ping; how long to wait for the next one of the same round.
    pub(super) fn on_ping(&mut self, now: Instant, cookie: [u8; 32], full: bool) -> Duration {
        if self.outstanding.len() == OUTSTANDING {
            self.outstanding.remove(0);
        }
        // Most are answered before there is another.
        self.outstanding.reserve_exact(1);
        self.outstanding.push(Ping { cookie, sent_at: now, full });
        let wait = WAITS.get(self.unanswered as usize).or(WAITS.last()).copied().unwrap_or(GAIN);
        self.unanswered = self.unanswered.saturating_add(1);
        wait
    }

    /// Whether a ping with this cookie waits for its answer.
    pub(super) fn waits_for(&self, cookie: &[u8; 32]) -> bool {
        // The cookie came sealed from the peer: comparing it needs no constant time.
        self.outstanding.iter().any(|ping| ping.cookie == *cookie)
    }

    /// The answer to a ping came.
    pub(super) fn on_answer(&mut self, now: Instant, cookie: &[u8; 32], is_full: bool) {
        let Some(ping) = self.outstanding.iter().find(|ping| ping.cookie == *cookie).copied() else {
            return;
        };
        let sample = now.saturating_duration_since(ping.sent_at);
        // Fast down, slowly up: what takes longer than it did was held up by this host or the other as often as by the road.
        self.rtt = Some(self.rtt.map_or(sample, |rtt| if sample < rtt { sample } else { (rtt * 7 + sample) / 8 }));
        (self.answered, self.heard) = (Some(now), Some(now));
        self.proven |= ping.full && is_full;
        (self.unanswered, self.failures) = (0, 0);
        self.outstanding = Vec::new();
    }

    /// Lets go of pings that nobody will answer any more.
    pub(super) fn forget_late(&mut self, now: Instant) {
        if self.outstanding.last().is_some_and(|newest| now >= newest.sent_at + LATE) {
            self.outstanding = Vec::new();
        }
    }

    /// Whether a ping was answered since `then`.
    pub(super) fn answered_since(&self, then: Instant) -> bool {
        self.answered.is_some_and(|at| at >= then)
    }

    /// It has never answered, and is not asked before `soon` either: one that was asked a moment ago is not asked again for every packet.
    pub(super) fn wants_retry(&self, soon: Instant) -> bool {
        !self.proven && self.answered.is_none() && self.next_at.is_none_or(|at| at > soon)
    }

    /// Starts over with it.
    pub(super) fn retry(&mut self, at: Instant) {
        (self.unanswered, self.next_at) = (0, Some(at));
    }

    /// It is not what it was: it has to prove itself again.
    pub(super) fn on_died(&mut self, retry_at: Instant) {
        (self.proven, self.answered) = (false, None);
        self.outstanding = Vec::new();
        self.retry(retry_at);
    }
}

/// Whether one kind says more of an address than another, so that it makes no difference which came first. Packets come from anywhere; an introducer does not say whence it knows an address.
pub(super) fn says_more(one: CandidateKind, other: CandidateKind) -> bool {
    let detail = |kind| match kind {
        CandidateKind::Heard => 0,
        CandidateKind::Observed => 1,
        CandidateKind::Local
        | CandidateKind::Mapped
        | CandidateKind::Configured
        | CandidateKind::Predicted
        | CandidateKind::Relayed => 2,
    };
    detail(one) > detail(other)
}

/// Whether `one` should replace `other`, which works. Direct before relayed; the own network before any other; then the round trip, with hysteresis: through a relay,
/// with the time that it takes to get 64 KiB through, so that a near relay that gives little is not preferred to a farther one that gives much.
pub(super) fn is_better(one: &Candidate, other: &Candidate) -> bool {
    if one.is_relayed() != other.is_relayed() {
        return other.is_relayed();
    }
    let near = |candidate: &Candidate| hop::is_near(candidate.link.remote);
    if near(one) != near(other) {
        return near(one);
    }
    match (one.rtt, other.rtt) {
        (Some(one_rtt), Some(other_rtt)) => {
            let (cost, cost_of_other) = (one_rtt + one.capacity.delay(), other_rtt + other.capacity.delay());
            cost + cost_of_other / 5 + GAIN < cost_of_other
        }
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}
