//! Relays: what they forward, what they cannot know, and what happens when they do not do their duty.

use handfast::proto::{Dropped, RelayLimits};

use crate::mesh_of::{AMPLE, Mesh, is_relayed, primary, reach};
use crate::nat::Behaviour;
use crate::world::{HostId, Line, World, ms, secs, seeds};

/// Members that reach each other through relays only.
fn relayed(seed: u64, hubs: usize, limits: RelayLimits, homes: usize) -> Mesh {
    Mesh::running(seed, Line::clean(ms(20)), hubs, Some(limits), &vec![Behaviour::symmetric(); homes])
}

fn talk(world: &mut World, one: HostId, other: HostId, count: usize, len: usize) -> usize {
    let packets: Vec<_> = (0..count)
        .flat_map(|_| {
            let packets = [world.send_sized(one, other, 0, len), world.send_sized(other, one, 0, len)];
            world.run_for(ms(20));
            packets
        })
        .collect();
    world.run_for(secs(1));
    packets.into_iter().filter(|&id| world.is_delivered(id)).count()
}

#[test]
fn packets_of_every_size_go_through_a_relay() {
    for seed in seeds(5) {
        let mut mesh = relayed(seed, 1, AMPLE, 2);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        reach(&mut mesh.world, one, other, secs(5)).expect("there is a relay");
        mesh.world.run_for(secs(1));
        assert!(is_relayed(&mesh.world, one, other));
        for size in [60, 500, 1100, 1180, 1190, 1200, 1280, 1420, 4000, 9000] {
            assert_eq!(talk(&mut mesh.world, one, other, 5, size), 10, "packets of {size} bytes");
        }
    }
}

/// Those that know the member, and cannot help, do not keep the one from being asked that can.
#[test]
fn the_only_relay_is_found_whichever_of_the_hubs_it_is() {
    for seed in seeds(20) {
        let mut mesh = Mesh::new(seed, Line::clean(ms(60)), 4, None, &[Behaviour::symmetric(); 8]);
        let relay = mesh.hubs[(seed % 4) as usize];
        mesh.world.hosts[relay].relay = Some(AMPLE);
        mesh.start();
        mesh.world.run_for(secs(5));
        let homes = mesh.homes.clone();
        let pairs: Vec<_> = (0..8).flat_map(|one| (0..one).map(move |other| (other, one))).collect();
        for _ in 0..10 {
            for &(one, other) in &pairs {
                mesh.world.send(homes[one], homes[other]);
                mesh.world.send(homes[other], homes[one]);
            }
            mesh.world.run_for(secs(1));
        }
        for &(one, other) in &pairs {
            assert!(is_relayed(&mesh.world, homes[one], homes[other]), "{one} {other}");
        }
    }
}

/// They are equally far, so what counts is what they give.
#[test]
fn of_two_relays_as_far_as_each_other_the_one_that_gives_more_is_taken() {
    for seed in seeds(10) {
        let mut mesh = Mesh::new(seed, Line::clean(ms(20)), 2, Some(AMPLE), &[Behaviour::symmetric(); 2]);
        let (frugal, generous) = (mesh.hubs[(seed % 2) as usize], mesh.hubs[(1 - seed % 2) as usize]);
        mesh.world.hosts[frugal].relay = Some(RelayLimits { bytes_per_second: 500_000, members: 100 });
        mesh.start();
        mesh.world.run_for(secs(5));
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        reach(&mut mesh.world, one, other, secs(5)).expect("there are relays");
        talk(&mut mesh.world, one, other, 200, 100);
        for (host, other) in [(one, other), (other, one)] {
            let Some(handfast::proto::Hop::Relay(relay)) = primary(&mesh.world, host, other) else {
                panic!("no relay")
            };
            assert_eq!(mesh.hubs[relay.slot()], generous, "seed {seed}");
        }
    }
}

