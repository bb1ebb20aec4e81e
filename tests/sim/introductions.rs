//! Being introduced: how soon, by whom, and what becomes of it when something is not as it should be.
//!
//! A round trip is that of the Internet line, 40 ms here: hub and members are each 20 ms apart. Lines within a LAN take no time that counts.

use std::collections::BTreeSet;
use std::time::Duration;

use handfast::proto::{Hop, RelayLimits, Step};

use crate::mesh_of::{AMPLE, Mesh, is_direct, is_relayed, primary, reach};
use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::INTERNET;
use crate::world::{Families, HostId, Line, World, ms, secs, seeds};

const DELAY: Duration = ms(20);
const ROUND_TRIP: Duration = ms(40);
/// Statuses of an acknowledgement (PROTOCOL §9.1).
const ACCEPTED: u8 = 0;
const UNKNOWN_TARGET: u8 = 1;
const REFUSED: u8 = 2;
const BAD_SIGNATURE: u8 = 3;
const UNREACHABLE: u8 = 4;

fn two_homes(seed: u64, hubs: usize, relay: Option<RelayLimits>, nats: [Behaviour; 2]) -> Mesh {
    Mesh::running(seed, Line::clean(DELAY), hubs, relay, &nats)
}

fn steps(world: &World, host: HostId, other: HostId) -> Vec<(Duration, Step)> {
    world.status(host, other).steps
}

fn statuses(world: &World, host: HostId, other: HostId) -> BTreeSet<u8> {
    let statuses = steps(world, host, other)
        .into_iter()
        .filter_map(|(_, step)| if let Step::Acknowledged(_, status) = step { Some(status) } else { None });
    statuses.collect()
}

/// Ends the session of two members by letting nobody use it.
fn let_idle(world: &mut World, one: HostId, other: HostId) {
    world.run_for(secs(400));
    assert_eq!([world.session(one, other), world.session(other, one)], [None, None], "unused and gone");
}

