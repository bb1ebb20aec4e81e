//! Ports that nobody can know are found by trying (PROTOCOL §12.8): a NAT that draws ports against one that lets in only whom it wrote to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use handfast::proto::{CandidateKind, Command, Event, Step};

use crate::mesh_of::{AMPLE, Mesh, is_direct, is_relayed};
use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::INTERNET;
use crate::world::{HostId, Line, World, ms, secs, seeds};

/// Extra sockets of one search, and ports that are tried.
const SOCKETS: usize = 256;
const PROBES: usize = 2048;
/// Three of 10,000 find nothing; the next one begins a minute later, and the one after that five. All of them fail once in 10^10.
const THREE_SEARCHES: u64 = 500;

/// Draws ports, and is met by nobody who does not try them.
const HARD: Behaviour = Behaviour::symmetric();
const EASY: Behaviour = Behaviour::home();

/// With two hubs each knows what its NAT is like, with one it does not.
fn two_homes(seed: u64, hubs: usize, nats: [Behaviour; 2]) -> Mesh {
    Mesh::running(seed, Line::clean(ms(20)), hubs, Some(AMPLE), &nats)
}

/// The two talk, ten times a second, until it is `done` or time is over; how long it took.
fn talk(world: &mut World, one: HostId, other: HostId, limit: u64, done: impl Fn(&World) -> bool) -> Option<Duration> {
    let begin = world.elapsed();
    while world.elapsed() - begin < secs(limit) {
        world.send(one, other);
        world.send(other, one);
        if world.run_until(ms(100), |world| done(world)).is_some() {
            return Some(world.elapsed() - begin);
        }
    }
    None
}

fn until_direct(mesh: &mut Mesh, limit: u64) -> Option<Duration> {
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    talk(&mut mesh.world, one, other, limit, |world| is_direct(world, one, other))
}

/// When a host has asked for sockets.
fn openings(world: &World, host: HostId) -> Vec<Duration> {
    let events = world.hosts[host].events.iter();
    events.filter(|(_, event)| matches!(event, Event::OpenSockets { .. })).map(|(at, _)| *at).collect()
}

/// Whether the last searches have found a path; `None` if there was none.
fn has_sprayed(world: &World, host: HostId, other: HostId) -> Option<bool> {
    let steps = world.status(host, other).steps.into_iter();
    steps.filter_map(|(_, step)| if let Step::Sprayed { found, .. } = step { Some(found) } else { None }).max()
}

/// The places at each address to which a host has sent pings in the clear since it was tapped.
fn tried(world: &World, host: HostId) -> BTreeMap<IpAddr, BTreeSet<SocketAddr>> {
    let mut tried: BTreeMap<_, BTreeSet<SocketAddr>> = BTreeMap::new();
    for datagram in world.tap.iter().flatten() {
        if datagram.from == world.hosts[host].address && datagram.bytes.len() == 34 {
            tried.entry(datagram.to.ip()).or_default().insert(datagram.to);
        }
    }
    tried
}

/// The most places at one address.
fn most_tried(world: &World, host: HostId) -> usize {
    tried(world, host).values().map(BTreeSet::len).max().unwrap_or_default()
}

#[test]
fn a_nat_that_draws_ports_meets_one_that_lets_in_only_whom_it_wrote_to() {
    let mut times = Vec::new();
    for seed in seeds(40) {
        let nats = if seed % 2 == 0 { [HARD, EASY] } else { [EASY, HARD] };
        let mut mesh = two_homes(seed, 2, nats);
        times.push(until_direct(&mut mesh, THREE_SEARCHES).expect("they meet"));
        let (hard, easy) = (mesh.homes[(seed % 2) as usize], mesh.homes[1 - (seed % 2) as usize]);
        // It stays, nothing is lost, and only what is in use stays open.
        talk(&mut mesh.world, hard, easy, 5, |_| false);
        let since = mesh.world.packets_sent();
        talk(&mut mesh.world, hard, easy, 60, |_| false);
        assert!(is_direct(&mesh.world, hard, easy));
        mesh.world.run_for(secs(1));
        assert!(mesh.world.all_delivered_since(since), "something is lost");
        assert!((1..=2).contains(&mesh.world.hosts[hard].outlets.len()), "{:?}", mesh.world.hosts[hard].outlets);
        assert!(openings(&mesh.world, easy).is_empty());
        assert_eq!(
            [(hard, easy), (easy, hard)].map(|(one, other)| has_sprayed(&mesh.world, one, other)),
            [Some(true); 2]
        );
    }
    times.sort_unstable();
    println!("direct after {:?} in the median, {:?} at worst", times[times.len() / 2], times[times.len() - 1]);
}

#[test]
fn every_kind_of_nat_with_many_ports_is_met_by_every_kind_with_one() {
    let filtering = Filtering::AddressAndPortDependent;
    let hard = [
        Behaviour::new(Mapping::AddressDependent, filtering, Ports::Random),
        Behaviour::new(Mapping::AddressAndPortDependent, filtering, Ports::Sequential),
        Behaviour::new(Mapping::AddressAndPortDependent, filtering, Ports::Preserving),
        HARD,
    ];
    let easy =
        [Behaviour::new(Mapping::EndpointIndependent, filtering, Ports::Random), Behaviour { clashes: true, ..EASY }];
    for (seed, hard) in (0..).zip(hard) {
        for easy in easy {
            let mut mesh = two_homes(seed, 2, [hard, easy]);
            assert!(until_direct(&mut mesh, THREE_SEARCHES).is_some(), "{hard:?} {easy:?}");
        }
    }
}