#[test]
fn a_member_gets_its_share_and_no_more() {
    let limits = RelayLimits { bytes_per_second: 20_000, members: 10 };
    let mut mesh = relayed(1, 1, limits, 4);
    let homes = mesh.homes.clone();
    reach(&mut mesh.world, homes[0], homes[1], secs(5)).expect("there is a relay");
    reach(&mut mesh.world, homes[2], homes[3], secs(5)).expect("there is a relay");
    mesh.world.run_for(secs(2));
    // 100 kB/s each way from one pair; 2 kB/s from the other.
    let (mut much, mut little) = (Vec::new(), Vec::new());
    for number in 0..1000 {
        much.push(mesh.world.send_sized(homes[0], homes[1], 0, 1000));
        if number % 5 == 0 {
            little.push(mesh.world.send_sized(homes[2], homes[3], 0, 100));
        }
        mesh.world.run_for(ms(10));
    }
    mesh.world.run_for(secs(1));
    let delivered = |packets: &[u64]| packets.iter().filter(|&&id| mesh.world.is_delivered(id)).count();
    let bytes = delivered(&much) * 1000;
    assert!((120_000..=215_000).contains(&bytes), "{bytes} bytes in ten seconds");
    assert_eq!(delivered(&little), little.len(), "the others do not suffer");
    assert!(mesh.world.drops(mesh.hubs[0], Dropped::RelayLimit) > 0);
}

#[test]
fn no_more_members_are_served_than_the_relay_wants() {
    let limits = RelayLimits { bytes_per_second: 1_000_000, members: 2 };
    let mut mesh = relayed(1, 1, limits, 4);
    let homes = mesh.homes.clone();
    assert!(reach(&mut mesh.world, homes[0], homes[1], secs(5)).is_some());
    for _ in 0..30 {
        mesh.world.send(homes[0], homes[1]);
        mesh.world.send(homes[1], homes[0]);
        let refused = mesh.world.send(homes[2], homes[3]);
        mesh.world.run_for(ms(200));
        assert!(!mesh.world.is_delivered(refused));
    }
    assert_eq!(talk(&mut mesh.world, homes[0], homes[1], 20, 100), 40);
    // When these have been silent for ten seconds, it is the turn of others.
    mesh.world.run_for(secs(12));
    assert!(reach(&mut mesh.world, homes[2], homes[3], secs(20)).is_some());
}

#[test]
fn a_relay_cannot_read_what_it_carries() {
    let mut mesh = relayed(1, 1, AMPLE, 2);
    let (one, other) = (mesh.homes[0], mesh.homes[1]);
    reach(&mut mesh.world, one, other, secs(5)).expect("there is a relay");
    mesh.world.run_for(secs(2));
    // Whoever opens what comes to the relay finds the frames of its own sessions; the test cannot. What can be seen: nothing on any wire, and nothing that the relay holds.
    let marker = b"a marker that nobody but its receiver may ever see";
    let mut packet = Vec::new();
    let (from, to) = (crate::world::overlay_v4(one), crate::world::overlay_v4(other));
    etherparse::PacketBuilder::ipv4(from.octets(), to.octets(), 64)
        .tcp(7, 7, 1, 1000)
        .write(&mut packet, marker)
        .unwrap();
    mesh.world.tap = Some(Vec::new());
    for _ in 0..10 {
        mesh.world.send_bytes(one, &packet).unwrap();
        mesh.world.run_for(ms(30));
        let held = format!("{:?}", mesh.world.hosts[mesh.hubs[0]].node);
        let printed = format!("{marker:?}");
        assert!(!held.contains(&printed[1..printed.len() - 1]));
    }
    mesh.world.run_for(secs(1));
    let contains = |bytes: &[u8]| bytes.windows(marker.len()).any(|window| window == marker);
    assert_eq!(mesh.world.hosts[other].other.iter().filter(|bytes| contains(bytes)).count(), 10);
    assert!(mesh.world.hosts[mesh.hubs[0]].other.is_empty(), "nothing came out of the tunnel of the relay");
    assert!(!mesh.world.tap.take().unwrap_or_default().iter().any(|datagram| contains(&datagram.bytes)));
}

