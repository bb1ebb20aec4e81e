//! A peer that answers, or does not, at several addresses.

use std::time::{Duration, Instant};

use super::*;
use crate::base::PeerIndex;

const MS: Duration = Duration::from_millis(1);

fn link(port: u16) -> Link {
    Link::to(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn relayed() -> Link {
    relayed_by(1)
}

fn relayed_by(relay: u32) -> Link {
    Link::to(hop::relayed(PeerIndex(relay), 7))
}

/// The world around the agent: which addresses answer, after how long, and what they carry.
struct Peer {
    paths: Paths,
    rng: Rng,
    now: Instant,
    /// Address, round trip, and whether it carries full datagrams.
    answers: Vec<(SocketAddr, Duration, bool)>,
    flying: Vec<(Instant, Link, [u8; 32])>,
    pings: Vec<(Instant, SocketAddr, bool)>,
    moves: Vec<(Duration, Moved)>,
    start: Instant,
}

impl Peer {
    fn new(first: Link) -> Self {
        let now = crate::proto::tests::start();
        let mut peer = Self {
            paths: Paths::new(now, first),
            rng: Rng::from_number(1),
            now,
            answers: Vec::new(),
            flying: Vec::new(),
            pings: Vec::new(),
            moves: Vec::new(),
            start: now,
        };
        peer.answer(first, 20);
        peer
    }

    fn answer(&mut self, link: Link, rtt: u32) {
        self.silence(link);
        self.answers.push((link.remote, MS * rtt, true));
    }

    fn silence(&mut self, link: Link) {
        self.answers.retain(|(address, ..)| *address != link.remote);
    }

    fn add(&mut self, link: Link) {
        self.paths.add(self.now, link, CandidateKind::Observed);
    }

    /// A millisecond at a time.
    fn run(&mut self, ms: u32) {
        for _ in 0..ms {
            self.now += MS;
            let now = self.now;
            while let Some(position) = self.flying.iter().position(|(at, ..)| *at <= now) {
                let (_, link, cookie) = self.flying.remove(position);
                let moved = self.paths.on_answer(now, link, &cookie, true);
                self.moves.extend(moved.flatten().map(|moved| (now - self.start, moved)));
            }
            let moved = self.paths.handle_timeout(now);
            self.moves.extend(moved.map(|moved| (now - self.start, moved)));
            while let Some(ping) = self.paths.poll_ping(now, &mut self.rng) {
                self.pings.push((now, ping.link.remote, ping.full));
                let known = self.answers.iter().find(|(address, ..)| *address == ping.link.remote);
                if let Some((_, rtt, carries)) = known.filter(|(.., carries)| *carries || !ping.full) {
                    let _ = carries;
                    self.flying.push((now + *rtt, ping.link, ping.cookie));
                }
            }
        }
    }
}

#[test]
fn a_direct_path_replaces_a_relayed_one_when_it_has_carried_full_size_both_ways() {
    let mut peer = Peer::new(relayed());
    peer.answer(link(1), 40);
    peer.add(link(1));
    peer.run(1000);
    assert_eq!(peer.paths.link(), link(1));
    assert_eq!(peer.moves.len(), 1);
    assert!(peer.moves[0].0 < MS * 100, "two round trips: {:?}", peer.moves);
    let full: Vec<bool> =
        peer.pings.iter().filter(|(_, to, _)| *to == link(1).remote).map(|(.., full)| *full).collect();
    assert_eq!(full[..2], [false, true]);
}

#[test]
fn a_path_that_answers_pings_and_loses_full_datagrams_is_never_taken() {
    let mut peer = Peer::new(relayed());
    peer.answers.push((link(1).remote, MS * 5, false));
    peer.add(link(1));
    peer.run(60_000);
    assert_eq!(peer.paths.link(), relayed());
    assert!(peer.moves.is_empty());
}

#[test]
fn a_little_faster_is_not_better_and_much_faster_is() {
    let mut peer = Peer::new(link(1));
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 500), others: true });
    peer.answer(link(2), 18);
    peer.answer(link(3), 5);
    peer.add(link(2));
    peer.run(3000);
    assert_eq!(peer.paths.link(), link(1), "18 ms for 20 ms");
    peer.add(link(3));
    peer.run(3000);
    assert_eq!(peer.paths.link(), link(3), "5 ms for 20 ms");
}

