//! The simulation itself: hosts behind routers, LANs, hops, partitions, rates, clocks, and large worlds.

use std::net::SocketAddr;

use handfast::base::Link;
use handfast::proto::Event;

use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::INTERNET;
use crate::world::{Datagram, Families, HostId, Line, Rate, SegmentId, World, ms, secs};

const OPEN_FILTER: Behaviour =
    Behaviour::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, Ports::Preserving);

fn world() -> World {
    let mut world = World::empty(1, Line::clean(ms(20)));
    world.arrivals = Some(Vec::new());
    world
}

fn home(world: &mut World, behaviour: Behaviour) -> SegmentId {
    world.add_lan(INTERNET, Some(Way::Nat(behaviour)), None)
}

fn throw(world: &mut World, from: HostId, to: SocketAddr, hops: Option<u8>) {
    let link = Link { hop_limit: hops, ..Link::to(to) };
    world.send_datagram(from, link, vec![0xff; 40]);
}

/// Sends a datagram and says who got it, and from whom.
fn deliver(world: &mut World, from: HostId, to: SocketAddr) -> Option<(HostId, Datagram)> {
    world.arrivals = Some(Vec::new());
    throw(world, from, to, None);
    world.run_for(secs(1));
    let mut arrivals = world.arrivals.replace(Vec::new())?;
    assert!(arrivals.len() <= 1);
    arrivals.pop()
}

/// Where a public host sees another.
fn seen(world: &mut World, host: HostId, by: HostId) -> SocketAddr {
    let to = world.hosts[by].address;
    let (at, datagram) = deliver(world, host, to).expect("the way out is free");
    assert_eq!(at, by);
    datagram.from
}

#[test]
fn a_public_host_sees_the_outer_address_and_answers_to_it() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::V4);
    let carrier = world.add_carrier(Behaviour::home());
    let nested = world.add_lan(carrier, Some(Way::Nat(Behaviour::home())), None);
    for lan in [home(&mut world, Behaviour::symmetric()), nested] {
        let host = world.add_host(lan, Families::V4);
        let outer = seen(&mut world, host, public);
        assert_ne!(outer, world.hosts[host].address);
        assert!(outer.ip().to_string().starts_with("198.19."), "{outer}");
        let (at, datagram) = deliver(&mut world, public, outer).expect("the way back is open");
        assert_eq!((at, datagram.to), (host, world.hosts[host].address));
        let stranger = world.add_host(INTERNET, Families::V4);
        assert!(deliver(&mut world, stranger, outer).is_none());
        world.reboot_routers(lan);
        assert!(deliver(&mut world, public, outer).is_none());
    }
}

#[test]
fn two_hosts_behind_home_routers_punch_holes() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::V4);
    let hosts = [0, 1].map(|_| {
        let lan = home(&mut world, Behaviour::home());
        world.add_host(lan, Families::V4)
    });
    let outer = hosts.map(|host| seen(&mut world, host, public));
    assert!(deliver(&mut world, hosts[0], outer[1]).is_none(), "nobody has written there yet");
    assert_eq!(deliver(&mut world, hosts[1], outer[0]).unwrap().0, hosts[0]);
    assert_eq!(deliver(&mut world, hosts[0], outer[1]).unwrap().0, hosts[1]);
}

#[test]
fn a_nat_at_the_far_end_is_passed_one_line_later_than_one_at_the_near_end() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::V4);
    let hosts = [0, 1].map(|_| {
        let lan = home(&mut world, Behaviour::home());
        world.add_host(lan, Families::V4)
    });
    let outer = hosts.map(|host| seen(&mut world, host, public));
    // Both at once: each arrives when the other has long left.
    throw(&mut world, hosts[0], outer[1], None);
    throw(&mut world, hosts[1], outer[0], None);
    world.run_for(secs(1));
    assert_eq!(world.arrivals.as_ref().unwrap().len(), 2);
}

#[test]
fn neighbours_reach_each_other_at_their_private_addresses_and_others_do_not() {
    let mut world = world();
    let lan = home(&mut world, Behaviour::symmetric());
    let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::V4));
    let to = world.hosts[other].address;
    throw(&mut world, one, to, Some(1));
    assert!(world.run_until(ms(1), |world| !world.arrivals.as_ref().unwrap().is_empty()).is_some());
    let (_, datagram) = deliver(&mut world, one, to).unwrap();
    assert_eq!((datagram.from, datagram.to), (world.hosts[one].address, to));
    // Four LANs further the same addresses are used again, by other hosts.
    let far = [0, 1, 2, 3].map(|_| home(&mut world, Behaviour::home()))[3];
    let stranger = world.add_host(far, Families::V4);
    assert_eq!(world.hosts[stranger].address, world.hosts[one].address);
    assert!(deliver(&mut world, stranger, to).is_none());
}

