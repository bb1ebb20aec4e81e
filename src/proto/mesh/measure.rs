//! Measuring the NAT in front of this node, with the help of others (PROTOCOL §12.9; RFC 4787, and RFC 5780 in spirit).
//!
//! - **Hairpin**: a ping to the own outer address comes back, or does not.
//! - **Filtering**: a standing peer has a member knock to which this node has written nothing. Whoever is known to have been written to is excluded, and a knock from such an address says
//!   nothing. That nobody gets in is believed after two knocks that were lost, through two introducers if there are two.
//! - **Lifetime**: this node is silent, and a standing peer pings it when the time is over. Silent towards everybody: many NATs count any packet of a mapping as its use, so a mapping that is
//!   used towards others would seem to live for ever. Whatever is sent meanwhile makes the attempt void. A step is given up after it has failed with two helpers, where there are two.
//!
//! One thing at a time, after the node has come to rest. What was found decides how often paths are pinged: at four fifths of the lifetime. A liar among the helpers can make it seem shorter,
//! down to 20 s of keepalive, or one step longer than it is; the value in use is tried again every hour, by whoever is chosen then, and falls when two tries fail.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::base::{Link, PeerIndex};
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::{Holding, Peer};
use crate::wire::member::{MAX_TAGS, Tags};
use crate::wire::record::{KnockState, Record};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Before anything is known: Linux forgets a mapping that nobody has answered after 30 s, and most routers one that was used after two minutes or more. What is in use is worth more.
pub(super) const RESTING: Holding = Holding { standing: secs(25), in_use: secs(20) };
/// Silences that are tried, one after the other: no session outlives a much longer one (PROTOCOL §8.3).
const STEPS: [u64; 6] = [25, 40, 60, 90, 120, 180];
/// No keepalive is more frequent, and none rarer.
const SHORTEST: Duration = secs(20);
const LONGEST: Duration = secs(150);
/// Without a NAT and a filter.
const OPEN: Duration = secs(120);
const IN_USE_LONGEST: Duration = secs(60);
/// What is sent at the beginning of a silence, and what repeats it.
const SETTLE: Duration = secs(3);
/// How long an answer takes at most.
const ANSWERS_WITHIN: Duration = secs(4);
/// During a silence: how often it is looked whether it is kept.
const LOOK: Duration = secs(10);
/// So much later is a standing peer pinged if its echo is lost and nothing else happens.
const SPARE: Duration = secs(15);
/// Until the first measurement, between two, and until the next try of one that could not be made.
const FIRST: Duration = secs(3);
const PAUSE: Duration = secs(5);
const LATER: Duration = secs(60);
/// Between two tries to find somebody who knocks.
const KNOCK_AGAIN: Duration = secs(600);
/// An introducer passes on one knock in so much time.
const KNOCK_PACE: Duration = secs(61);
/// Between two trials of the lifetime in use.
const CHECK: Duration = secs(3600);
/// Attempts that traffic has made void, after which it is left for an hour.
const MAX_DISTURBED: u32 = 20;

/// What was found out, and what is under way.
#[derive(Debug, Default)]
pub(in crate::proto) struct Measuring {
    pub(super) hairpin: Option<bool>,
    pub(super) open_filter: Option<bool>,
    /// Outer addresses for which this holds.
    basis: Vec<IpAddr>,
    hairpin_tried: bool,
    /// Knocks that were passed on and did not arrive.
    lost_knocks: u32,
    knock_at: Option<Instant>,
    /// How many of [`STEPS`] the NAT has lived through, and whether it is known that it does not live longer.
    level: usize,
    climbed: bool,
    failures: u32,
    disturbed: u32,
    echo_at: Option<Instant>,
    last_helper: Option<PeerIndex>,
    /// There is neither a NAT nor a filter.
    is_open: bool,
    task: Option<Task>,
    next_at: Option<Instant>,
    /// When anything was sent outside of sessions.
    spoken_at: Option<Instant>,
}

