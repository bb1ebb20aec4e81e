//! What the path carries: datagram packetization-layer path MTU discovery (RFC 8899; PROTOCOL §8.5).
//!
//! Sizes are bytes of UDP payload, which is the whole sealed datagram. The limit starts at [`BASE`], which every path carries, and rises by proof alone: a probe, padded to the
//! size in question, was answered.
//!
//! **Rounds.** All that is asked at a time is one round: up to [`MAX_SIZES`] sizes at once, for sizes that do not arrive cost a timer each, and a dozen datagrams once in ten
//! minutes cost nothing. The first round asks for Ethernet and for jumbo frames; then come the sizes of well-known tunnels; then what is left between the
//! largest that arrived and the smallest that did not is quartered.
//!
//! **Echo.** With every try goes a tiny probe that every path carries. A size has failed if three tries went unanswered *whose echo was answered*: then the path works and only the
//! size does not get through. While no echo comes back, the peer is away or behind a long queue, and nothing is concluded. Otherwise every pause of a second would leave the
//! path at its smallest size for ten minutes, and every queue longer than the probe timer would.
//!
//! **Confirmation.** While datagrams above [`BASE`] leave, the present size is asked for once a second. When it fails, the path has shrunk without a word: the limit falls to
//! [`BASE`] at once, and the search begins again below the size that failed.
//!
//! **Rest.** A session without user traffic asks for nothing: not for its first search, nor for the one that looks every ten minutes whether the path has grown.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hop;
use crate::wire::sealed::MAX_DATAGRAM;

/// What every path carries; the limit never falls below.
pub(crate) const BASE: usize = MAX_DATAGRAM;
/// The largest UDP payload over IPv4.
pub(crate) const LARGEST: usize = 65_507;
/// Length of an echo: as small as it can be without being smaller than the answer to it.
pub(crate) const ECHO: usize = 64;

/// A try is over after this, or after three round trips, whichever is longer.
const PROBE_TIMER: Duration = Duration::from_millis(200);
/// The longest wait for a peer that does not even echo, unless round trips are longer.
const MAX_TIMER: Duration = Duration::from_secs(1);
/// Unanswered tries after which a size has failed.
const TRIES: u8 = 3;
/// Between two confirmations, while large datagrams leave.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// After a search, before the next one (RFC 8899 §5.1.1, PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Sizes asked for at a time, and the room for one that is confirmed along with them.
const MAX_SIZES: usize = 9;
/// The search ends when it knows the path to within so many bytes.
const GRANULARITY: usize = 16;
/// A step that would bring less is not worth its probes.
const LEAST_GAIN: usize = 8;
/// Headers of IP and UDP.
const OVERHEAD_V4: usize = 28;
const OVERHEAD_V6: usize = 48;
/// IP packet on Ethernet.
const ETHERNET: usize = 1500;
/// Path MTUs that networks have: jumbo frames, a cloud's jumbo frames, Ethernet, PPPoE, 6in4, a cloud, WireGuard, and what providers round to.
const KNOWN: [usize; 10] = [9000, 8896, ETHERNET, 1492, 1480, 1460, 1420, 1400, 1380, 1280];

/// The limit of one path, and the search for it.
#[derive(Debug)]
pub(crate) struct PathMtu {
    overhead: usize,
    /// What this side is ready to send over IPv4, and on this path.
    configured: usize,
    max: usize,
    /// The largest size that was proven.
    limit: usize,
    /// The smallest size above it that is known not to arrive; above `max` if there is none.
    ceiling: usize,
    stage: Stage,
    /// A search has ended, and the path has not changed since.
    complete: bool,
    round: Option<Box<Round>>,
    echo: Option<Echo>,
    /// What waits to be sent.
    outgoing: Vec<Probe>,
    next_number: u32,
    rtt: Option<Duration>,
    /// When the limit was proven last.
    confirmed_at: Option<Instant>,
    /// Since the last probe: user traffic, and datagrams larger than [`BASE`].
    traffic: bool,
    large: bool,
}

