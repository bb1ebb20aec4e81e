//! A member that does not keep to the rules: what its lies and replays cost others, in datagrams and bytes.
//!
//! The liar's node is made to lie by what its surroundings say: it tells wrong addresses of its own, and its traffic is recorded, repeated and sent from elsewhere.

use std::net::SocketAddr;

use handfast::proto::{CandidateKind, Command, Event, Hop};

use crate::mesh_of::{AMPLE, Mesh, is_direct, primary, reach};
use crate::nat::Behaviour;
use crate::world::{Datagram, HostId, Line, World, address, mistaken, ms, secs, seeds};

/// Addresses of people who have nothing to do with the mesh.
fn victims() -> Vec<SocketAddr> {
    (0..16).map(|number| address(40_000 + number)).collect()
}

fn mesh(seed: u64, homes: usize) -> Mesh {
    let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 3, Some(AMPLE), &vec![Behaviour::home(); homes]);
    mesh.world.strays.clear();
    mesh
}

/// Datagrams and bytes that went to victims, and the longest of them.
fn suffered(world: &World, victims: &[SocketAddr]) -> (usize, usize, usize) {
    let hits = || world.strays.iter().filter(|stray| victims.contains(&stray.to)).map(|stray| stray.bytes.len());
    (hits().count(), hits().sum(), hits().max().unwrap_or_default())
}

/// A pair of honest members that must not suffer.
fn is_unharmed(world: &mut World, one: HostId, other: HostId) {
    let since = world.packets_sent();
    for _ in 0..50 {
        world.send(one, other);
        world.send(other, one);
        world.run_for(ms(20));
    }
    world.run_for(secs(1));
    assert!(world.all_delivered_since(since), "honest members lose packets");
}

#[test]
fn who_lies_about_its_addresses_has_few_small_datagrams_sent_to_others() {
    let mut worst = (0, 0);
    for seed in seeds(10) {
        let mut mesh = mesh(seed, 8);
        let homes = mesh.homes.clone();
        let (one, other, liar) = (homes[0], homes[1], homes[2]);
        let world = &mut mesh.world;
        reach(world, one, other, secs(5)).expect("they meet");
        let victims = victims();
        let addresses = victims.iter().map(|&victim| (victim, CandidateKind::Mapped)).collect();
        world.command(liar, Command::SetLocal { addresses });
        world.run_for(secs(5));
        world.strays.clear();
        // Everyone wants to talk to the liar, and it to everyone.
        for _ in 0..10 {
            for &home in homes.iter().filter(|&&home| home != liar) {
                world.send(home, liar);
                world.send(liar, home);
            }
            world.run_for(secs(1));
        }
        let (datagrams, bytes, longest) = suffered(world, &victims);
        // Each of the others and of the hubs may be led to ask each of 16 addresses, by some pings in the session, some of an introduction, and answers to one.
        assert!(longest <= 162, "a datagram of {longest} bytes to a victim");
        let per_address = bytes / victims.len();
        assert!(per_address <= 10 * 1024, "{bytes} bytes, {datagrams} datagrams in ten seconds");
        worst = worst.max((datagrams, bytes));
        is_unharmed(world, one, other);
    }
    println!("10 s of lies about 16 addresses, 10 members: {worst:?} (datagrams, bytes)");
}

/// Addresses are changed as fast as can be: each change is told to all peers of the liar. Bytes that it has sent, and bytes that went to others.
fn lies_at_full_speed() -> (u64, u64) {
    let mut mesh = mesh(1, 4);
    let homes = mesh.homes.clone();
    let (one, other, liar) = (homes[0], homes[1], homes[2]);
    let world = &mut mesh.world;
    reach(world, one, other, secs(5)).expect("they meet");
    reach(world, liar, one, secs(5)).expect("they meet");
    world.strays.clear();
    let before = world.sent[liar];
    for round in 0..1000u16 {
        let addresses =
            (0..16).map(|number| (address(40_000 + (round * 16 + number) % 8000), CandidateKind::Mapped)).collect();
        world.command(liar, Command::SetLocal { addresses });
        world.run_for(ms(10));
    }
    world.run_for(secs(5));
    let bytes: usize = world.strays.iter().map(|stray| stray.bytes.len()).sum();
    let spent = world.sent[liar].1 - before.1;
    println!("lies at full speed: {spent} bytes sent, {bytes} bytes to others");
    is_unharmed(world, one, other);
    (spent, bytes as u64)
}

