//! One search at random ports (PROTOCOL §12.8): its stages, its pace, and where it ends.
//!
//! Behind a NAT that draws another port for each destination (the *hard* side), nobody can know the port that leads to a member. So it opens many at once: from each of [`SOCKETS`] extra sockets it
//! sends to the one outer address of the other (the *easy* side), whose NAT keeps one port for all. That one tries ports of the hard side's address. With 256 of some 64,000 ports open, 175 tries find
//! one in half of the cases, 1024 in 98 % and [`PROBES`] in all but 3 of 10,000.
//!
//! Nothing here knows of peers or sessions: `now` comes in, datagrams to send and verdicts go out.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::seek::NEAR_HOPS;
use crate::base::{Link, PeerIndex, Rng};

/// Extra sockets of the hard side.
pub(super) const SOCKETS: u16 = 256;
/// Ports that the easy side tries, at most.
pub(super) const PROBES: u32 = 2048;
/// Between two groups of datagrams, and how many leave together: 200 probes a second, and a router that is to make 256 mappings has 0.8 s for it.
const TICK: Duration = Duration::from_millis(50);
const PROBES_AT_ONCE: usize = 10;
const OPENINGS_AT_ONCE: u16 = 16;
/// The mappings are opened again after this long, so often in all: a router forgets some that nobody answers after a few seconds.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
const ROUNDS: u16 = 3;
/// The openings leave before the probes do: what comes unasked for can make a router move a port.
const HEAD_START: Duration = Duration::from_millis(500);
/// The hard side waits for so long from the agreement on; the easy side is through before.
const LASTS: Duration = Duration::from_secs(15);
/// After something was heard, pings have this long to prove the path; so have the answers to the last probes.
const SETTLE: Duration = Duration::from_secs(3);
/// Places that are pinged: two sockets may be hit at once.
const MAX_HITS: u8 = 2;
/// Introducers that are asked where the other one is, and how long they have.
pub(super) const MAX_ASKED: usize = 3;
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// The other side has longer than that, and a round trip, to agree.
const AGREES_WITHIN: Duration = Duration::from_secs(5);

/// Ports that NATs give out, each once, spread as evenly as can be: the step is the golden section of their number and has no divisor in common with it. So ports that follow each other are met as
/// soon as ports that are drawn.
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 65_536 - FIRST_PORT;
const STEP: u32 = 39_869;

/// Which end of it this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The one with the extra sockets.
    Hard,
    /// The one that tries ports.
    Easy,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Those that were asked where the other one is all say this.
    Located(SocketAddr),
    /// They say nothing, or not the same; or the other one does not agree. Nothing was sent.
    Dropped,
    /// The token goes there.
    Send(Vec<Link>),
    /// Everything was tried.
    Over,
}

#[derive(Debug)]
enum Stage {
    /// Introducers are asked; what each has said, or that it has not.
    Locating { asked: Vec<(PeerIndex, Said)>, until: Instant },
    /// The other one is asked.
    Asking { until: Instant },
    /// Sockets `first..` send to `target`; `done` openings have left.
    Opening { first: u16, done: u16, again_at: Instant, until: Instant },
    /// Ports of `target` are tried; `next` is the place of the next one.
    Probing { next: u32 },
}

/// What an introducer says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    NothingYet,
    NotSeen,
    Seen(SocketAddr),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spray {
    pub(super) role: Role,
    pub(super) token: [u8; 32],
    stage: Stage,
    target: Option<SocketAddr>,
    /// How far the openings go.
    hops: Option<u8>,
    /// Datagrams that have left.
    pub(super) sent: u32,
    /// Since datagrams leave.
    began: Instant,
    hits: u8,
    settles_until: Option<Instant>,
    next_at: Instant,
}

impl Spray {
    /// Begins with asking these where the other one is. The first openings end before they reach it; if that found nothing (`is_again`), they may lack the hops to leave the own side.
    pub(super) fn new(now: Instant, role: Role, token: [u8; 32], asked: &[PeerIndex], is_again: bool) -> Self {
        let until = now + ANSWERS_WITHIN;
        let asked = asked.iter().take(MAX_ASKED).map(|introducer| (*introducer, Said::NothingYet)).collect();
        Self {
            role,
            token,
            stage: Stage::Locating { asked, until },
            target: None,
            hops: (!is_again).then_some(NEAR_HOPS),
            sent: 0,
            began: now,
            hits: 0,
            settles_until: None,
            next_at: until,
        }
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        self.next_at
    }

    /// An introducer sees the other one there. The first thing that it says counts.
    pub(super) fn on_seen(&mut self, introducer: PeerIndex, address: SocketAddr) {
        self.note(introducer, Said::Seen(address));
    }