#[test]
fn what_nobody_has_measured_is_not_left_for_another_that_is_as_far() {
    let mut peer = Peer::new(link(1));
    peer.answer(link(1), 150);
    peer.answer(relayed(), 140);
    peer.paths.add(peer.now, relayed(), CandidateKind::Relayed);
    peer.run(500);
    peer.paths.on_doubt(peer.now);
    peer.run(2000);
    assert_eq!((peer.paths.link(), &peer.moves), (link(1), &Vec::new()));
}

#[test]
fn a_path_that_comes_into_use_is_measured_and_left_for_a_better_one() {
    let mut peer = Peer::new(link(1));
    peer.answer(link(2), 5);
    peer.add(link(2));
    peer.run(2000);
    assert_eq!(peer.paths.link(), link(1), "nobody knows whether it is better");
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 20_000), others: true });
    peer.run(1000);
    assert_eq!(peer.paths.link(), link(2));
}

#[test]
fn of_two_relays_the_one_is_taken_through_which_64_kib_get_sooner() {
    let kilobytes = |count: u64| Capacity::of(count << 10);
    // Exponents 2 and 10: 250 ms and 1 ms besides the round trip.
    for (near, far, taken) in [(256, 65_536, 2), (65_536, 65_536, 1), (65_536, 256, 1), (256, 256, 1)] {
        let mut peer = Peer::new(relayed_by(1));
        peer.answer(relayed_by(1), 20);
        peer.answer(relayed_by(2), 80);
        peer.paths.add_relayed(peer.now, relayed_by(1).remote, kilobytes(near));
        peer.paths.add_relayed(peer.now, relayed_by(2).remote, kilobytes(far));
        peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 500), others: true });
        peer.run(3000);
        assert_eq!(peer.paths.link(), relayed_by(taken), "{near} and {far} KiB/s");
        assert!(peer.moves.len() <= 1, "{:?}", peer.moves);
    }
}

#[test]
fn a_relay_that_gives_less_than_before_is_left() {
    let mut peer = Peer::new(relayed_by(1));
    for (relay, rtt) in [(1, 20), (2, 40)] {
        peer.answer(relayed_by(relay), rtt);
        peer.paths.add_relayed(peer.now, relayed_by(relay).remote, Capacity::AMPLE);
    }
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 500), others: true });
    peer.run(3000);
    assert_eq!(peer.paths.link(), relayed_by(1));
    peer.paths.add_relayed(peer.now, relayed_by(1).remote, Capacity::of(125_000));
    peer.run(3000);
    assert_eq!(peer.paths.link(), relayed_by(2));
}

#[test]
fn a_dead_primary_is_left_within_half_a_second_of_doubt_for_one_that_is_warm() {
    let mut peer = Peer::new(link(1));
    peer.answer(relayed(), 60);
    peer.paths.add(peer.now, relayed(), CandidateKind::Relayed);
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 500), others: true });
    peer.run(2000);
    assert_eq!(peer.paths.link(), link(1));
    peer.silence(link(1));
    let doubt = peer.now - peer.start;
    peer.paths.on_doubt(peer.now);
    peer.run(500);
    assert_eq!(peer.paths.link(), relayed());
    assert!(peer.moves[0].1.died && peer.moves[0].0 - doubt < MS * 300, "{:?}", peer.moves);
    // And back, when it works again.
    peer.answer(link(1), 20);
    peer.run(30_000);
    assert_eq!(peer.paths.link(), link(1));
}