#[derive(Debug)]
struct Task {
    what: What,
    token: [u8; 32],
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Hairpin,
    Knock { introducer: PeerIndex, passed_on: bool },
    Echo { from: IpAddr, since: Instant, step: Duration },
}

impl Measuring {
    /// When [`Node::tend_measuring`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.task {
            Some(Task { what: What::Echo { .. }, until, .. }) => self.next_at.map(|look| look.min(*until)),
            Some(Task { what: What::Hairpin | What::Knock { .. }, until, .. }) => Some(*until),
            None => self.next_at,
        }
    }

    /// A mapping lives at least this long.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.level.checked_sub(1).and_then(|level| STEPS.get(level)).map(|step| secs(*step))
    }

    /// How often paths are pinged while nothing is measured.
    pub(super) fn resting(&self) -> Holding {
        let standing = match self.lifetime() {
            _ if self.is_open => OPEN,
            _ if !self.climbed => return RESTING,
            Some(lifetime) => (lifetime * 4 / 5).clamp(SHORTEST, LONGEST),
            None => SHORTEST,
        };
        Holding { standing, in_use: standing.min(IN_USE_LONGEST) }
    }

    fn is_silent(&self) -> bool {
        self.task.as_ref().is_some_and(|task| matches!(task.what, What::Echo { .. }))
    }
}

impl super::Mesh {
    /// Something was sent in the clear.
    pub(in crate::proto) fn on_spoken(&mut self, now: Instant) {
        self.measuring.spoken_at = Some(now);
    }