/// A datagram to be sent: a probe of this number, padded to this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) number: u32,
    pub(crate) size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Begins with the next user traffic.
    Unsearched,
    Searching,
    /// To begin again at this time, if there is traffic.
    Done(Instant),
}

/// Sizes that are asked for together.
#[derive(Debug)]
struct Round {
    /// Those that no answer has come for.
    open: Vec<Probe>,
    /// Tries that are over and were echoed.
    tries: u8,
    /// Tries in a row that were not.
    silent: u32,
    due: Instant,
}

/// The tiny probe of the present try.
#[derive(Clone, Copy, Debug)]
struct Echo {
    number: u32,
    sent_at: Instant,
    answered: bool,
}

impl PathMtu {
    /// A path of which nothing is known, and on which nothing larger than `configured` is to be sent, over IPv6 as much less as its header is longer; with [`BASE`], nothing is
    /// ever asked.
    pub(crate) fn new(remote: SocketAddr, configured: usize) -> Self {
        let overhead = if remote.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        // Through a relay, one of two cables decides, and nobody knows which: what every path carries is enough.
        let configured_here = if hop::is_relayed(remote) { BASE } else { configured };
        let max = (configured_here.min(LARGEST) + OVERHEAD_V4).saturating_sub(overhead).max(BASE);
        Self {
            overhead,
            configured,
            max,
            limit: BASE,
            ceiling: max + 1,
            stage: Stage::Unsearched,
            complete: false,
            round: None,
            echo: None,
            outgoing: Vec::new(),
            next_number: 0,
            rtt: None,
            confirmed_at: None,
            traffic: false,
            large: false,
        }
    }

    /// User data was sent.
    pub(crate) fn on_traffic(&mut self) {
        self.traffic = true;
    }

    /// A datagram larger than [`BASE`] was sent that is no probe.
    pub(crate) fn on_large_sent(&mut self) {
        (self.traffic, self.large) = (true, true);
    }

    /// The peer says that a probe has arrived. False if none such is outstanding: nothing has changed then.
    pub(crate) fn on_answer(&mut self, now: Instant, number: u32, size: usize) -> bool {
        if let Some(echo) = self.echo.as_mut().filter(|echo| echo.number == number && size == ECHO) {
            let first = !std::mem::replace(&mut echo.answered, true);
            if first {
                let sample = now.saturating_duration_since(echo.sent_at);
                self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
            }
            return first;
        }
        let Some(round) = &mut self.round else {
            return false;
        };
        if !round.open.contains(&Probe { number, size }) {
            return false;
        }
        // What is larger than the rest proves the rest.
        round.open.retain(|probe| probe.size > size);
        if let Some(echo) = &mut self.echo {
            echo.answered = true;
        }
        if round.open.is_empty() {
            self.round = None;
        }
        self.outgoing.retain(|probe| probe.size > size || probe.size == ECHO);
        if size >= self.limit {
            (self.limit, self.confirmed_at) = (size, Some(now));
        }
        true
    }

    /// This host refused to send a datagram of `len` bytes, because it is too large.
    pub(crate) fn on_too_big(&mut self, len: usize) {
        if len <= BASE {
            return;
        }
        self.ceiling = self.ceiling.min(len);
        self.outgoing.retain(|probe| probe.size < len);
        if let Some(round) = &mut self.round {
            round.open.retain(|probe| probe.size < len);
            if round.open.is_empty() {
                self.round = None;
            }
        }
        if len <= self.limit {
            self.fall(len);
        }
    }

    /// Packets go to another address: whatever was known is of another path.
    pub(crate) fn on_path_changed(&mut self, remote: SocketAddr) {
        let (next_number, traffic) = (self.next_number, self.traffic);
        *self = Self { next_number, traffic, ..Self::new(remote, self.configured) };
    }

