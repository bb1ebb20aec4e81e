//! Sessions come when somebody wants to talk and go when nobody does; hubs come and go, too.

use std::time::Duration;

use crate::mesh_of::{AMPLE, Mesh, reach, sessions};
use crate::nat::{Behaviour, Filtering, Mapping, Ports};
use crate::world::{Line, World, ms, secs, seeds};

/// Sessions that are kept to be found.
const STANDING: usize = 3;

fn mesh(seed: u64, hubs: usize) -> Mesh {
    let kinds = [
        Behaviour::home(),
        Behaviour::symmetric(),
        Behaviour::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, Ports::Random),
    ];
    let nats: Vec<Behaviour> = (0..30).map(|number| kinds[number % 3]).collect();
    Mesh::running(seed, Line::clean(ms(20)), hubs, Some(AMPLE), &nats)
}

/// Whether the one of each pair reaches the other; the longest time that it took.
fn all_reached(world: &mut World, pairs: &[(usize, usize)], limit: Duration) -> Duration {
    let packets: Vec<_> = pairs.iter().map(|&(from, to)| (from, to, world.send(from, to))).collect();
    let took = world.run_until(limit, |world| packets.iter().all(|&(_, _, id)| world.is_delivered(id)));
    let missing: Vec<_> = packets.iter().filter(|&&(_, _, id)| !world.is_delivered(id)).collect();
    took.unwrap_or_else(|| panic!("not delivered: {missing:?}"))
}

fn neighbours(mesh: &Mesh) -> Vec<(usize, usize)> {
    let homes = &mesh.homes;
    (0..homes.len()).map(|place| (homes[place], homes[(place + 7) % homes.len()])).collect()
}

#[test]
fn who_talks_to_nobody_holds_three_sessions_and_who_has_talked_ends_them() {
    for seed in seeds(3) {
        // With five hubs, too, each member holds three of them.
        let mut mesh = mesh(seed, 5);
        for &home in &mesh.homes {
            assert!(sessions(&mesh.world, home) <= STANDING, "host {home}");
        }
        let pairs = neighbours(&mesh);
        let took = all_reached(&mut mesh.world, &pairs, secs(2));
        assert!(took <= ms(500), "{took:?}");
        for &(from, to) in &pairs {
            assert!(mesh.world.session(from, to).is_some() || mesh.world.session(to, from).is_some());
        }
        mesh.world.run_for(secs(400));
        for &home in &mesh.homes {
            assert!(sessions(&mesh.world, home) <= STANDING, "host {home} has {}", sessions(&mesh.world, home));
        }
        let took = all_reached(&mut mesh.world, &pairs, secs(4));
        println!("a mesh of 30 in a ring once more: {took:?}");
    }
}

#[test]
fn a_hub_that_restarts_is_used_again_and_nobody_is_cut_off() {
    for seed in seeds(3) {
        let mut mesh = mesh(seed, 3);
        let hub = mesh.hubs[(seed % 3) as usize];
        mesh.world.kill(hub);
        let (one, other) = (mesh.homes[0], mesh.homes[3]);
        let took = reach(&mut mesh.world, one, other, secs(5)).expect("there are two others");
        assert!(took <= secs(1), "{took:?} with one hub of three");
        mesh.world.run_for(secs(20));
        mesh.world.start(hub);
        mesh.world.run_for(secs(120));
        let back = mesh.homes.iter().filter(|&&home| mesh.world.session(home, hub).is_some()).count();
        assert_eq!(back, mesh.homes.len(), "all have a session with it again");
    }
}

#[test]
fn when_everything_restarts_at_once_everyone_is_reached_within_three_seconds() {
    for seed in seeds(3) {
        let mut mesh = mesh(seed, 3);
        for host in 0..mesh.world.hosts.len() {
            mesh.world.kill(host);
        }
        for host in 0..mesh.world.hosts.len() {
            mesh.world.start(host);
        }
        let pairs = neighbours(&mesh);
        let took = all_reached(&mut mesh.world, &pairs, secs(3));
        println!("everything after a restart of all: {took:?}");
    }
}

/// The Internet is gone for two minutes, and all hubs are. Then the hubs are up again.
#[test]
fn after_an_island_everyone_is_reached_within_three_seconds_of_the_hubs() {
    for seed in seeds(3) {
        let mut mesh = mesh(seed, 3);
        for &hub in &mesh.hubs {
            mesh.world.kill(hub);
        }
        for &home in &mesh.homes {
            mesh.world.restart(home);
        }
        mesh.world.run_for(secs(120));
        for &hub in &mesh.hubs {
            mesh.world.start(hub);
        }
        let pairs = neighbours(&mesh);
        let took = all_reached(&mut mesh.world, &pairs, secs(10));
        println!("everything after the hubs came back: {took:?}");
        assert!(took <= secs(3), "{took:?}");
    }
}

/// Every kind of router against every other: after the last packet, all is silent.
fn chatter(one: Behaviour, other: Behaviour, relay: bool) -> (u64, usize) {
    let mut mesh = Mesh::running(1, Line::clean(ms(20)), 3, relay.then_some(AMPLE), &[one, other]);
    let homes = [mesh.homes[0], mesh.homes[1]];
    let _ = reach(&mut mesh.world, homes[0], homes[1], secs(5));
    mesh.world.run_for(secs(400));
    let before = mesh.world.sent.clone();
    mesh.world.run_for(secs(100));
    let datagrams = homes.iter().map(|&home| mesh.world.sent[home].0 - before[home].0).sum();
    (datagrams, usize::from(mesh.world.session(homes[0], homes[1]).is_some()))
}

/// The answer comes straight through the open filter of the asker, from a place to which nothing of the asker's gets back: its router has another port for it.
#[test]
fn an_answer_that_came_one_way_only_does_not_keep_a_pair_from_its_relay() {
    let one = Behaviour::new(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent, Ports::Preserving);
    let mut mesh = Mesh::running(1, Line::clean(ms(20)), 3, Some(AMPLE), &[one, Behaviour::symmetric()]);
    let (asker, target) = (mesh.homes[0], mesh.homes[1]);
    assert!(reach(&mut mesh.world, asker, target, secs(9)).is_some(), "there are three relays");
}

#[test]
fn after_the_last_packet_all_is_silent_behind_every_kind_of_router() {
    let mut kinds = Vec::new();
    for mapping in Mapping::ALL {
        for filtering in Filtering::ALL {
            for ports in Ports::ALL {
                kinds.push(Behaviour::new(mapping, filtering, ports));
            }
        }
    }
    let mut loud = Vec::new();
    for (place, &one) in kinds.iter().enumerate() {
        for &other in &kinds[place..] {
            let (datagrams, session) = chatter(one, other, true);
            // Each holds three sessions by a ping in 25 s, and answers none.
            if datagrams > 100 || session > 0 {
                loud.push(format!("{datagrams} datagrams, {session} sessions: {one:?} and {other:?}"));
            }
        }
    }
    assert!(loud.is_empty(), "{}\n{}", loud.len(), loud.join("\n"));
}
