//! Paths that die, get better or move while traffic flows.

use std::time::Duration;

use handfast::proto::{Command, Hop};

use crate::mesh_of::{AMPLE, Mesh, is_direct, is_relayed, moves, primary, reach};
use crate::nat::{Behaviour, Way};
use crate::network::INTERNET;
use crate::world::{Families, HostId, Line, World, ms, secs, seeds};

/// Packets both ways every 20 ms for a while; the longest time for which one of both got nothing.
fn longest_gap(world: &mut World, one: HostId, other: HostId, time: Duration) -> Duration {
    let since = [one, other].map(|host| world.hosts[host].received.len());
    let (begin, end) = (world.elapsed(), world.now + time);
    while world.now < end {
        world.send(one, other);
        world.send(other, one);
        world.run_for(ms(20));
    }
    let gap = |host: HostId, since: usize| {
        let times = world.hosts[host].received[since..].iter().map(|&(at, _)| at);
        let times: Vec<Duration> = std::iter::once(begin).chain(times).chain([world.elapsed()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(time)
    };
    gap(one, since[0]).max(gap(other, since[1]))
}

/// Two members that talk directly and have a warm relay; and the hubs.
fn talking(seed: u64, hubs: usize, nats: [Behaviour; 2]) -> Mesh {
    let mut mesh = Mesh::running(seed, Line::clean(ms(20)), hubs, Some(AMPLE), &nats);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    reach(&mut mesh.world, one, other, secs(5)).expect("they meet");
    longest_gap(&mut mesh.world, one, other, secs(10));
    mesh
}

#[test]
fn when_the_direct_path_dies_traffic_goes_through_a_relay_within_a_second() {
    let mut longest = Duration::ZERO;
    for seed in seeds(20) {
        let mut mesh = talking(seed, 2, [Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        assert!(is_direct(&mesh.world, one, other));
        mesh.world.set_up(one, other, false);
        let gap = longest_gap(&mut mesh.world, one, other, secs(5));
        assert!(gap <= secs(1), "{gap:?}");
        longest = longest.max(gap);
        assert!(is_relayed(&mesh.world, one, other));
        // It comes back, and is used again.
        mesh.world.set_up(one, other, true);
        let gap = longest_gap(&mut mesh.world, one, other, secs(150));
        assert!(gap <= ms(200), "{gap:?} on the way back");
        assert!(is_direct(&mesh.world, one, other), "the direct path is found again");
    }
    println!("longest gap when the direct path dies: {longest:?}");
}

#[test]
fn when_a_relay_dies_another_takes_its_place_within_a_second() {
    let mut longest = Duration::ZERO;
    for seed in seeds(20) {
        let mut mesh = talking(seed, 3, [Behaviour::symmetric(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        let Some(Hop::Relay(relay)) = primary(&mesh.world, one, other) else { panic!("no relay is used") };
        // The hubs are the first in every configuration.
        let dying = mesh.hubs[relay.slot()];
        mesh.world.kill(dying);
        let gap = longest_gap(&mut mesh.world, one, other, secs(10));
        assert!(gap <= secs(1), "{gap:?}");
        longest = longest.max(gap);
        let now = primary(&mesh.world, one, other);
        assert!(matches!(now, Some(Hop::Relay(now)) if now != relay), "{now:?}");
    }
    println!("longest gap when a relay dies: {longest:?}");
}

#[test]
fn a_member_that_takes_its_machine_to_another_network_is_back_within_two_seconds() {
    let mut longest = Duration::ZERO;
    for seed in seeds(20) {
        let mut mesh = talking(seed, 2, [Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        let symmetric = if seed % 2 == 0 { Behaviour::symmetric() } else { Behaviour::home() };
        let elsewhere = mesh.world.add_lan(INTERNET, Some(Way::Nat(symmetric)), None);
        mesh.world.move_to(one, elsewhere);
        let gap = longest_gap(&mut mesh.world, one, other, secs(10));
        assert!(gap <= secs(2), "{gap:?}");
        longest = longest.max(gap);
    }
    println!("longest gap when a member moves: {longest:?}");
}

/// Sleep of ten minutes; whether the system says so when it wakes. How long until a packet is through.
fn wakes(seed: u64, tells: bool) -> Duration {
    let mut mesh = talking(seed, 2, [Behaviour::home(); 2]);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    mesh.world.suspend(one, secs(600));
    mesh.world.run_for(secs(600) + ms(1));
    if tells {
        mesh.world.command(one, Command::NetworkChanged);
    }
    let since = mesh.world.packets_sent();
    let begun = mesh.world.now;
    while !(since..mesh.world.packets_sent()).any(|id| mesh.world.is_delivered(id)) {
        mesh.world.send(one, other);
        mesh.world.run_for(ms(20));
        assert!(mesh.world.now - begun < secs(20), "asleep for good");
    }
    mesh.world.now - begun
}

#[test]
fn whoever_wakes_and_is_told_so_is_back_within_two_seconds() {
    let longest = seeds(20).map(|seed| wakes(seed, true)).max().unwrap_or_default();
    assert!(longest <= secs(2), "{longest:?}");
    println!("longest way back from sleep: {longest:?}");
}

#[test]
fn whoever_wakes_without_being_told_is_back_within_two_seconds() {
    let longest = seeds(20).map(|seed| wakes(seed, false)).max().unwrap_or_default();
    assert!(longest <= secs(2), "{longest:?}");
    println!("longest way back from sleep that nobody spoke of: {longest:?}");
}

#[test]
fn the_best_path_is_taken_and_kept_for_an_hour() {
    for seed in seeds(2) {
        // Two pairs: behind one router, and behind two.
        let mut world = World::empty(seed, Line { jitter: ms(15), ..Line::clean(ms(20)) });
        let hubs = [0, 1].map(|_| world.add_host(INTERNET, Families::V4));
        for hub in hubs {
            world.hosts[hub].relay = Some(AMPLE);
        }
        let near = world.add_lan(INTERNET, Some(Way::Nat(Behaviour { hairpin: true, ..Behaviour::home() })), None);
        let far = world.add_lan(INTERNET, Some(Way::Nat(Behaviour::home())), None);
        let [one, other] = [0, 1].map(|_| world.add_host(near, Families::V4));
        let third = world.add_host(far, Families::V4);
        world.publish(&hubs);
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        world.run_for(secs(5));
        let pairs = [(one, other), (one, third), (third, one)];
        for second in 0..3600 {
            for (from, to) in pairs {
                world.send(from, to);
                world.send(to, from);
            }
            world.run_for(secs(1));
            if second == 20 {
                let lan = world.hosts[other].address;
                assert_eq!(primary(&world, one, other), Some(Hop::Direct(lan)), "the own network comes first");
                assert!(is_direct(&world, one, third), "then what is direct");
            }
        }
        let moved = [one, other, third].map(|host| moves(&world, host));
        assert!(moved.iter().all(|&moved| moved <= 6), "{moved:?} moves in an hour");
        println!("moves in an hour: {moved:?}");
        let lan = world.hosts[other].address;
        assert_eq!(primary(&world, one, other), Some(Hop::Direct(lan)));
    }
}