    /// The outer addresses of this node, without ports.
    fn outer(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> =
            [self.seen_outside(true), self.seen_outside(false)].concat().iter().map(SocketAddr::ip).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Node {
    /// The network is another one: nothing is known.
    pub(super) fn forget_measured(&mut self, now: Instant) {
        let spoken_at = self.mesh.measuring.spoken_at;
        self.mesh.measuring = Measuring { spoken_at, ..Measuring::default() };
        self.rest(now);
    }

    /// Others see this node at another address, or at another port.
    pub(super) fn on_seen_elsewhere(&mut self, now: Instant) {
        let outer = self.mesh.outer();
        if self.peers.holding.is_none() || outer.is_empty() {
            return;
        }
        if outer != self.mesh.measuring.basis {
            let grown = self.mesh.measuring.basis.iter().all(|known| outer.contains(known));
            if !grown {
                self.forget_measured(now);
            }
            let start = now + FIRST + self.jitter(FIRST);
            let measuring = &mut self.mesh.measuring;
            (measuring.basis, measuring.hairpin_tried) = (outer, false);
            measuring.knock_at.get_or_insert(start);
            measuring.echo_at.get_or_insert(start + LATER);
            measuring.next_at.get_or_insert(start);
        } else if self.mesh.measuring.climbed && !self.mesh.measuring.is_silent() {
            // Perhaps the router has forgotten a mapping that was thought to live.
            let measuring = &mut self.mesh.measuring;
            let soon = now + LATER;
            measuring.echo_at = measuring.echo_at.map(|at| at.min(soon));
            measuring.next_at = measuring.next_at.map(|at| at.min(soon));
        }
    }

    /// Ends what is over, and begins what is due.
    pub(super) fn tend_measuring(&mut self, now: Instant) {
        if self.mesh.measuring.deadline().is_none_or(|at| now < at) {
            return;
        }
        let Some(task) = self.mesh.measuring.task.take() else { return self.measure_next(now) };
        match task.what {
            What::Echo { since, .. } if self.spoken_at() > Some(since + SETTLE) => self.on_disturbed(now),
            What::Echo { .. } if now < task.until => {
                self.mesh.measuring.task = Some(task);
                self.mesh.measuring.next_at = Some(now + LOOK);
            }
            What::Echo { .. } => self.on_silence_failed(now),
            What::Hairpin => self.on_no_hairpin(now),
            What::Knock { passed_on, .. } => self.on_no_knock(now, passed_on),
        }
    }

    /// A ping in the clear that this node waits for. Nothing is ever sent because of it.
    pub(in crate::proto) fn on_measured(&mut self, now: Instant, link: Link, cookie: &[u8; 32]) -> bool {
        let measuring = &mut self.mesh.measuring;
        let Some(task) = measuring.task.take_if(|task| task.token == *cookie) else { return false };
        match task.what {
            What::Hairpin => {
                measuring.hairpin = Some(true);
                self.pause(now);
            }
            What::Knock { .. } => {
                // Where it has knocked for others, its own filter is open.
                let mut sought = self.mesh.has_knocked_at(now, link.remote.ip());
                for index in self.peers.indexes() {
                    sought |= self.peers.get_mut(index).is_some_and(|peer| peer.was_sought_at(link.remote.ip()));
                }
                let measuring = &mut self.mesh.measuring;
                measuring.open_filter = (!sought).then_some(true);
                measuring.knock_at = sought.then_some(now + KNOCK_AGAIN);
                // What did not come back can have met no filter.
                measuring.hairpin_tried &= sought || measuring.hairpin.is_some();
                self.pause(now);
            }
            What::Echo { from, since, step } => {
                let kept = self.spoken_at().is_none_or(|spoken| spoken <= since + SETTLE);
                if from != link.remote.ip() || now < since + step {
                    // Too early, or from elsewhere: that proves nothing.
                    self.mesh.measuring.task = Some(task);
                } else if kept {
                    self.on_silence_survived(now);
                } else {
                    self.on_disturbed(now);
                }
            }
        }
        true
    }

    /// What became of a knock that was asked for.
    pub(super) fn on_knock_answered(&mut self, now: Instant, from: PeerIndex, state: KnockState, token: &[u8; 32]) {
        let is_this = |task: &mut Task| {
            task.token == *token && matches!(task.what, What::Knock { introducer, .. } if introducer == from)
        };
        let Some(mut task) = self.mesh.measuring.task.take_if(is_this) else { return };
        if state == KnockState::PassedOn {
            (task.what, task.until) = (What::Knock { introducer: from, passed_on: true }, now + SETTLE);
            self.mesh.measuring.task = Some(task);
        } else {
            self.on_no_knock(now, false);
        }
    }

    /// What is due now, if anything is.
    fn measure_next(&mut self, now: Instant) {
        if self.stopping || self.peers.holding.is_none() || self.mesh.outer().is_empty() {
            self.mesh.measuring.next_at = None;
            return;
        }
        let public = self.mesh.has_public_address();
        if !std::mem::replace(&mut self.mesh.measuring.hairpin_tried, true) && !public && self.try_hairpin(now) {
            return;
        }
        let measuring = &self.mesh.measuring;
        let (open_filter, echo_at) = (measuring.open_filter, measuring.echo_at);
        let knock_at = measuring.knock_at.filter(|_| open_filter.is_none());
        if knock_at.is_some_and(|at| now >= at) {
            return self.ask_to_knock(now);
        }
        self.mesh.measuring.is_open = public && open_filter == Some(true);
        if self.mesh.measuring.is_open {
            self.rest(now);
            self.mesh.measuring.next_at = knock_at;
            return;
        }
        if echo_at.is_some_and(|at| now >= at) {
            return self.begin_silence(now);
        }
        self.mesh.measuring.next_at = [knock_at, echo_at].into_iter().flatten().min();
    }

    fn try_hairpin(&mut self, now: Instant) -> bool {
        let own = |seen: &SocketAddr| self.mesh.local.iter().any(|(own, _)| own.ip() == seen.ip());
        let Some(seen) = self.mesh.seen_outside(true).into_iter().find(|seen| !own(seen)) else { return false };
        let token = self.rng.bytes();
        self.mesh.post_token(Link::to(seen), &token);
        self.mesh.measuring.task = Some(Task { what: What::Hairpin, token, until: now + SETTLE });
        true
    }

    /// Where every destination has its own port, and filter, the ping may have met a filter in its way and not the lack of a hairpin.
    fn on_no_hairpin(&mut self, now: Instant) {
        let tells = self.mesh.same_mapping() == Some(true) || self.mesh.measuring.open_filter == Some(true);
        self.mesh.measuring.hairpin = tells.then_some(false);
        self.pause(now);
    }

    fn ask_to_knock(&mut self, now: Instant) {
        let mut candidates = self.helpers();
        candidates.retain(|&index| {
            let asked = self.peers.get_mut(index).and_then(|peer| peer.contact().asked_to_knock);
            asked.is_none_or(|at| now >= at + KNOCK_PACE)
        });
        let Some(introducer) = self.one_of(&candidates) else { return self.on_nobody_knocks(now) };
        let mut besides: Vec<u8> = Vec::new();
        for index in self.peers.indexes() {
            if let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_contacted())
                && besides.len() < MAX_TAGS * 8
            {
                besides.extend_from_slice(&self.local.net.tag(&peer.id).to_be_bytes());
            }
        }
        let token: [u8; 32] = self.rng.bytes();
        if let Some(peer) = self.peers.get_mut(introducer) {
            // What it was asked itself stands in the contact of the other end.
            peer.contact().asked_to_knock = Some(now);
        }
        let what = What::Knock { introducer, passed_on: false };
        self.mesh.measuring.task = Some(Task { what, token, until: now + ANSWERS_WITHIN });
        let record = Record::Knock { state: KnockState::Asked, token: &token, besides: Tags::new(&besides) };
        self.send_record(now, introducer, &record);
    }

    /// A knock was not heard, or nobody knocks.
    fn on_no_knock(&mut self, now: Instant, passed_on: bool) {
        let measuring = &mut self.mesh.measuring;
        measuring.lost_knocks += u32::from(passed_on);
        if measuring.lost_knocks >= 2 {
            (measuring.open_filter, measuring.knock_at) = (Some(false), None);
        } else {
            // Another introducer, if there is one; else the same in a minute.
            measuring.knock_at = Some(now);
        }
        self.pause_for(now, Duration::ZERO);
    }

    /// All introducers were asked.
    fn on_nobody_knocks(&mut self, now: Instant) {
        let wait = if self.mesh.measuring.lost_knocks > 0 { KNOCK_PACE } else { KNOCK_AGAIN };
        self.mesh.measuring.knock_at = Some(now + wait);
        self.measure_next(now);
    }

    /// Is silent from now on, and has somebody ping when the time is over.
    fn begin_silence(&mut self, now: Instant) {
        let measuring = &self.mesh.measuring;
        let level = if measuring.climbed { measuring.level.saturating_sub(1) } else { measuring.level };
        let last = measuring.last_helper;
        let Some(step) = STEPS.get(level).map(|step| secs(*step)) else { return self.end_climb(now) };
        let end = now + step + SETTLE + ANSWERS_WITHIN;
        if self.mesh.rotate_at < end {
            // Everybody is told of a new nonce.
            return self.postpone(now, self.mesh.rotate_at.saturating_duration_since(now) + PAUSE);
        }
        let mut at_rest = true;
        for index in self.peers.indexes() {
            at_rest &= self.peers.get_mut(index).is_none_or(|peer| peer.is_at_rest(now));
        }
        let mut helpers = self.helpers();
        if helpers.len() > 1 {
            helpers.retain(|index| Some(*index) != last);
        }
        let Some(helper) = self.one_of(&helpers).filter(|_| at_rest) else { return self.postpone(now, LATER) };
        self.hold(now, Holding { standing: step + SPARE, in_use: step + SPARE });
        for index in self.peers.connected() {
            let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_standing()) else { continue };
            if let Some(session) = peer.mesh_session() {
                session.path.refresh(now);
            }
            let list = &mut peer.contact().list;
            list.next_at = list.next_at.map(|at| at.max(end));
            self.settle(now, index);
        }
        let token: [u8; 32] = self.rng.bytes();
        let seconds = (step + SETTLE).as_secs() as u16;
        let Some(session) = self.peers.get_mut(helper).and_then(Peer::mesh_session) else { return };
        let from = session.path.remote().ip();
        self.send_record(now, helper, &Record::EchoAfter { seconds, token: &token });
        let measuring = &mut self.mesh.measuring;
        measuring.last_helper = Some(helper);
        measuring.task = Some(Task { what: What::Echo { from, since: now, step }, token, until: end });
        measuring.next_at = Some(now + LOOK);
    }