    /// An introducer has said all that it knows.
    pub(super) fn on_answered(&mut self, now: Instant, introducer: PeerIndex) {
        self.note(introducer, Said::NotSeen);
        if let Stage::Locating { asked, .. } = &self.stage
            && asked.iter().all(|(_, said)| *said != Said::NothingYet)
        {
            self.next_at = now;
        }
    }

    fn note(&mut self, introducer: PeerIndex, what: Said) {
        let Stage::Locating { asked, .. } = &mut self.stage else { return };
        let said = asked.iter_mut().find(|(asked, said)| *asked == introducer && *said == Said::NothingYet);
        if let Some((_, said)) = said {
            *said = what;
        }
    }

    /// The other one was asked to take part.
    pub(super) fn on_asked(&mut self, now: Instant, target: SocketAddr) {
        let until = now + AGREES_WITHIN;
        (self.target, self.stage, self.next_at) = (Some(target), Stage::Asking { until }, until);
    }

    /// Whether the other one is being asked, with this token.
    pub(super) fn is_asking(&self, token: &[u8; 32]) -> bool {
        self.token == *token && matches!(self.stage, Stage::Asking { .. })
    }

    /// The other one agrees, and this node has the sockets from `first` on a moment later. False if it was not asked.
    pub(super) fn on_agreed(&mut self, now: Instant, first: u16) -> bool {
        if !matches!(self.stage, Stage::Asking { .. }) {
            return false;
        }
        self.began = now;
        self.next_at = now + TICK;
        self.stage = Stage::Opening { first, done: 0, again_at: now + OPEN_AGAIN, until: now + LASTS };
        true
    }

    /// This node has agreed to try ports of `target`.
    pub(super) fn on_agreeing(&mut self, now: Instant, target: SocketAddr, rng: &mut Rng) {
        (self.target, self.began, self.next_at) = (Some(target), now, now + HEAD_START);
        self.stage = Stage::Probing { next: rng.below(PORTS) };
    }

    /// The token came, or something else of the other one. True if it is to be pinged there.
    pub(super) fn on_hit(&mut self, now: Instant, from: IpAddr) -> bool {
        let is_under_way = matches!(self.stage, Stage::Opening { .. } | Stage::Probing { .. });
        let is_it = is_under_way && self.hits < MAX_HITS && self.target.is_some_and(|target| target.ip() == from);
        if is_it {
            self.hits += 1;
            self.settle(now);
        }
        is_it
    }

    /// The other one is being pinged: nothing more is tried meanwhile.
    pub(super) fn settle(&mut self, now: Instant) {
        self.settles_until.get_or_insert(now + SETTLE);
    }

    /// Where the other one is, and since when it may be heard from there.
    pub(super) fn watched(&self) -> Option<(IpAddr, Instant)> {
        let is_under_way = matches!(self.stage, Stage::Opening { .. } | Stage::Probing { .. });
        self.target.filter(|_| is_under_way).map(|target| (target.ip(), self.began))
    }

    /// The sockets that are open for it: the first, and how many.
    pub(super) fn sockets(&self) -> Option<(u16, u16)> {
        match self.stage {
            Stage::Opening { first, .. } => Some((first, SOCKETS)),
            Stage::Locating { .. } | Stage::Asking { .. } | Stage::Probing { .. } => None,
        }
    }

    /// What is due at [`Self::deadline`].
    pub(super) fn poll(&mut self, now: Instant) -> Due {
        self.next_at = now + TICK;
        let settles = self.settles_until.is_some_and(|until| now < until);
        match &mut self.stage {
            Stage::Locating { asked, until } => {
                if now < *until && asked.iter().any(|(_, said)| *said == Said::NothingYet) {
                    self.next_at = *until;
                    return Due::Send(Vec::new());
                }
                located(self.role, asked).map_or(Due::Dropped, Due::Located)
            }
            Stage::Asking { until } if now < *until => {
                self.next_at = *until;
                Due::Send(Vec::new())
            }
            Stage::Asking { .. } => Due::Dropped,
            Stage::Opening { .. } | Stage::Probing { .. } if settles => Due::Send(Vec::new()),
            Stage::Opening { first, done, again_at, until } => {
                if now >= *until {
                    return Due::Over;
                }
                if *done % SOCKETS == 0 && *done > 0 {
                    if *done == SOCKETS * ROUNDS || now < *again_at {
                        return Due::Send(Vec::new());
                    }
                    *again_at = now + OPEN_AGAIN;
                }
                let Some(target) = self.target else { return Due::Over };
                let begin = *done % SOCKETS;
                let end = (begin + OPENINGS_AT_ONCE).min(SOCKETS);
                *done += end - begin;
                self.sent += u32::from(end - begin);
                let to = Link { hop_limit: self.hops, ..Link::to(target) };
                Due::Send((begin..end).map(|number| to.through(first.saturating_add(number))).collect())
            }
            Stage::Probing { next } => {
                let Some(target) = self.target.filter(|_| self.sent < PROBES) else { return Due::Over };
                let mut links = Vec::new();
                while links.len() < PROBES_AT_ONCE && self.sent < PROBES {
                    let port = u16::try_from(FIRST_PORT + *next).unwrap_or(u16::MAX);
                    links.push(Link::to(SocketAddr::new(target.ip(), port)));
                    *next = (*next + STEP) % PORTS;
                    self.sent += 1;
                }
                if self.sent == PROBES {
                    self.next_at = now + SETTLE;
                }
                Due::Send(links)
            }
        }
    }
}