#[test]
fn who_lies_at_full_speed_does_not_have_more_sent_than_it_sends() {
    let (spent, bytes) = lies_at_full_speed();
    assert!(bytes <= spent, "{bytes} bytes to others for {spent}");
}

/// What one member can have each of the others send to strangers for nothing: 48 addresses, six pings of 64 bytes each (PROTOCOL §12.2).
const FREE: u64 = 48 * 6 * 64;

/// Sixteen new addresses are told now and then, for an hour, and hardly anything else.
#[test]
fn who_lies_slowly_and_for_long_has_no_more_sent_than_it_sends() {
    let mut mesh = mesh(1, 4);
    let homes = mesh.homes.clone();
    let (one, liar) = (homes[0], homes[2]);
    let world = &mut mesh.world;
    reach(world, liar, one, secs(5)).expect("they meet");
    world.strays.clear();
    let before = world.sent[liar];
    for round in 0..450u16 {
        let addresses =
            (0..16).map(|number| (address(40_000 + (round * 16 + number) % 8000), CandidateKind::Mapped)).collect();
        world.command(liar, Command::SetLocal { addresses });
        world.run_for(secs(8));
    }
    let bytes: u64 = world.strays.iter().map(|stray| stray.bytes.len() as u64).sum();
    let spent = world.sent[liar].1 - before.1;
    println!("lies for an hour: {spent} bytes sent, {bytes} bytes to others");
    // Three hubs and the one that it has met.
    assert!(bytes <= spent + 4 * FREE, "{bytes} bytes to others for {spent}");
}

/// Many members say that they are at one address, each at ports of its own.
#[test]
fn members_who_conspire_have_few_datagrams_sent_to_one_address_by_each_other() {
    let mut mesh = mesh(1, 16);
    let homes = mesh.homes.clone();
    let world = &mut mesh.world;
    let victim = address(45_000).ip();
    world.strays.clear();
    let seconds = 20;
    for round in 0..seconds {
        for (place, &liar) in homes.iter().enumerate() {
            let port = |number: u16| 2000 + place as u16 * 1000 + round as u16 * 16 + number;
            let addresses = (0..16).map(|number| (SocketAddr::new(victim, port(number)), CandidateKind::Mapped));
            let addresses = addresses.collect();
            world.command(liar, Command::SetLocal { addresses });
        }
        world.run_for(secs(1));
    }
    let mut hits: std::collections::BTreeMap<SocketAddr, usize> = std::collections::BTreeMap::new();
    for stray in world.strays.iter().filter(|stray| stray.to.ip() == victim) {
        *hits.entry(stray.from).or_default() += 1;
    }
    let most = hits.values().copied().max().unwrap_or_default();
    println!("{most} datagrams of one member to the victim in {seconds} s");
    assert!(most > 0 && most <= 256 + 40 * seconds, "{most} datagrams of one member in {seconds} s");
}

/// All datagrams are recorded while members are introduced, and sent again from elsewhere, later, many times.
#[test]
fn recorded_introductions_lead_to_nothing_when_they_are_repeated() {
    for seed in seeds(10) {
        let mut mesh = mesh(seed, 3);
        let homes = mesh.homes.clone();
        let world = &mut mesh.world;
        world.tap = Some(Vec::new());
        world.arrivals = Some(Vec::new());
        reach(world, homes[0], homes[1], secs(5)).expect("they meet");
        world.run_for(secs(1));
        world.tap = None;
        // As they came to routers, which is where a recorder may send them.
        let seen = world.arrivals.take().unwrap_or_default();
        world.strays.clear();
        let sessions = [homes[0], homes[1]].map(|home| world.status(home, homes[0] + homes[1] - home).traffic.sessions);
        for round in 0..20u16 {
            for (host, datagram) in &seen {
                // From its own source, which routers let in, and from that of a victim.
                let outer = world.status(mesh.hubs[0], *host.max(&homes[0])).session.map(|session| session.endpoint);
                let to =
                    if mesh.hubs.contains(host) { world.hosts[*host].address } else { outer.unwrap_or(datagram.to) };
                for from in [datagram.from, address(40_000 + round)] {
                    let _ = world.inject(Datagram { from, to, ..datagram.clone() });
                }
            }
            world.run_for(ms(500));
        }
        let now = [homes[0], homes[1]].map(|home| world.status(home, homes[0] + homes[1] - home).traffic.sessions);
        assert_eq!(now, sessions, "no session comes of it");
        let bytes: usize = world.strays.iter().map(|stray| stray.bytes.len()).sum();
        let spent: usize = seen.iter().map(|(_, datagram)| datagram.bytes.len()).sum::<usize>() * 20;
        assert!(bytes <= spent, "{bytes} bytes to victims for {spent}");
        is_unharmed(world, homes[0], homes[1]);
    }
}