#[test]
fn when_a_relay_forwards_nothing_any_more_another_one_does() {
    for seed in seeds(5) {
        let mut mesh = relayed(seed, 3, AMPLE, 2);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        reach(&mut mesh.world, one, other, secs(5)).expect("there are relays");
        assert!(talk(&mut mesh.world, one, other, 200, 100) == 400);
        let Some(handfast::proto::Hop::Relay(relay)) = primary(&mesh.world, one, other) else { panic!("no relay") };
        let lazy = mesh.hubs[relay.slot()];
        // It keeps its sessions, answers pings, promises as much as before, and drops what is for others: it serves no member.
        mesh.world.hosts[lazy].relay = Some(RelayLimits { members: 0, ..AMPLE });
        mesh.world.restart(lazy);
        let mut gap = 0;
        while !{
            let packet = mesh.world.send(one, other);
            mesh.world.run_for(ms(100));
            mesh.world.is_delivered(packet)
        } {
            gap += 1;
            assert!(gap <= 12, "more than a second without a way");
        }
        mesh.world.run_for(secs(1));
        assert_eq!(talk(&mut mesh.world, one, other, 50, 100), 100);
        assert_ne!(primary(&mesh.world, one, other), Some(handfast::proto::Hop::Relay(relay)));
    }
}

/// Between a relay and a member sits somebody who alters bytes: nothing that arrives is damaged, which the ledger checks, and what fails to open is all that is lost.
#[test]
fn bytes_that_are_altered_on_the_way_through_a_relay_are_lost_and_nothing_else() {
    for seed in seeds(5) {
        let mut mesh = relayed(seed, 1, AMPLE, 2);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        reach(&mut mesh.world, one, other, secs(5)).expect("there is a relay");
        mesh.world.run_for(secs(1));
        let hub = mesh.world.hosts[mesh.hubs[0]].address;
        for _ in 0..100 {
            mesh.world.tap = Some(Vec::new());
            mesh.world.send(one, other);
            mesh.world.run_for(ms(25));
            let seen = mesh.world.tap.take().unwrap_or_default();
            for mut datagram in seen.into_iter().filter(|datagram| datagram.from == hub) {
                let place = mesh.world.rng.below(datagram.bytes.len() as u32 - 1) as usize + 1;
                datagram.bytes[place] ^= 1 << mesh.world.rng.below(8);
                let _ = mesh.world.inject(datagram);
            }
        }
        let since = mesh.world.packets_sent();
        assert_eq!(talk(&mut mesh.world, one, other, 50, 100), 100);
        assert!(mesh.world.all_delivered_since(since));
        assert_eq!(mesh.world.status(one, other).traffic.sessions, 1);
    }
}

/// Three relays in a ring, that reach their neighbours only: nothing goes through two of them.
#[test]
fn nothing_is_forwarded_twice() {
    let mut world = World::empty(1, Line::clean(ms(20)));
    let hubs: Vec<HostId> =
        (0..3).map(|_| world.add_host(crate::network::INTERNET, crate::world::Families::V4)).collect();
    for &hub in &hubs {
        world.hosts[hub].relay = Some(AMPLE);
    }
    let ends: Vec<HostId> =
        (0..2).map(|_| world.add_host(crate::network::INTERNET, crate::world::Families::V4)).collect();
    world.publish(&hubs);
    // One end reaches only the first hub, the other only the second; and these reach each other.
    for (end, hub) in [(0, 0), (1, 1)] {
        for other in hubs.iter().chain(&ends).copied().filter(|&other| other != hubs[hub] && other != ends[end]) {
            world.set_up(ends[end], other, false);
        }
    }
    for host in 0..world.hosts.len() {
        world.start(host);
    }
    world.run_for(secs(5));
    assert!(world.session(ends[0], hubs[0]).is_some() && world.session(ends[1], hubs[1]).is_some());
    for _ in 0..40 {
        world.send(ends[0], ends[1]);
        world.send(ends[1], ends[0]);
        world.run_for(ms(500));
    }
    assert_eq!([0, 1].map(|end| world.hosts[ends[end]].received.len()), [0, 0], "two hops are too many");
    let quiet = world.sent.clone();
    world.run_for(secs(60));
    let datagrams: u64 = world.sent.iter().zip(&quiet).map(|(now, then)| now.0 - then.0).sum();
    assert!(datagrams < 200, "{datagrams} datagrams in a minute: something turns in circles");
}