/// So user data is never without an answer, whatever becomes of what is sent.
#[test]
fn a_dead_primary_is_left_within_a_second_though_the_peer_goes_on_sending_on_another_path() {
    let go_on = |peer: &mut Peer, ms: u32| {
        for _ in 0..ms / 10 {
            peer.paths.on_packet(peer.now, relayed_by(2), true);
            peer.run(10);
        }
    };
    for before in (7000..9000).step_by(170) {
        let mut peer = Peer::new(relayed());
        peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 20_000), others: true });
        peer.answer(relayed_by(2), 20);
        peer.add(relayed_by(2));
        go_on(&mut peer, before);
        assert!(peer.moves.is_empty(), "while it works, nothing moves");
        assert!(peer.pings.len() < 40, "{} pings", peer.pings.len());
        peer.silence(relayed());
        let died = peer.now - peer.start;
        go_on(&mut peer, 1500);
        let (moved, what) = peer.moves.pop().expect("the dead path is left");
        assert!(what.died && moved - died < MS * 1000, "after {:?}", moved - died);
    }
}

#[test]
fn doubt_about_a_path_that_works_costs_a_ping_and_moves_nothing() {
    let mut peer = Peer::new(link(1));
    peer.answer(link(2), 25);
    peer.add(link(2));
    peer.run(2000);
    peer.pings.clear();
    for _ in 0..600 {
        // Packets of the peer arrive from its other address all the time.
        peer.paths.on_packet(peer.now, link(2), true);
        peer.run(100);
    }
    assert_eq!(peer.paths.link(), link(1));
    assert!(peer.moves.is_empty());
    assert!(peer.pings.len() <= 3 * 90, "{} pings in a minute", peer.pings.len());
}

#[test]
fn traffic_follows_a_peer_that_has_moved() {
    let mut peer = Peer::new(link(1));
    peer.silence(link(1));
    peer.answer(link(2), 30);
    peer.paths.on_packet(peer.now, link(2), false);
    peer.run(50);
    assert!(peer.pings.is_empty(), "an old packet starts nothing");
    peer.paths.on_packet(peer.now, link(2), true);
    peer.run(500);
    assert_eq!(peer.paths.link(), link(2));
}

#[test]
fn an_answer_counts_only_with_its_cookie_and_for_the_address_to_which_the_ping_went() {
    let (now, mut rng) = (crate::proto::tests::start(), Rng::from_number(1));
    let mut paths = Paths::new(now, link(1));
    paths.on_packet(now, link(2), true);
    let pings: Vec<PathPing> = std::iter::from_fn(|| paths.poll_ping(now, &mut rng)).collect();
    let ping = pings.iter().find(|ping| ping.link == link(2)).unwrap();
    assert!(paths.on_answer(now, link(2), &[0; 32], true).is_none(), "the wrong cookie from there");
    let status =
        |paths: &Paths| paths.status(now).into_iter().map(|path| (path.hop, path.rtt.is_some())).collect::<Vec<_>>();
    let before = status(&paths);
    // A symmetric NAT sends the answer from another port than the one that the ping went to.
    assert!(paths.on_answer(now, link(3), &ping.cookie, true).is_some());
    assert_ne!(status(&paths), before);
    assert!(status(&paths).contains(&(hop::hop(link(2).remote), true)));
    assert!(
        !status(&paths).iter().any(|(known, _)| *known == hop::hop(link(3).remote)),
        "nothing is said of where it came from"
    );
    assert_eq!(paths.link(), link(1), "a small one moves nothing");
    assert!(paths.on_answer(now, link(2), &ping.cookie, true).is_none(), "a repeated answer is none");
}

#[test]
fn without_any_answer_the_session_is_lost_after_a_second_and_pings_become_rare() {
    let mut peer = Peer::new(link(1));
    peer.silence(link(1));
    peer.paths.on_doubt(peer.now);
    peer.run(900);
    let lost = |peer: &Peer| peer.paths.lost_at().is_some_and(|at| peer.now >= at);
    assert!(!lost(&peer));
    peer.run(200);
    assert!(lost(&peer));
    peer.pings.clear();
    peer.run(600_000);
    assert!(peer.pings.len() < 120, "{} pings in ten minutes", peer.pings.len());
}