/// One member wants to be introduced to everyone, all the time, and forgets at once that it was.
#[test]
fn introductions_at_full_speed_are_bounded_and_others_are_still_introduced() {
    for seed in seeds(3) {
        let mut mesh = mesh(seed, 20);
        let homes = mesh.homes.clone();
        let world = &mut mesh.world;
        let (asker, target, one, other) = (homes[0], homes[1], homes[2], homes[3]);
        world.arrivals = Some(Vec::new());
        let begun = world.elapsed();
        // A restart costs it a handshake with each hub, and forgets that it has asked.
        for _ in 0..20 {
            for &home in &homes[1..] {
                world.send(asker, home);
            }
            world.run_for(ms(500));
            world.restart(asker);
        }
        let seconds = (world.elapsed() - begun).as_secs() as usize;
        let arrivals = world.arrivals.take().unwrap_or_default();
        let at_target = arrivals.iter().filter(|(host, _)| *host == target).count();
        // One a second from this asker, four at once; each of three hubs may tell it twice, with a few pings and their like.
        assert!(at_target <= (seconds + 4) * 30, "{at_target} datagrams in {seconds} s to one target");
        let took = reach(world, one, other, secs(5)).expect("others are introduced");
        assert!(took <= ms(300), "{took:?}");
        is_unharmed(world, one, other);
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        let sessions = world.hosts[target].events.iter().filter(|(_, event)| connected(event)).count();
        println!(
            "introductions at full speed: {at_target} datagrams and {sessions} sessions in {seconds} s at one target"
        );
    }
}

/// One of three introducers has everybody at addresses of somebody else, in its lists and in its introductions.
#[test]
fn an_introducer_that_lies_about_others_keeps_nobody_from_them_and_leads_nobody_astray() {
    for seed in seeds(10) {
        let mut mesh = Mesh::new(seed, Line::clean(ms(20)), 3, None, &[Behaviour::home(); 6]);
        mesh.world.liar = Some(mesh.hubs[(seed % 3) as usize]);
        mesh.start();
        mesh.world.run_for(secs(5));
        let homes = mesh.homes.clone();
        let world = &mut mesh.world;
        world.strays.clear();
        let pairs: Vec<_> = (0..6).flat_map(|one| (0..one).map(move |other| (one, other))).collect();
        for &(one, other) in &pairs {
            let (one, other) = (homes[one], homes[other]);
            let took = reach(world, one, other, secs(5));
            assert!(took.is_some_and(|took| took < ms(500)), "seed {seed}: {one} {other} {took:?}");
        }
        world.run_for(secs(10));
        for &(one, other) in &pairs {
            let (one, other) = (homes[one], homes[other]);
            assert!(is_direct(world, one, other), "seed {seed}");
            let Some(Hop::Direct(address)) = primary(world, one, other) else { panic!("direct") };
            assert_ne!(address.ip(), mistaken(world.hosts[other].address).ip());
        }
        // Some tokens, answers and pings for each member that is said to be there, and one offer, which goes to the first address of an introduction (PROTOCOL §8.1).
        let astray: Vec<usize> = world.strays.iter().map(|stray| stray.bytes.len()).collect();
        let long = astray.iter().filter(|&&len| len > 162).count();
        assert!(long <= pairs.len(), "{astray:?}");
        assert!(astray.len() <= pairs.len() * 2 * 16, "{} datagrams for {} pairs", astray.len(), pairs.len());
        is_unharmed(world, homes[0], homes[1]);
    }
}