    fn on_silence_survived(&mut self, now: Instant) {
        let measuring = &mut self.mesh.measuring;
        (measuring.failures, measuring.disturbed) = (0, 0);
        if measuring.climbed {
            return self.postpone_and_rest(now, CHECK);
        }
        measuring.level += 1;
        if measuring.level == STEPS.len() { self.end_climb(now) } else { self.postpone_and_rest(now, PAUSE) }
    }

    fn on_silence_failed(&mut self, now: Instant) {
        let measuring = &mut self.mesh.measuring;
        measuring.failures += 1;
        if measuring.failures < 2 {
            return self.postpone_and_rest(now, PAUSE);
        }
        if measuring.climbed {
            // It does not hold any more what it has held.
            measuring.level = measuring.level.saturating_sub(1);
            measuring.failures = 0;
            return self.postpone_and_rest(now, LATER);
        }
        self.end_climb(now);
    }

    fn end_climb(&mut self, now: Instant) {
        let measuring = &mut self.mesh.measuring;
        (measuring.climbed, measuring.failures, measuring.disturbed) = (true, 0, 0);
        self.postpone_and_rest(now, CHECK);
    }

    /// Something had to be sent.
    fn on_disturbed(&mut self, now: Instant) {
        let measuring = &mut self.mesh.measuring;
        measuring.disturbed += 1;
        if measuring.disturbed < MAX_DISTURBED {
            return self.postpone_and_rest(now, PAUSE * 4);
        }
        self.end_climb(now);
    }