#[test]
fn what_is_idle_is_not_pinged() {
    let mut peer = Peer::new(link(1));
    peer.answer(link(2), 25);
    peer.add(link(2));
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 20_000), others: true });
    peer.run(100_000);
    let kept = peer.pings.len();
    assert!((8..20).contains(&kept), "{kept} pings in 100 s");
    peer.paths.set_upkeep(peer.now, Upkeep::default());
    peer.pings.clear();
    peer.run(100_000);
    assert_eq!(peer.pings.len(), 0);
}

#[test]
fn silent_addresses_are_tried_a_few_times_and_their_number_is_bounded() {
    let mut peer = Peer::new(link(1));
    for port in 100..200 {
        peer.add(link(port));
        peer.run(10);
    }
    assert!(peer.paths.status(peer.now).len() <= MAX_CANDIDATES);
    peer.pings.clear();
    peer.run(60_000);
    assert!(peer.pings.len() <= 6 * MAX_CANDIDATES, "{}", peer.pings.len());
    assert_eq!(peer.paths.link(), link(1));
}

#[test]
fn an_introduced_peer_is_where_it_is_heard_first() {
    let now = crate::proto::tests::start();
    let mut paths = Paths::tentative(now, link(1));
    assert!(paths.on_packet(now, relayed(), true), "not where it was expected");
    assert_eq!(paths.link(), relayed());
    assert!(paths.on_packet(now, link(2), true), "until the session is confirmed, the last packet counts");
    assert!(paths.on_packet(now, relayed(), true));
    assert!(paths.rotate(now), "a way that leads nowhere is left for the next one");
    assert_eq!(paths.link(), link(2));
    paths.on_packet(now, relayed(), true);
    paths.on_confirmed();
    assert!(!paths.on_packet(now, link(3), true), "from now on an address has to prove itself");
    assert!(!paths.rotate(now));
    assert_eq!(paths.link(), relayed());
}

#[test]
fn whether_an_address_is_heard_or_named_first_makes_no_difference() {
    let kinds = |peer: &Peer| peer.paths.status(peer.now).iter().map(|path| path.kind).collect::<Vec<_>>();
    let mut peer = Peer::new(link(1));
    peer.paths.hear(peer.now, link(2));
    assert_eq!(kinds(&peer), [CandidateKind::Heard; 2]);
    peer.add(link(2));
    assert_eq!(kinds(&peer)[1], CandidateKind::Observed);
    for port in [2, 3] {
        peer.paths.add(peer.now, link(port), CandidateKind::Mapped);
        peer.add(link(port));
        peer.paths.hear(peer.now, link(port));
    }
    assert_eq!(kinds(&peer), [CandidateKind::Heard, CandidateKind::Mapped, CandidateKind::Mapped]);
    peer.run(10_000);
    let pings = |port| peer.pings.iter().filter(|(_, to, _)| *to == link(port).remote).count();
    assert_eq!((pings(2), pings(3)), (6, 6));
}

#[test]
fn an_address_that_was_asked_in_vain_is_not_told_as_one_that_was_never_asked() {
    let mut peer = Peer::new(relayed());
    peer.paths.set_upkeep(peer.now, Upkeep { primary: Some(MS * 20_000), others: true });
    peer.add(link(2));
    let unanswered = |peer: &Peer| peer.paths.status(peer.now)[1].unanswered;
    assert_eq!(unanswered(&peer), 0);
    for second in 1..60 {
        peer.run(1000);
        assert!(unanswered(&peer) >= 1, "after {second} s");
    }
}

#[test]
fn packets_from_an_address_that_does_not_answer_have_it_asked_by_four_pings_however_many_they_are() {
    let mut peer = Peer::new(link(1));
    for number in 0..140 {
        peer.paths.on_packet(peer.now, link(2 + number % 5), true);
        peer.run(10);
    }
    for port in 2..7 {
        let pings = peer.pings.iter().filter(|(_, address, _)| *address == link(port).remote).count();
        assert_eq!(pings, if port < 4 { 4 } else { 0 }, "port {port}");
    }
}