#[test]
fn two_with_many_ports_try_none_and_neither_do_those_who_know_too_little_of_themselves() {
    for (hubs, nats) in [(2, [HARD, HARD]), (1, [HARD, EASY]), (1, [EASY, HARD])] {
        let mut mesh = two_homes(1, hubs, nats);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        mesh.world.tap = Some(Vec::new());
        talk(&mut mesh.world, one, other, 200, |_| false);
        assert!(is_relayed(&mesh.world, one, other));
        for (host, far) in [(one, other), (other, one)] {
            assert_eq!((openings(&mesh.world, host).len(), has_sprayed(&mesh.world, host, far)), (0, None));
            assert!(most_tried(&mesh.world, host) < 40, "{:?}", tried(&mesh.world, host));
        }
    }
}

#[test]
fn who_is_not_found_is_tried_less_and_less_and_all_sockets_are_closed_each_time() {
    let mut mesh = two_homes(1, 2, [HARD, EASY]);
    let (hard, easy) = (mesh.homes[0], mesh.homes[1]);
    // Nothing gets from one to the other but through the hubs.
    mesh.world.set_up(hard, easy, false);
    mesh.world.tap = Some(Vec::new());
    let begin = mesh.world.elapsed();
    let mut most = 0;
    for _ in 0..5000 {
        mesh.world.send(hard, easy);
        mesh.world.run_for(secs(1));
        most = most.max(mesh.world.hosts[hard].outlets.len());
    }
    assert!(is_relayed(&mesh.world, hard, easy));
    assert_eq!(most, SOCKETS);
    let times: Vec<Duration> = openings(&mesh.world, hard).into_iter().map(|at| at - begin).collect();
    assert!((3..=5).contains(&times.len()), "{times:?}");
    let least = [secs(60), secs(300), secs(1800), secs(1800)];
    for (pair, least) in times.windows(2).zip(least) {
        assert!(pair[1] - pair[0] >= least, "{times:?}");
    }
    let tap = mesh.world.tap.as_ref().unwrap();
    let probes =
        tap.iter().filter(|sent| sent.from == mesh.world.hosts[easy].address && sent.bytes.len() == 34).count();
    assert!(probes <= (PROBES + 20) * times.len(), "{probes} probes in {} searches", times.len());
    mesh.world.run_for(secs(60));
    assert!(mesh.world.hosts[hard].outlets.is_empty());
}

#[test]
fn sockets_are_closed_with_the_session() {
    let mut mesh = two_homes(3, 2, [HARD, EASY]);
    let (hard, easy) = (mesh.homes[0], mesh.homes[1]);
    until_direct(&mut mesh, THREE_SEARCHES).expect("they meet");
    mesh.world.run_for(secs(400));
    assert_eq!([mesh.world.session(hard, easy), mesh.world.session(easy, hard)], [None; 2], "unused and gone");
    assert!(mesh.world.hosts[hard].outlets.is_empty());
}

/// Who says that he is where somebody else is, to everybody, does not have that one's ports tried: what counts is where others see him.
#[test]
fn nobody_has_the_ports_of_a_third_one_tried() {
    let mut mesh = two_homes(1, 2, [HARD, EASY]);
    let (liar, easy) = (mesh.homes[0], mesh.homes[1]);
    let victim = IpAddr::from([203, 0, 113, 7]);
    let addresses = (0..8).map(|port| (SocketAddr::new(victim, 2000 + port), CandidateKind::Mapped)).collect();
    mesh.world.command(liar, Command::SetLocal { addresses });
    mesh.world.hosts[liar].has_descriptors = false;
    mesh.world.tap = Some(Vec::new());
    talk(&mut mesh.world, liar, easy, 300, |_| false);
    assert!(!openings(&mesh.world, liar).is_empty(), "it was agreed to");
    let tried = tried(&mesh.world, easy);
    let places = |ip: IpAddr| tried.get(&ip).map_or(0, BTreeSet::len);
    assert!(places(victim) <= 16, "{tried:?}");
    let (searches, most) = (openings(&mesh.world, liar).len(), most_tried(&mesh.world, easy));
    assert!((PROBES..=PROBES * searches + 20).contains(&most), "{most} places in {searches} searches");
}

#[test]
fn whoever_restarts_or_moves_meanwhile_is_met_all_the_same() {
    for seed in seeds(12) {
        let mut mesh = two_homes(seed, 2, [HARD, EASY]);
        let (hard, easy) = (mesh.homes[0], mesh.homes[1]);
        let world = &mut mesh.world;
        world.repeats_allowed = true;
        talk(world, hard, easy, 60, |world| !openings(world, hard).is_empty()).expect("it begins");
        world.run_for(ms(50 * seed));
        match seed % 4 {
            0 => world.restart(hard),
            1 => world.restart(easy),
            which => {
                let (host, nat) = if which == 2 { (hard, HARD) } else { (easy, EASY) };
                let lan = world.add_lan(INTERNET, Some(Way::Nat(nat)), None);
                world.move_to(host, lan);
            }
        }
        talk(world, hard, easy, THREE_SEARCHES, |world| {
            world.session(hard, easy).is_some() && is_direct(world, hard, easy)
        })
        .expect("they meet");
        talk(world, hard, easy, 30, |_| false);
        assert!(
            is_direct(world, hard, easy) && world.hosts[hard].outlets.len() <= 2,
            "{:?}",
            world.hosts[hard].outlets
        );
    }
}