    fn postpone_and_rest(&mut self, now: Instant, wait: Duration) {
        self.rest(now);
        self.postpone(now, wait);
    }

    fn postpone(&mut self, now: Instant, wait: Duration) {
        self.mesh.measuring.echo_at = Some(now + wait + self.jitter(wait / 4));
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        let wait = PAUSE + self.jitter(PAUSE);
        self.pause_for(now, wait);
    }

    fn pause_for(&mut self, now: Instant, wait: Duration) {
        self.mesh.measuring.next_at = Some(now + wait);
    }

    /// Pings paths as often as what is known of the NAT asks for.
    fn rest(&mut self, now: Instant) {
        self.hold(now, self.mesh.measuring.resting());
    }

    fn hold(&mut self, now: Instant, holding: Holding) {
        if self.peers.holding.is_none_or(|old| old == holding) {
            return;
        }
        self.peers.holding = Some(holding);
        for index in self.peers.connected() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.on_holding_changed(now, holding);
            }
            self.settle(now, index);
        }
    }

    /// Standing peers that see this node from outside, directly.
    fn helpers(&mut self) -> Vec<PeerIndex> {
        let mut all = self.peers.connected();
        all.retain(|&index| {
            let peer = self.peers.get_mut(index).filter(|peer| peer.is_standing());
            let remote = peer.and_then(Peer::mesh_session).map(|session| session.path.remote());
            remote.is_some_and(|remote| !hop::is_relayed(remote) && hop::is_public(remote))
        });
        all
    }

    fn one_of(&mut self, peers: &[PeerIndex]) -> Option<PeerIndex> {
        let count = u32::try_from(peers.len()).ok().filter(|count| *count > 0)?;
        peers.get(self.rng.below(count) as usize).copied()
    }

    /// When anything left this node last.
    fn spoken_at(&self) -> Option<Instant> {
        self.peers.iter().filter_map(Peer::spoken_to_at).max().max(self.mesh.measuring.spoken_at)
    }

    fn jitter(&mut self, upto: Duration) -> Duration {
        Duration::from_millis(self.rng.below((upto.as_millis() as u32).max(1)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tests::measuring::{lone, settle_down};

    #[test]
    fn whatever_was_found_paths_are_pinged_neither_too_often_nor_too_rarely() {
        for level in 0..=STEPS.len() {
            for (climbed, is_open) in [(false, false), (true, false), (false, true), (true, true)] {
                let Holding { standing, in_use } =
                    Measuring { level, climbed, is_open, ..Measuring::default() }.resting();
                assert!((SHORTEST..=LONGEST).contains(&standing), "{level}: {standing:?}");
                assert!((SHORTEST..=IN_USE_LONGEST).contains(&in_use), "{level}: {in_use:?}");
            }
        }
    }

    /// A helper that never pings makes the lifetime seem short; one that succeeds by a trick, one step long; both only until it is looked at again.
    #[test]
    fn what_liars_make_of_it_is_bounded_and_heals() {
        let (now, mut node) = lone();
        for _ in 0..3 {
            node.on_silence_survived(now);
        }
        node.on_silence_failed(now);
        assert!(!node.mesh.measuring.climbed, "one failure is no proof");
        // A trick.
        node.on_silence_survived(now);
        for _ in 0..2 {
            node.on_silence_failed(now);
        }
        assert_eq!((node.mesh.measuring.climbed, node.mesh.measuring.lifetime()), (true, Some(secs(90))));
        assert_eq!(node.peers.holding.map(|holding| holding.standing), Some(secs(72)));
        for expected in [Some(60), Some(40), Some(25), None, None] {
            for _ in 0..2 {
                node.on_silence_failed(now);
            }
            assert_eq!(node.mesh.measuring.lifetime(), expected.map(secs));
        }
        assert_eq!(node.peers.holding.map(|holding| holding.standing), Some(SHORTEST));
    }

    #[test]
    fn an_echo_that_comes_too_early_or_from_elsewhere_proves_nothing() {
        let (now, mut node) = lone();
        let (helper, token) = (SocketAddr::from(([192, 0, 2, 7], 18502)), [7; 32]);
        let what = What::Echo { from: helper.ip(), since: now, step: secs(25) };
        node.mesh.measuring.task = Some(Task { what, token, until: now + secs(32) });
        assert!(node.on_measured(now + secs(20), Link::to(helper), &token));
        let elsewhere = SocketAddr::from(([192, 0, 2, 8], 18502));
        assert!(node.on_measured(now + secs(28), Link::to(elsewhere), &token));
        assert!(!node.on_measured(now + secs(28), Link::to(helper), &[8; 32]));
        assert_eq!(node.mesh.measuring.level, 0);
        assert!(node.on_measured(now + secs(28), Link::to(helper), &token));
        assert_eq!(node.mesh.measuring.level, 1);
        assert!(!node.on_measured(now + secs(28), Link::to(helper), &token), "a token serves once");
    }

    #[test]
    fn a_silence_that_was_not_kept_counts_for_nothing() {
        let (now, mut node) = lone();
        let (helper, token) = (SocketAddr::from(([192, 0, 2, 7], 18502)), [7; 32]);
        let what = What::Echo { from: helper.ip(), since: now, step: secs(25) };
        node.mesh.measuring.task = Some(Task { what, token, until: now + secs(32) });
        node.mesh.on_spoken(now + secs(10));
        assert!(node.on_measured(now + secs(28), Link::to(helper), &token));
        assert_eq!((node.mesh.measuring.level, node.mesh.measuring.disturbed), (0, 1));
        settle_down(&mut node, now);
    }
}