#[test]
fn the_way_on_which_the_handshake_ended_is_held_open_whether_it_was_the_first_or_not() {
    let now = crate::proto::tests::start();
    let mut paths = Paths::tentative(now, link(1));
    paths.add(now, relayed(), CandidateKind::Relayed);
    assert!(paths.rotate(now));
    assert!(!paths.on_packet(now, relayed(), true), "where it was tried");
    paths.on_confirmed();
    assert_eq!(paths.alive_besides(), [], "what has led nowhere is nothing to tell of");
    paths.set_upkeep(now, Upkeep { primary: Some(Duration::from_secs(20)), others: false });
    // The first one has its round of pings; what remains is the upkeep.
    let mut rng = Rng::from_number(1);
    let mut at = now;
    let mut held = 0;
    while at < now + Duration::from_secs(120) {
        at += MS * 100;
        while let Some(ping) = paths.poll_ping(at, &mut rng) {
            held += usize::from(ping.link == relayed());
        }
    }
    assert!(held > 0, "nothing holds the way open");
}

#[test]
fn a_peer_that_names_addresses_without_end_has_few_of_them_pinged() {
    let mut peer = Peer::new(link(1));
    for millisecond in 0..2_000u16 {
        peer.add(link(1000 + millisecond * 10));
        peer.run(1);
    }
    assert!(peer.pings.len() <= 64 + 2 * 20, "{} in two seconds", peer.pings.len());
    // One round of as many as there is room for is not held up.
    let mut peer = Peer::new(link(1));
    (100..115).for_each(|port| peer.add(link(port)));
    peer.run(1_000);
    assert_eq!(peer.pings.len(), 15 * 4);
}

#[test]
fn one_address_through_two_sockets_is_two_ways_and_a_socket_is_needed_until_its_way_was_given_up() {
    let start = crate::proto::tests::start();
    let mut rng = Rng::from_number(1);
    let mut paths = Paths::new(start, relayed());
    for link in [link(1), link(1).through(7), link(1).through(8), link(1).through(7)] {
        paths.add(start, link, CandidateKind::Heard);
    }
    let mut pings: Vec<PathPing> = std::iter::from_fn(|| paths.poll_ping(start, &mut rng)).collect();
    assert_eq!(pings.iter().map(|ping| ping.link.socket).collect::<Vec<_>>(), [0, 7, 8], "each is asked for itself");
    assert_eq!(paths.sockets().collect::<Vec<_>>(), [7, 8]);
    assert!(paths.knows(link(1).remote) && !paths.knows(link(2).remote));
    // One answers, then in full size as well; the others never do.
    let ping = pings.remove(1);
    let mut now = start + MS * 20;
    assert_eq!(paths.on_answer(now, ping.link, &ping.cookie, false), Some(None));
    assert!(paths.is_heard_at(now, ping.link.remote.ip(), start));
    assert!(!paths.is_heard_at(now, relayed().remote.ip(), now + MS));
    while paths.is_relayed() {
        now += MS;
        while let Some(ping) = paths.poll_ping(now, &mut rng) {
            if ping.link.socket == 7 {
                paths.on_answer(now, ping.link, &ping.cookie, ping.full);
            }
        }
        assert!(now < start + MS * 1000);
    }
    assert_eq!(paths.link(), link(1).through(7));
    for _ in 0..600 {
        now += MS * 100;
        while paths.poll_ping(now, &mut rng).is_some() {}
    }
    assert!(!paths.sockets().any(|socket| socket == 8), "given up");
}

#[test]
fn a_peer_whose_every_ping_comes_from_elsewhere_is_asked_at_few_addresses() {
    for (upkeep, most) in [(None, 8), (Some(MS * 20_000), 8 + 10)] {
        let mut peer = Peer::new(link(1));
        peer.paths.set_upkeep(peer.now, Upkeep { primary: upkeep, others: upkeep.is_some() });
        for port in 100..200 {
            peer.answer(link(port), 20);
            peer.paths.on_ping(peer.now, link(port));
            peer.run(100);
        }
        let asked: std::collections::BTreeSet<_> = peer.pings.iter().map(|(_, to, _)| *to).collect();
        assert!(asked.len() <= most + 1, "{} addresses in ten seconds", asked.len());
    }
}