/// Where all who see it see it. One who sees it elsewhere is enough to leave it alone: it is somebody else, or its NAT has many addresses; and nobody's port is tried at the word of one of several.
fn located(role: Role, asked: &[(PeerIndex, Said)]) -> Option<SocketAddr> {
    let mut seen = asked.iter().filter_map(|(_, said)| match said {
        Said::Seen(address) => Some(*address),
        Said::NothingYet | Said::NotSeen => None,
    });
    let first = seen.next()?;
    let same = |other: SocketAddr| match role {
        // The easy side has one port for all.
        Role::Hard => other == first,
        Role::Easy => other.ip() == first.ip(),
    };
    seen.all(same).then_some(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 4000);
    const ONE: PeerIndex = PeerIndex(1);
    const OTHER: PeerIndex = PeerIndex(2);

    fn spray(role: Role) -> (Instant, Spray) {
        let start = crate::proto::tests::start();
        (start, Spray::new(start, role, [7; 32], &[ONE, OTHER], false))
    }

    /// Everything that is sent until it is over, and when.
    fn run(spray: &mut Spray) -> Vec<(Instant, Link)> {
        let mut all = Vec::new();
        loop {
            let at = spray.deadline();
            match spray.poll(at) {
                Due::Send(links) => all.extend(links.into_iter().map(|link| (at, link))),
                Due::Over => return all,
                other @ (Due::Located(_) | Due::Dropped) => panic!("{other:?}"),
            }
        }
    }

    fn port(ip: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, ip], port))
    }

    #[test]
    fn it_is_located_by_those_that_agree_and_by_nobody_else() {
        let said = |role, says: &[(PeerIndex, SocketAddr)]| {
            let (start, mut spray) = spray(role);
            says.iter().for_each(|(who, address)| spray.on_seen(*who, *address));
            [ONE, OTHER].into_iter().for_each(|who| spray.on_answered(start, who));
            assert_eq!(spray.deadline(), start, "all have answered");
            spray.poll(start)
        };
        for role in [Role::Hard, Role::Easy] {
            assert_eq!(said(role, &[]), Due::Dropped);
            assert_eq!(said(role, &[(ONE, port(1, 5))]), Due::Located(port(1, 5)));
            assert_eq!(said(role, &[(ONE, port(1, 5)), (OTHER, port(1, 5))]), Due::Located(port(1, 5)));
            assert_eq!(said(role, &[(ONE, port(1, 5)), (OTHER, port(2, 5))]), Due::Dropped);
            assert_eq!(said(role, &[(ONE, port(1, 5)), (ONE, port(2, 5))]), Due::Located(port(1, 5)), "its first word");
            assert_eq!(said(role, &[(PeerIndex(9), port(1, 5))]), Due::Dropped, "was not asked");
        }
        let ports = [(ONE, port(1, 5)), (OTHER, port(1, 6))];
        assert_eq!(said(Role::Easy, &ports), Due::Located(port(1, 5)), "the ports of the hard side differ");
        assert_eq!(said(Role::Hard, &ports), Due::Dropped, "both are hard");
    }

    #[test]
    fn silence_of_those_that_are_asked_ends_it() {
        let (start, mut spray) = spray(Role::Hard);
        assert_eq!(spray.poll(start), Due::Send(Vec::new()), "they have time");
        assert_eq!(spray.poll(start + ANSWERS_WITHIN), Due::Dropped);
        spray.on_asked(start, TARGET);
        assert_eq!((spray.poll(start), spray.sockets()), (Due::Send(Vec::new()), None));
        assert_eq!(spray.poll(start + AGREES_WITHIN), Due::Dropped);
    }

    #[test]
    fn the_easy_side_tries_each_port_once_at_the_stated_rate_and_no_more_than_stated() {
        for seed in 0..20 {
            let (start, mut spray) = spray(Role::Easy);
            spray.on_agreeing(start, TARGET, &mut Rng::from_number(seed));
            let sent = run(&mut spray);
            let ports: BTreeSet<u16> = sent.iter().map(|(_, link)| link.remote.port()).collect();
            assert_eq!((ports.len(), sent.len()), (PROBES as usize, PROBES as usize), "each once");
            assert!(ports.iter().all(|port| *port >= 1024));
            assert!(sent.iter().all(|(_, link)| link.remote.ip() == TARGET.ip() && link.socket == 0));
            for second in 0..20 {
                let (begin, end) = (start + Duration::from_secs(second), start + Duration::from_secs(second + 1));
                assert!(sent.iter().filter(|(at, _)| (begin..end).contains(at)).count() <= 200);
            }
            let last = sent.last().unwrap().0;
            assert!(sent[0].0 == start + HEAD_START && last < start + LASTS, "{:?}", last - start);
        }
    }

    #[test]
    fn the_hard_side_opens_every_socket_three_times_towards_one_address_only() {
        for is_again in [false, true] {
            let (start, _) = spray(Role::Hard);
            let mut spray = Spray::new(start, Role::Hard, [7; 32], &[ONE], is_again);
            assert!(!spray.on_agreed(start, 1000), "nobody was asked");
            spray.on_asked(start, TARGET);
            assert!(spray.on_agreed(start, 1000) && !spray.on_agreed(start, 2000));
            assert_eq!(spray.sockets(), Some((1000, SOCKETS)));
            let sent = run(&mut spray);
            assert_eq!(spray.deadline(), start + LASTS + TICK);
            for socket in 1000..1000 + SOCKETS {
                assert_eq!(sent.iter().filter(|(_, link)| link.socket == socket).count(), 3);
            }
            assert_eq!(sent.len(), 3 * usize::from(SOCKETS));
            let hops = (!is_again).then_some(NEAR_HOPS);
            assert!(sent.iter().all(|(_, link)| link.remote == TARGET && link.hop_limit == hops));
            let first_round = sent.iter().take(SOCKETS.into()).map(|(at, _)| *at - start).max();
            assert!(first_round < Some(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_hit_stops_it_for_as_long_as_a_proof_takes_and_only_where_the_other_one_is() {
        let (start, mut spray) = spray(Role::Easy);
        assert!(!spray.on_hit(start, TARGET.ip()), "not yet");
        spray.on_agreeing(start, TARGET, &mut Rng::from_number(1));
        let now = start + HEAD_START;
        assert!(matches!(spray.poll(now), Due::Send(links) if links.len() == PROBES_AT_ONCE));
        assert!(!spray.on_hit(now, port(2, 1).ip()));
        assert!(matches!(spray.poll(now), Due::Send(links) if links.len() == PROBES_AT_ONCE));
        assert_eq!([0; 4].map(|_| spray.on_hit(now, TARGET.ip())), [true, true, false, false]);
        assert_eq!(spray.poll(now + TICK), Due::Send(Vec::new()));
        assert!(
            matches!(spray.poll(now + SETTLE), Due::Send(links) if links.len() == PROBES_AT_ONCE),
            "it was nothing"
        );
        run(&mut spray);
        assert_eq!(spray.sent, PROBES);
    }

    /// What the numbers promise: of 256 ports, drawn or in a row, one is met nearly always.
    #[test]
    fn the_ports_that_are_tried_meet_those_that_are_open() {
        let mut rng = Rng::from_number(3);
        let mut missed = [0, 0];
        for _ in 0..300 {
            let (start, mut spray) = spray(Role::Easy);
            spray.on_agreeing(start, TARGET, &mut rng);
            let tried: BTreeSet<u16> = run(&mut spray).iter().map(|(_, link)| link.remote.port()).collect();
            let drawn = (0..SOCKETS).any(|_| tried.contains(&((FIRST_PORT + rng.below(PORTS)) as u16)));
            let first = FIRST_PORT + rng.below(PORTS - u32::from(SOCKETS));
            let in_a_row = (first..first + u32::from(SOCKETS)).any(|port| tried.contains(&(port as u16)));
            missed[0] += u32::from(!drawn);
            missed[1] += u32::from(!in_a_row);
        }
        assert!(missed[0] <= 2 && missed[1] == 0, "{missed:?}");
    }
}