#[test]
fn a_router_sends_packets_for_its_outer_address_back_in_only_with_hairpin() {
    for hairpin in [false, true] {
        let mut world = world();
        let public = world.add_host(INTERNET, Families::V4);
        let lan = home(&mut world, Behaviour { hairpin, ..OPEN_FILTER });
        let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::V4));
        let outer = [one, other].map(|host| seen(&mut world, host, public));
        let arrived = deliver(&mut world, one, outer[1]);
        assert_eq!(arrived.map(|(at, datagram)| (at, datagram.from)), hairpin.then_some((other, outer[0])));
        // One router, though it is passed in both directions.
        throw(&mut world, one, outer[1], Some(1));
        world.run_for(secs(1));
        assert_eq!(world.arrivals.as_ref().unwrap().len(), usize::from(hairpin));
    }
}

#[test]
fn customers_of_one_carrier_meet_at_its_router_with_hairpin() {
    for hairpin in [false, true] {
        let mut world = world();
        let public = world.add_host(INTERNET, Families::V4);
        let carrier = world.add_carrier(Behaviour { hairpin, ..OPEN_FILTER });
        let hosts = [0, 1].map(|_| {
            let lan = world.add_lan(carrier, Some(Way::Nat(Behaviour::home())), None);
            world.add_host(lan, Families::V4)
        });
        let outer = hosts.map(|host| seen(&mut world, host, public));
        assert!(deliver(&mut world, hosts[0], outer[1]).is_none());
        assert_eq!(deliver(&mut world, hosts[1], outer[0]).is_some(), hairpin);
    }
}

/// Whether a datagram with this hop limit arrives, and whether it has opened the way for an answer.
fn hops(limit: u8, double: bool) -> (bool, bool) {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::V4);
    let outside = if double { world.add_carrier(Behaviour::home()) } else { INTERNET };
    let near = world.add_lan(outside, Some(Way::Nat(Behaviour::home())), None);
    let host = world.add_host(near, Families::V4);
    let far = home(&mut world, OPEN_FILTER);
    let peer = world.add_host(far, Families::V4);
    let outer = [host, peer].map(|host| seen(&mut world, host, public));
    throw(&mut world, host, outer[1], Some(limit));
    world.run_for(secs(1));
    let arrived = !world.arrivals.as_ref().unwrap().is_empty();
    (arrived, deliver(&mut world, peer, outer[0]).is_some())
}

#[test]
fn a_small_hop_limit_opens_the_own_routers_and_never_reaches_the_far_one() {
    assert_eq!(
        [0, 1, 3, 5, 6].map(|limit| hops(limit, false)),
        [(false, false), (false, true), (false, true), (false, true), (true, true)]
    );
    assert_eq!(
        [1, 2, 3, 6, 7].map(|limit| hops(limit, true)),
        [(false, false), (false, true), (false, true), (false, true), (true, true)]
    );
}

#[test]
fn a_host_with_two_families_sends_each_from_its_own_address() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::BOTH);
    let v4_only = world.add_host(INTERNET, Families::V4);
    let lan = world.add_lan(
        INTERNET,
        Some(Way::Nat(Behaviour::symmetric())),
        Some(Way::Firewall(Filtering::AddressAndPortDependent)),
    );
    let host = world.add_host(lan, Families::BOTH);
    let v6 = |world: &World, host: HostId| world.hosts[host].addresses().find(SocketAddr::is_ipv6).unwrap();
    let (own, other) = (v6(&world, host), v6(&world, public));
    assert!(deliver(&mut world, public, own).is_none(), "the firewall knows of nothing");
    assert_eq!(deliver(&mut world, host, other).unwrap().1.from, own, "and translates nothing");
    assert_eq!(deliver(&mut world, public, own).unwrap().0, host);
    assert!(seen(&mut world, host, public).is_ipv4());
    assert!(deliver(&mut world, v4_only, own).is_none(), "no address of that family");
    let v6_only = world.add_host(INTERNET, Families::V6);
    let v4 = world.hosts[public].address;
    assert!(deliver(&mut world, v6_only, v4).is_none());
    assert!(deliver(&mut world, v6_only, other).is_some());
}

#[test]
fn nothing_passes_a_router_that_blocks_udp_but_neighbours_meet() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::V4);
    let lan = world.add_lan(INTERNET, Some(Way::Blocked), None);
    let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::V4));
    let [public_at, one_at, other_at] = [public, one, other].map(|host| world.hosts[host].address);
    assert!(deliver(&mut world, one, public_at).is_none());
    assert!(deliver(&mut world, public, one_at).is_none());
    assert!(deliver(&mut world, one, other_at).is_some());
}

#[test]
fn announcements_reach_the_others_of_the_lan_in_the_families_they_share_and_nobody_else() {
    let mut world = world();
    let public = world.add_host(INTERNET, Families::BOTH);
    let lan = world.add_lan(INTERNET, Some(Way::Blocked), Some(Way::Blocked));
    let one = world.add_host(lan, Families::BOTH);
    let [both, v4] = [Families::BOTH, Families::V4].map(|families| world.add_host(lan, families));
    let other_lan = home(&mut world, OPEN_FILTER);
    world.add_host(other_lan, Families::V4);
    for host in [public, one] {
        world.announce(host, &[1; 34]);
    }
    world.run_for(secs(1));
    let arrivals = world.arrivals.take().unwrap();
    let heard: Vec<_> = arrivals.iter().map(|(host, datagram)| (*host, datagram.from)).collect();
    let [from_v4, from_v6] = [0, 1].map(|place| world.hosts[one].addresses().nth(place).unwrap());
    assert_eq!(heard, [(both, from_v4), (both, from_v6), (v4, from_v4)]);
    assert!(arrivals.iter().all(|(_, datagram)| datagram.bytes == [1; 34]));
}