#[test]
fn the_first_packet_is_delivered_directly_within_two_round_trips_of_the_request() {
    for seed in seeds(20) {
        let mut mesh = two_homes(seed, 1, None, [Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        // Where the other one is has to be asked: one round trip before the request.
        let took = reach(&mut mesh.world, one, other, secs(5)).expect("they meet");
        assert!(took <= ROUND_TRIP * 3 + ms(15), "{took:?} with a question");
        mesh.world.run_for(ROUND_TRIP);
        assert!(is_direct(&mesh.world, one, other));
        for _ in 0..100 {
            mesh.world.send(one, other);
            mesh.world.send(other, one);
            mesh.world.run_for(ms(20));
        }
        mesh.world.run_for(secs(1));
        assert!(mesh.world.all_delivered_since(0), "nothing is lost");
        assert_eq!(mesh.world.status(one, other).traffic.sessions, 1);
    }
}

#[test]
fn whoever_knows_the_nonce_needs_no_question() {
    for seed in seeds(20) {
        let mut mesh = two_homes(seed, 1, None, [Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        reach(&mut mesh.world, one, other, secs(5)).expect("they meet");
        let world = &mut mesh.world;
        let_idle(world, one, other);
        let asked = steps(world, one, other).iter().filter(|(_, step)| matches!(step, Step::Asked(_))).count();
        let since = world.packets_sent();
        for _ in 0..20 {
            world.send(one, other);
        }
        let last = world.packets_sent() - 1;
        // Where it was last is greeted first, and its router lets nothing in; then comes the request.
        let took = world.run_until(secs(5), |world| world.is_delivered(last)).expect("they meet again");
        let requested = steps(world, one, other)
            .iter()
            .rev()
            .find_map(|(ago, step)| matches!(step, Step::Requested(_)).then_some(*ago));
        let from_request = requested.expect("an introduction");
        assert!(from_request <= ROUND_TRIP * 2 + ms(15), "{from_request:?} from the request, {took:?} in all");
        world.run_for(secs(1));
        assert!(world.all_delivered_since(since), "nothing is lost");
        let asked_now = steps(world, one, other).iter().filter(|(_, step)| matches!(step, Step::Asked(_))).count();
        assert_eq!(asked_now, asked, "nothing was asked");
    }
}

#[test]
fn a_nonce_that_is_too_old_is_renewed() {
    for seed in seeds(10) {
        let mut mesh = two_homes(seed, 1, None, [Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        let world = &mut mesh.world;
        reach(world, one, other, secs(5)).expect("they meet");
        let_idle(world, one, other);
        // It forgets its nonce and makes another.
        world.restart(other);
        world.run_for(secs(2));
        reach(world, one, other, secs(5)).expect("they meet again");
        // The session may overtake the acknowledgement of the second introduction.
        assert!(statuses(world, one, other).contains(&BAD_SIGNATURE));
        assert!(steps(world, one, other).iter().any(|(_, step)| matches!(step, Step::Introduced(_))));
    }
}

#[test]
fn whoever_is_gone_is_unreachable_and_whoever_does_not_know_the_asker_says_so() {
    let mut mesh = two_homes(1, 1, Some(AMPLE), [Behaviour::symmetric(); 2]);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    let world = &mut mesh.world;
    reach(world, one, other, secs(5)).expect("they meet");
    let_idle(world, one, other);
    world.kill(other);
    world.run_for(secs(1));
    world.send(one, other);
    world.run_for(secs(8));
    assert!(statuses(world, one, other).contains(&UNREACHABLE), "{:?}", steps(world, one, other));

    // It comes back, and has struck the asker off its list.
    world.hosts[other].known.remove(&one);
    world.start(other);
    world.run_for(secs(30));
    for _ in 0..8 {
        world.send(one, other);
        world.run_for(secs(1));
    }
    assert!(statuses(world, one, other).contains(&UNKNOWN_TARGET), "{:?}", steps(world, one, other));
    assert_eq!(world.session(one, other), None);
}

#[test]
fn an_address_that_nobody_may_write_to_is_refused() {
    // A hub inside of a carrier sees a customer at an address that means nothing outside.
    let mut world = World::empty(1, Line::clean(DELAY));
    let carrier = world.add_carrier(Behaviour::home());
    let hub = world.add_host(carrier, Families::V4);
    let lan = world.add_lan(carrier, Some(Way::Nat(Behaviour::home())), None);
    let asker = world.add_host(lan, Families::V4);
    let target = world.add_host(INTERNET, Families::V4);
    world.publish(&[hub]);
    world.hosts[target].known.get_mut(&hub).unwrap().endpoints.clear();
    let at = world.hosts[target].address;
    world.hosts[hub].known.get_mut(&target).unwrap().endpoints = vec![at];
    for host in [target, hub, asker] {
        world.start(host);
    }
    world.run_for(secs(5));
    assert!(world.session(hub, target).is_some() && world.session(hub, asker).is_some());
    world.tap = Some(Vec::new());
    world.send(asker, target);
    world.run_for(secs(4));
    assert!(statuses(&world, asker, target).contains(&REFUSED), "{:?}", steps(&world, asker, target));
    let shared = |ip: std::net::IpAddr| ip.to_string().starts_with("100.64.");
    let written = world.tap.take().unwrap_or_default();
    assert!(!written.iter().any(|datagram| datagram.from == at && shared(datagram.to.ip())), "nothing was sent there");
}

#[test]
fn of_several_addresses_the_one_that_works_is_found() {
    for seed in seeds(10) {
        // Nobody gets through in IPv4; a firewall that is opened by what leaves stands before IPv6.
        let mut world = World::empty(seed, Line::clean(DELAY));
        let hub = world.add_host(INTERNET, Families::BOTH);
        let homes = [0, 1].map(|_| {
            let firewall = Way::Firewall(Filtering::AddressAndPortDependent);
            let lan = world.add_lan(INTERNET, Some(Way::Nat(Behaviour::symmetric())), Some(firewall));
            world.add_host(lan, Families::BOTH)
        });
        world.publish(&[hub]);
        for host in [hub, homes[0], homes[1]] {
            world.start(host);
        }
        world.run_for(secs(5));
        let took = reach(&mut world, homes[0], homes[1], secs(5)).expect("they meet");
        assert!(took <= secs(1), "{took:?}");
        world.run_for(ROUND_TRIP);
        let path = primary(&world, homes[0], homes[1]);
        assert!(matches!(path, Some(Hop::Direct(address)) if address.is_ipv6()), "{path:?}");
    }
}

/// A router like Linux: what comes unasked for is remembered as a connection to the router itself, and later packets the other way get another port.
const TOUCHY: Behaviour = Behaviour { clashes: true, ..Behaviour::home() };

#[test]
fn first_pings_that_do_not_go_far_keep_touchy_routers_from_moving_their_ports() {
    let mut met = [0, 0];
    for (place, counts_hops) in [(0, true), (1, false)] {
        for seed in seeds(10) {
            let mut mesh = two_homes(
                seed,
                1,
                Some(AMPLE),
                [TOUCHY, Behaviour { filtering: Filtering::AddressAndPortDependent, ..TOUCHY }],
            );
            mesh.world.counts_hops = counts_hops;
            let (one, other) = (mesh.homes[0], mesh.homes[1]);
            reach(&mut mesh.world, one, other, secs(5)).expect("there is a relay");
            for _ in 0..20 {
                mesh.world.send(one, other);
                mesh.world.send(other, one);
                mesh.world.run_for(ms(100));
            }
            met[place] += usize::from(is_direct(&mesh.world, one, other));
        }
    }
    assert!(met[0] > met[1], "{met:?}: a small hop limit is of no use");
    assert_eq!(met[0] as u64, seeds(10).count() as u64);
}

#[test]
fn the_acknowledgement_says_so_when_the_target_has_accepted() {
    // Both routers are symmetric and nobody relays: the answer never comes, and the acknowledgement does.
    let mut mesh = two_homes(1, 1, None, [Behaviour::symmetric(); 2]);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    assert_eq!(reach(&mut mesh.world, one, other, secs(3)), None);
    assert_eq!(statuses(&mesh.world, one, other), BTreeSet::from([ACCEPTED]));
}

#[test]
fn nobody_is_introduced_directly_where_both_routers_are_symmetric() {
    let mut mesh = two_homes(1, 2, Some(AMPLE), [Behaviour::symmetric(); 2]);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    let took = reach(&mut mesh.world, one, other, secs(5)).expect("there are relays");
    assert!(took <= ROUND_TRIP * 7, "{took:?}");
    mesh.world.run_for(secs(1));
    assert!(is_relayed(&mesh.world, one, other));
    let sequential =
        Behaviour::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, Ports::Sequential);
    let mut mesh = two_homes(1, 2, Some(AMPLE), [sequential, Behaviour::symmetric()]);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    assert!(reach(&mut mesh.world, one, other, secs(5)).is_some());
}