    /// The next probe to send; `rtt` is the round trip as far as others know it. To be called until there is none, after every input.
    pub(crate) fn poll(&mut self, now: Instant, rtt: Option<Duration>) -> Option<Probe> {
        if self.outgoing.is_empty() {
            self.advance(now, rtt);
        }
        let probe = self.outgoing.pop();
        if self.outgoing.is_empty() {
            // A session that asks for nothing keeps no buffer.
            self.outgoing = Vec::new();
        }
        probe
    }

    /// When [`Self::poll`] has something to do, unless something happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if let Some(round) = &self.round {
            // A peer that does not echo is asked again when there is something to send to it.
            return Some(round.due).filter(|_| self.traffic || self.is_echoed());
        }
        let confirm = self.confirm_at();
        let raise = match self.stage {
            Stage::Done(until) if self.traffic && self.limit < self.max => Some(until),
            Stage::Done(_) | Stage::Unsearched | Stage::Searching => None,
        };
        [confirm, raise].into_iter().flatten().min()
    }

    /// The largest datagram that may be sent.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a search has found out what the path carries.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Judges the round that is due, and begins the next one.
    fn advance(&mut self, now: Instant, rtt: Option<Duration>) {
        if let Some(round) = &mut self.round {
            if now < round.due {
                return;
            }
            let echoed = self.echo.is_some_and(|echo| echo.answered);
            if !echoed && !self.traffic {
                return;
            }
            if echoed {
                (round.tries, round.silent) = (round.tries + 1, 0);
            } else {
                round.silent = round.silent.saturating_add(1);
            }
            if round.tries < TRIES {
                self.send_round(now, rtt, echoed);
                return;
            }
            self.on_failed();
        }
        self.begin_round(now, rtt);
    }

    /// The sizes of the round that are still open do not arrive.
    fn on_failed(&mut self) {
        let failed = self.round.take().and_then(|round| round.open.iter().map(|probe| probe.size).min());
        let Some(failed) = failed else {
            return;
        };
        self.ceiling = self.ceiling.min(failed);
        if failed <= self.limit {
            self.fall(failed);
        }
    }

    /// The path does not carry what it was believed to carry.
    fn fall(&mut self, ceiling: usize) {
        (self.limit, self.ceiling, self.confirmed_at) = (BASE, ceiling, None);
        (self.stage, self.complete, self.large) = (Stage::Searching, false, false);
        self.round = None;
        self.outgoing.clear();
    }

    fn begin_round(&mut self, now: Instant, rtt: Option<Duration>) {
        match self.stage {
            Stage::Unsearched if self.traffic && self.max > BASE => self.stage = Stage::Searching,
            Stage::Done(until) if now >= until && self.traffic && self.limit < self.max => {
                (self.stage, self.ceiling) = (Stage::Searching, self.max + 1);
            }
            Stage::Unsearched | Stage::Done(_) | Stage::Searching => {}
        }
        let mut sizes = Vec::new();
        if self.stage == Stage::Searching {
            sizes = self.next_sizes();
            if sizes.is_empty() {
                (self.stage, self.complete) = (Stage::Done(now + RAISE_AFTER), true);
            }
        }
        if self.confirm_at().is_some_and(|at| now >= at) {
            sizes.push(self.limit);
        }
        if sizes.is_empty() {
            return;
        }
        let open = sizes.into_iter().map(|size| Probe { number: self.number(), size }).collect();
        self.round = Some(Box::new(Round { open, tries: 0, silent: 0, due: now }));
        self.send_round(now, rtt, true);
    }

    /// When the present limit wants to be confirmed.
    fn confirm_at(&self) -> Option<Instant> {
        self.confirmed_at.filter(|_| self.large && self.limit > BASE).map(|at| at + CONFIRM_AFTER)
    }

    /// Sends everything that is open once more.
    ///
    /// The sizes keep their numbers, so that a late answer counts; the echo gets a new one if the last was answered.
    fn send_round(&mut self, now: Instant, rtt: Option<Duration>, echoed: bool) {
        let echo = match self.echo.filter(|_| !echoed) {
            // Measured from the last time: too short a round trip does no harm, for the echo is waited for anyway; one with a pause in it would.
            Some(echo) => Echo { sent_at: now, ..echo },
            None => Echo { number: self.number(), sent_at: now, answered: false },
        };
        self.echo = Some(echo);
        let Some(round) = &mut self.round else {
            return;
        };
        let rtt = self.rtt.or(rtt).unwrap_or_default();
        let timer = PROBE_TIMER.max(rtt * 3).saturating_mul(1 << round.silent.min(8));
        round.due = now + timer.min(MAX_TIMER.max(rtt * 3));
        self.outgoing.clear();
        // Taken from the end: the echo leaves first, so that its answer is not the last to come.
        self.outgoing.extend(&round.open);
        self.outgoing.push(Probe { number: echo.number, size: ECHO });
        (self.traffic, self.large) = (false, false);
    }

    fn is_echoed(&self) -> bool {
        self.echo.is_some_and(|echo| echo.answered)
    }

    /// The sizes that the search asks for next, from what has arrived and what has not; none when it is at its end.
    fn next_sizes(&self) -> Vec<usize> {
        let (low, high) = (self.limit, self.ceiling.min(self.max + 1));
        let ethernet = ETHERNET - self.overhead;
        let is_open = |size: &usize| *size >= low + LEAST_GAIN && *size < high;
        let mut sizes: Vec<usize> =
            std::iter::once(self.max).chain(KNOWN.iter().map(|mtu| mtu - self.overhead)).filter(is_open).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes.dedup();
        match sizes.first() {
            Some(&top) if top > ethernet => sizes.into_iter().filter(|&size| size >= ethernet).collect(),
            Some(_) if is_open(&ethernet) => vec![ethernet],
            Some(_) => sizes.into_iter().take(MAX_SIZES).collect(),
            // Between Ethernet and jumbo frames there are no networks worth the time.
            None if low >= ethernet || high - low <= GRANULARITY => Vec::new(),
            None => (1..=3).map(|quarter| low + (high - low) * quarter / 4).filter(is_open).collect(),
        }
    }

    fn number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn v4() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 9))
    }

    fn v6() -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))
    }

    /// A limit, and the path that it is the limit of.
    struct Road {
        now: Instant,
        begun: Instant,
        mtu: PathMtu,
        carries: usize,
        delay: Duration,
        flying: VecDeque<(Instant, Probe)>,
        sent: Vec<(Duration, Probe)>,
        /// Every so many datagrams one is lost.
        loses: Option<usize>,
        /// User data of this size leaves every millisecond.
        load: Option<usize>,
    }

    impl Road {
        fn new(remote: SocketAddr, max: usize, carries: usize) -> Self {
            let now = crate::proto::tests::start();
            Self {
                now,
                begun: now,
                mtu: PathMtu::new(remote, max),
                carries,
                delay: ms(20),
                flying: VecDeque::new(),
                sent: Vec::new(),
                loses: None,
                load: None,
            }
        }

        fn searched(remote: SocketAddr, max: usize, carries: usize) -> Self {
            let mut road = Self::new(remote, max, carries);
            road.mtu.on_traffic();
            assert!(road.run_until(ms(10_000), |road| road.mtu.is_complete()).is_some());
            road.sent.clear();
            road
        }

        fn send(&mut self) {
            while let Some(probe) = self.mtu.poll(self.now, None) {
                self.sent.push((self.now - self.begun, probe));
                let lost = self.loses.is_some_and(|every| self.sent.len().is_multiple_of(every));
                if probe.size <= self.carries && !lost {
                    self.flying.push_back((self.now + self.delay, probe));
                }
            }
        }

        fn tick(&mut self) {
            if let Some(size) = self.load {
                self.mtu.on_traffic();
                if size > BASE {
                    self.mtu.on_large_sent();
                }
            }
            while let Some((_, probe)) = self.flying.pop_front_if(|(at, _)| *at <= self.now) {
                self.mtu.on_answer(self.now, probe.number, probe.size);
            }
            self.send();
            self.now += ms(1);
        }

        fn run(&mut self, duration: Duration) {
            let end = self.now + duration;
            while self.now < end {
                self.tick();
            }
        }

        fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
            let begin = self.now;
            while self.now < begin + limit {
                if done(self) {
                    return Some(self.now - begin);
                }
                self.tick();
            }
            None
        }

        fn sizes(&self) -> Vec<usize> {
            self.sent.iter().map(|(_, probe)| probe.size).filter(|&size| size != ECHO).collect()
        }
    }

    #[test]
    fn ethernet_is_found_in_one_round_trip() {
        for (remote, size) in [(v4(), 1472), (v6(), 1452)] {
            let mut road = Road::new(remote, 8972, size);
            road.mtu.on_traffic();
            assert!(road.run_until(ms(30), |road| road.mtu.limit() == size).is_some());
            let complete = road.run_until(ms(3000), |road| road.mtu.is_complete()).unwrap();
            assert!(complete < ms(700), "jumbo frames take three tries: {complete:?}");
            assert_eq!(road.mtu.limit(), size);
        }
    }

    #[test]
    fn a_host_that_refuses_jumbo_frames_saves_their_time() {
        let mut road = Road::new(v4(), 8972, 1472);
        road.mtu.on_traffic();
        road.tick();
        road.mtu.on_too_big(8972);
        road.mtu.on_too_big(8868);
        road.run(ms(25));
        assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (1472, true));
    }

    #[test]
    fn jumbo_frames_are_found() {
        for (remote, max, carries, size) in [
            (v4(), 8972, 8972, 8972),
            (v6(), 8972, 8952, 8952),
            (v4(), 8972, 8868, 8868),
            (v4(), LARGEST, LARGEST, LARGEST),
            (v4(), LARGEST, 8972, 8972),
            (v4(), 4000, 4000, 4000),
        ] {
            assert_eq!(Road::searched(remote, max, carries).mtu.limit(), size, "{carries}");
        }
    }

    #[test]
    fn the_sizes_of_tunnels_are_found_exactly() {
        for mtu in [1492, 1480, 1460, 1420, 1400, 1380] {
            assert_eq!(Road::searched(v4(), 8972, mtu - 28).mtu.limit(), mtu - 28);
            assert_eq!(Road::searched(v6(), 8972, mtu - 48).mtu.limit(), mtu - 48);
        }
        assert_eq!(Road::searched(v4(), 8972, 1252).mtu.limit(), 1252);
        assert_eq!(Road::searched(v6(), 8972, 1232).mtu.limit(), BASE, "four bytes are not worth their probes");
    }

    proptest! {
        // Over IPv6 the most is 20 bytes less; with less than this there is nothing to search.
        #[test]
        fn any_path_is_found_to_within_the_granularity(carries in BASE..1473_usize, max in BASE + GRANULARITY + 20..9000, ip in any::<bool>()) {
            let road = Road::searched(if ip { v4() } else { v6() }, max, carries);
            let max = if ip { max } else { (max - 20).max(BASE) };
            let most = carries.min(max).min(if ip { 1472 } else { 1452 });
            let limit = road.mtu.limit();
            prop_assert!(limit <= carries.min(max) && limit + GRANULARITY > most, "{limit} of {carries}, at most {max}");
        }

        #[test]
        fn nothing_that_anyone_says_makes_it_leave_its_bounds(
            max in 0..70_000_usize, script in prop::collection::vec((0..8_u8, any::<u16>(), 0..40_u32), 0..300),
        ) {
            let mut now = crate::proto::tests::start();
            let mut mtu = PathMtu::new(v4(), max);
            let mut sent = Vec::new();
            for (step, size, number) in script {
                match step {
                    0 => mtu.on_traffic(),
                    1 => mtu.on_large_sent(),
                    2 => mtu.on_too_big(usize::from(size)),
                    3 => { mtu.on_answer(now, number, usize::from(size)); }
                    4 | 5 => {
                        let place = usize::from(size) % sent.len().max(1);
                        if let Some(&Probe { number, size }) = sent.get(place) {
                            mtu.on_answer(now, number, size);
                        }
                    }
                    6 => mtu.on_path_changed(v6()),
                    _ => now += ms(u64::from(number) * 20),
                }
                let mut probes = 0;
                while let Some(probe) = mtu.poll(now, Some(ms(u64::from(number)))) {
                    prop_assert!(probe.size == ECHO || probe.size > BASE && probe.size <= max.clamp(BASE, LARGEST));
                    sent.push(probe);
                    probes += 1;
                    prop_assert!(probes <= MAX_SIZES + 1, "a round has an end");
                }
                prop_assert!((BASE..=max.clamp(BASE, LARGEST)).contains(&mtu.limit()));
            }
        }
    }

    #[test]
    fn who_may_send_nothing_larger_asks_for_nothing() {
        for max in [0, 1000, BASE] {
            let mut road = Road::new(v4(), max, 9000);
            road.load = Some(BASE);
            road.run(ms(5000));
            assert!(road.sent.is_empty());
            assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (BASE, false));
        }
    }

    #[test]
    fn an_idle_path_is_asked_nothing() {
        let mut road = Road::new(v4(), 8972, 1472);
        road.run(ms(60_000));
        assert!(road.sent.is_empty());
        let mut road = Road::searched(v4(), 8972, 1472);
        road.run(ms(1_300_000));
        assert_eq!((road.sent.len(), road.mtu.deadline()), (0, None));
    }

    #[test]
    fn a_tenth_lost_does_not_end_the_search() {
        for every in 5..30 {
            let mut road = Road::new(v4(), 8972, 1472);
            road.loses = Some(every);
            road.load = Some(1000);
            assert!(road.run_until(ms(10_000), |road| road.mtu.is_complete()).is_some());
            assert_eq!(road.mtu.limit(), 1472, "one of {every} lost");
        }
    }

    #[test]
    fn large_datagrams_are_confirmed_every_second_and_small_ones_never() {
        let mut road = Road::searched(v4(), 8972, 1472);
        road.load = Some(BASE);
        road.run(ms(5000));
        assert!(road.sizes().is_empty());
        road.load = Some(1400);
        road.run(ms(10_000));
        let sizes = road.sizes();
        assert!((9..=11).contains(&sizes.len()) && sizes.iter().all(|&size| size == 1472), "{sizes:?}");
    }

    #[test]
    fn traffic_that_resumes_is_confirmed_at_once() {
        let mut road = Road::searched(v4(), 8972, 1472);
        road.run(ms(20_000));
        road.mtu.on_large_sent();
        road.tick();
        assert_eq!(road.sizes(), [1472]);
    }

    #[test]
    fn a_path_that_shrinks_is_noticed_within_two_seconds_and_searched_again() {
        for (carries, found) in [(1400, 1392), (BASE, BASE)] {
            let mut road = Road::searched(v4(), 8972, 1472);
            road.load = Some(1400);
            road.run(ms(3210));
            road.carries = carries;
            road.sent.clear();
            let noticed = road.run_until(ms(3000), |road| road.mtu.limit() == BASE).unwrap();
            assert!(noticed < ms(1650), "{noticed:?}");
            assert!(!road.mtu.is_complete());
            assert_eq!(road.sizes()[..3], [1472; 3], "three tries");
            road.sent.drain(..6);
            road.run(ms(5000));
            assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (found, true));
            assert!(!road.sizes().contains(&1472), "what has just failed is not tried again");
            road.carries = 1472;
            let raised = road.run_until(ms(620_000), |road| road.mtu.limit() == 1472).unwrap();
            assert!(raised > ms(590_000), "{raised:?}");
        }
    }

    #[test]
    fn a_pause_of_the_whole_line_is_not_taken_for_a_small_path() {
        let mut road = Road::searched(v4(), 8972, 1472);
        road.load = Some(1400);
        road.run(ms(3000));
        road.carries = 0;
        road.run(ms(30_000));
        assert_eq!(road.mtu.limit(), 1472);
        let during = road.sent.len();
        assert!(during < 2 * 50, "{during} probes in half a minute");
        road.carries = 1472;
        road.sent.clear();
        road.run(ms(5000));
        assert_eq!(road.mtu.limit(), 1472);
    }

    #[test]
    fn a_queue_of_two_seconds_is_not_taken_for_a_small_path() {
        for begin in [0, 3000] {
            let mut road = Road::new(v4(), 8972, 1472);
            road.load = Some(1400);
            road.run(ms(begin));
            road.delay = ms(2000);
            road.run(ms(60_000));
            assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (1472, true), "after {begin} ms");
        }
    }

    #[test]
    fn a_search_without_echo_waits_for_traffic() {
        let mut road = Road::new(v4(), 8972, 0);
        road.mtu.on_traffic();
        road.run(ms(60_000));
        assert_eq!((road.sent.len(), road.mtu.deadline()), (4, None), "one try");
        road.carries = 1472;
        road.mtu.on_traffic();
        assert!(road.run_until(ms(2000), |road| road.mtu.is_complete()).is_some());
        assert_eq!(road.mtu.limit(), 1472);
    }

    #[test]
    fn what_the_host_refuses_is_not_sent_again() {
        let mut road = Road::searched(v4(), 8972, 1472);
        road.mtu.on_too_big(1472);
        assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (BASE, false));
        road.carries = 1400;
        road.run(ms(5000));
        assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (1392, true));
        assert!(road.sizes().iter().all(|&size| size < 1472));
        road.mtu.on_too_big(BASE);
        assert_eq!(road.mtu.limit(), 1392, "every path carries that; it was another error");
    }

    #[test]
    fn another_address_is_another_path() {
        let mut road = Road::searched(v4(), 8972, 1472);
        road.mtu.on_path_changed(v6());
        assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (BASE, false));
        road.carries = 1452;
        road.load = Some(100);
        road.run(ms(2000));
        assert_eq!((road.mtu.limit(), road.mtu.is_complete()), (1452, true));
    }

    #[test]
    fn only_the_answer_to_what_is_outstanding_counts() {
        let now = crate::proto::tests::start();
        let mut mtu = PathMtu::new(v4(), 8972);
        assert!(!mtu.on_answer(now, 0, 1472), "nothing was asked");
        mtu.on_traffic();
        let probes: Vec<Probe> = std::iter::from_fn(|| mtu.poll(now, None)).collect();
        let ethernet = *probes.iter().find(|probe| probe.size == 1472).unwrap();
        for (number, size) in [(ethernet.number, 1471), (ethernet.number, 8972), (ethernet.number + 9, 1472)] {
            assert!(!mtu.on_answer(now, number, size));
        }
        assert_eq!(mtu.limit(), BASE);
        assert!(mtu.on_answer(now, ethernet.number, 1472));
        assert!(!mtu.on_answer(now, ethernet.number, 1472), "once");
        assert_eq!(mtu.limit(), 1472);
    }

    #[test]
    fn a_deadline_is_never_in_the_past_of_a_path_that_has_been_polled() {
        let mut road = Road::new(v4(), 8972, 1400);
        road.load = Some(1300);
        for _ in 0..20_000 {
            road.tick();
            assert!(road.mtu.deadline().is_none_or(|at| at >= road.now - ms(1)));
        }
    }
}