#[test]
fn hosts_that_are_parted_do_not_hear_each_other_until_all_is_healed() {
    let mut world = world();
    let lan = home(&mut world, OPEN_FILTER);
    let hosts = [INTERNET, INTERNET, lan, lan].map(|segment| world.add_host(segment, Families::V4));
    let outer = seen(&mut world, hosts[2], hosts[0]);
    let [a, b] = [hosts[1], hosts[3]].map(|host| world.hosts[host].address);
    world.part(&[hosts[0], hosts[3]]);
    assert!(deliver(&mut world, hosts[0], a).is_none());
    assert!(deliver(&mut world, hosts[0], outer).is_none());
    assert!(deliver(&mut world, hosts[2], b).is_none());
    assert!(deliver(&mut world, hosts[1], outer).is_some());
    world.heal();
    assert!(deliver(&mut world, hosts[0], a).is_some());
    assert!(deliver(&mut world, hosts[0], outer).is_some());
    assert!(deliver(&mut world, hosts[2], b).is_some());
    world.set_up(hosts[2], hosts[3], false);
    assert!(deliver(&mut world, hosts[2], b).is_none(), "a cable in the LAN");
}

#[test]
fn a_rate_delays_and_then_loses() {
    for by_uplink in [false, true] {
        let mut world = world();
        let [one, other] = [0, 1].map(|_| world.add_host(INTERNET, Families::V4));
        // Datagrams of 40 bytes are packets of 68.
        let rate = Rate { bytes_per_second: 6_800, queue: 680 };
        if by_uplink {
            world.limit_uplink(one, Some(rate));
        } else {
            world.set_line(one, other, Line { rate: Some(rate), ..Line::clean(ms(20)) });
        }
        let to = world.hosts[other].address;
        for _ in 0..20 {
            throw(&mut world, one, to, None);
        }
        let count = |world: &World| world.arrivals.as_ref().unwrap().len();
        world.run_for(ms(75));
        assert_eq!(count(&world), 5);
        world.run_for(secs(1));
        assert_eq!(count(&world), 10);
    }
}

#[test]
fn a_host_behind_a_router_has_a_session_with_a_public_one_and_keeps_it_in_another_network() {
    let mut world = World::empty(1, Line::rough(ms(20), 0));
    let public = world.add_host(INTERNET, Families::V4);
    let networks = [Behaviour::home(), Behaviour::symmetric(), OPEN_FILTER].map(|nat| home(&mut world, nat));
    let host = world.add_host(networks[0], Families::V4);
    world.publish(&[public]);
    world.start(public);
    world.start(host);
    for network in networks {
        if world.hosts[host].segment != network {
            world.move_to(host, network);
        }
        for _ in 0..40 {
            world.send(host, public);
            world.send(public, host);
            world.run_for(ms(100));
        }
        let since = world.packets_sent();
        world.send(host, public);
        world.send(public, host);
        world.run_for(secs(1));
        assert!(world.all_delivered_since(since), "in network {network}");
    }
    assert!(world.hosts[host].events.iter().all(|(_, event)| !matches!(event, Event::Disconnected { .. })));
}

#[test]
fn a_clock_that_jumps_ends_no_session_for_good() {
    let mut world = World::connected(1, Line::clean(ms(20)));
    for jump in [secs(5), secs(600), secs(100_000)] {
        world.jump_clock(0, jump);
        let since = world.packets_sent();
        for _ in 0..100 {
            world.send(0, 1);
            world.run_for(ms(100));
        }
        assert!((since..world.packets_sent()).any(|id| world.is_delivered(id)), "after a jump of {jump:?}");
    }
}

/// `count` nodes of which each talks to the one after it.
fn ring(count: usize) {
    let mut world = World::empty(1, Line::clean(ms(20)));
    for _ in 0..count {
        world.add_host(INTERNET, Families::V4);
    }
    for host in 0..count {
        let next = (host + 1) % count;
        let known = world.hosts[next].addresses().collect();
        world.hosts[host].known.entry(next).or_default().endpoints = known;
        world.hosts[next].known.entry(host).or_default();
    }
    for host in 0..count {
        world.start(host);
    }
    for host in 0..count {
        world.send(host, (host + 1) % count);
    }
    world.run_for(secs(5));
    assert!(world.all_delivered_since(0));
}

#[test]
fn a_thousand_nodes_run_in_one_world() {
    ring(1_000);
}

#[test]
fn five_thousand_nodes_run_in_one_world() {
    ring(5_000);
}
