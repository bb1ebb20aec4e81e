//! Introducers and relays that are gone for a while, and what is left of that when they are back.

use handfast::proto::Hop;

use crate::line::Rate;
use crate::mesh_of::{AMPLE, Mesh, is_direct, primary, reach};
use crate::nat::Behaviour;
use crate::world::{HostId, Line, World, ms, secs, seeds};

/// The hubs that a host stands with and reaches.
fn standing(mesh: &Mesh, host: HostId) -> Vec<HostId> {
    let holds = |&&hub: &&HostId| {
        let status = mesh.world.status(host, hub);
        status.is_standing && status.session.is_some()
    };
    mesh.hubs.iter().filter(holds).copied().collect()
}

/// Lets two talk for some seconds, ten packets a second each.
fn talk(world: &mut World, one: HostId, other: HostId, seconds: u64) {
    for _ in 0..seconds * 10 {
        world.send(one, other);
        world.send(other, one);
        world.run_for(ms(100));
    }
}

#[test]
fn who_says_nothing_is_found_again_soon_after_the_only_introducer_is_back() {
    for (seed, outage) in seeds(3).flat_map(|seed| [60, 120, 300, 600, 1200].map(|outage| (seed, outage))) {
        let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 1, None, &[Behaviour::home(); 2]);
        let (hub, one, other) = (mesh.hubs[0], mesh.homes[0], mesh.homes[1]);
        // The longer it was there, the more rarely it is pinged.
        mesh.world.run_for(secs(1000 * (seed % 3)));
        mesh.world.kill(hub);
        mesh.world.run_for(secs(outage));
        mesh.world.start(hub);
        let is_back = |world: &World| [one, other].iter().all(|&home| world.session(hub, home).is_some());
        // A node that can be found by nobody looks for its introducers every minute at least.
        let took = mesh.world.run_until(secs(60), is_back);
        assert!(took.is_some(), "seed {seed}, after {outage} s");
        mesh.world.run_for(secs(1));
        assert!(reach(&mut mesh.world, one, other, secs(2)).is_some(), "seed {seed}, after {outage} s");
    }
}

#[test]
fn a_standing_peer_that_is_gone_is_replaced_within_a_minute() {
    for seed in seeds(5) {
        let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 5, None, &[Behaviour::home()]);
        let home = mesh.homes[0];
        let before = standing(&mesh, home);
        let gone = before[0];
        assert_eq!(before.len(), 3);
        mesh.world.kill(gone);
        // It is missed by the keepalive, and looked for during 15 s.
        let replaced = (0..60).any(|_| {
            mesh.world.run_for(secs(1));
            let now = standing(&mesh, home);
            now.len() == 3 && !now.contains(&gone)
        });
        assert!(replaced, "seed {seed}");
        // It takes its place back when it returns, and nobody's session is made anew for that.
        mesh.world.run_for(secs(10));
        let made = |mesh: &Mesh| -> Vec<u64> {
            mesh.hubs.iter().map(|&hub| mesh.world.status(home, hub).traffic.sessions).collect()
        };
        let sessions_before = made(&mesh);
        mesh.world.start(gone);
        mesh.world.run_for(secs(200));
        assert_eq!(standing(&mesh, home), before, "seed {seed}");
        let anew: u64 = made(&mesh).iter().zip(&sessions_before).map(|(after, before)| after - before).sum();
        assert_eq!(anew, 1, "seed {seed}: only that with the one that is back");
    }
}

#[test]
fn who_is_held_by_others_than_usual_is_found_all_the_same() {
    let mut tried = 0;
    for seed in seeds(20) {
        let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 16, None, &[Behaviour::home(); 2]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        for hub in standing(&mesh, other) {
            mesh.world.kill(hub);
        }
        mesh.world.run_for(secs(90));
        let now = standing(&mesh, other);
        // Who asks, and has a session with one of these by chance, would show nothing.
        if now.len() < 3 || now.iter().any(|&hub| mesh.world.session(one, hub).is_some()) {
            continue;
        }
        assert!(reach(&mut mesh.world, one, other, secs(15)).is_some(), "seed {seed}");
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}

/// Two members that reach each other through relays only; the first relay is nearer.
fn two_relays(seed: u64) -> Mesh {
    let mut mesh = Mesh::new(seed, Line::clean(ms(10)), 2, Some(AMPLE), &[Behaviour::symmetric(); 2]);
    for home in mesh.homes.clone() {
        mesh.world.set_lines(home, mesh.hubs[1], Line::clean(ms(60)));
    }
    mesh.start();
    mesh.world.run_for(secs(5));
    mesh
}

fn relay_of(mesh: &Mesh, one: HostId, other: HostId) -> Option<HostId> {
    match primary(&mesh.world, one, other)? {
        Hop::Relay(relay) => Some(mesh.hubs[relay.slot()]),
        Hop::Direct(_) => None,
    }
}

#[test]
fn a_relay_that_was_away_is_used_again() {
    for seed in seeds(5) {
        let mut mesh = two_relays(seed);
        let (near, far) = (mesh.hubs[0], mesh.hubs[1]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        talk(&mut mesh.world, one, other, 10);
        assert_eq!(relay_of(&mesh, one, other), Some(near), "seed {seed}");
        mesh.world.kill(near);
        talk(&mut mesh.world, one, other, 20);
        assert_eq!(relay_of(&mesh, one, other), Some(far), "seed {seed}");
        mesh.world.start(near);
        talk(&mut mesh.world, one, other, 60);
        assert_eq!([relay_of(&mesh, one, other), relay_of(&mesh, other, one)], [Some(near); 2], "seed {seed}");
    }
}

#[test]
fn a_relay_that_could_not_be_reached_for_a_while_is_used_again() {
    for seed in seeds(5) {
        let mut mesh = two_relays(seed);
        let (near, far) = (mesh.hubs[0], mesh.hubs[1]);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        talk(&mut mesh.world, one, other, 10);
        // Shorter than it takes to lose the session with the relay.
        mesh.world.set_up(other, near, false);
        talk(&mut mesh.world, one, other, 8);
        assert_eq!(relay_of(&mesh, one, other), Some(far), "seed {seed}");
        mesh.world.set_up(other, near, true);
        talk(&mut mesh.world, one, other, 60);
        assert_eq!([relay_of(&mesh, one, other), relay_of(&mesh, other, one)], [Some(near); 2], "seed {seed}");
    }
}

#[test]
fn the_only_relay_that_has_forgotten_everything_is_greeted_as_soon_as_nothing_goes_through_it() {
    for seed in seeds(5) {
        let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 1, Some(AMPLE), &[Behaviour::symmetric(); 2]);
        let (hub, one, other) = (mesh.hubs[0], mesh.homes[0], mesh.homes[1]);
        // Until it is pinged as rarely as ever.
        mesh.world.run_for(secs(3600));
        talk(&mut mesh.world, one, other, 10);
        mesh.world.kill(hub);
        talk(&mut mesh.world, one, other, 20);
        mesh.world.start(hub);
        let mut waited = 0;
        loop {
            let packets = [mesh.world.send(one, other), mesh.world.send(other, one)];
            mesh.world.run_for(ms(500));
            if packets.into_iter().all(|id| mesh.world.is_delivered(id)) {
                break;
            }
            waited += 1;
            assert!(waited < 20, "seed {seed}: ten seconds");
        }
    }
}

/// Two members of which each was introduced to the other.
fn introduced(seed: u64) -> Mesh {
    let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 3, Some(AMPLE), &[Behaviour::home(); 2]);
    talk(&mut mesh.world, mesh.homes[0], mesh.homes[1], 5);
    assert!(is_direct(&mesh.world, mesh.homes[0], mesh.homes[1]));
    mesh
}

#[test]
fn two_that_were_cut_off_from_everything_meet_again() {
    for (seed, seconds) in seeds(3).flat_map(|seed| [2, 20, 200].map(|seconds| (seed, seconds))) {
        let mut mesh = introduced(seed);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        mesh.world.part(&[one]);
        talk(&mut mesh.world, one, other, seconds);
        mesh.world.heal();
        for (from, to) in [(one, other), (other, one)] {
            let took = reach(&mut mesh.world, from, to, secs(10));
            assert!(took.is_some(), "seed {seed}, after {seconds} s");
        }
        talk(&mut mesh.world, one, other, 30);
        assert!(is_direct(&mesh.world, one, other), "seed {seed}, after {seconds} s");
    }
}

#[test]
fn two_that_were_introduced_meet_again_when_a_clock_has_jumped() {
    for seed in seeds(5) {
        let mut mesh = introduced(seed);
        let (one, other) = (mesh.homes[0], mesh.homes[1]);
        // Nobody says that the host has slept, so it takes until nothing was answered for 15 s.
        mesh.world.jump_clock(one, secs(3600));
        talk(&mut mesh.world, one, other, 25);
        let since = mesh.world.packets_sent();
        talk(&mut mesh.world, one, other, 10);
        mesh.world.run_for(secs(1));
        assert!(mesh.world.all_delivered_since(since), "seed {seed}");
        assert!(is_direct(&mesh.world, one, other), "seed {seed}");
    }
}

#[test]
fn members_meet_over_uplinks_that_are_full() {
    for seed in seeds(5) {
        let mut mesh = Mesh::running(seed, Line::clean(ms(20)), 3, Some(AMPLE), &[Behaviour::home(); 3]);
        let homes = mesh.homes.clone();
        // A megabit a second, and room for a quarter of a second in front of it.
        for &home in &homes {
            mesh.world.limit_uplink(home, Some(Rate { bytes_per_second: 125_000, queue: 31_250 }));
        }
        // Twice of what it carries goes to the third one.
        let load = |world: &mut World| {
            for _ in 0..100 {
                for &from in &homes[..2] {
                    for _ in 0..2 {
                        world.send_sized(from, homes[2], 0, 1200);
                    }
                }
                world.run_for(ms(10));
            }
        };
        load(&mut mesh.world);
        // Half of what they send is lost, whatever it is.
        let mut met = [false; 2];
        for _ in 0..15 {
            let packets = [mesh.world.send(homes[0], homes[1]), mesh.world.send(homes[1], homes[0])];
            load(&mut mesh.world);
            met.iter_mut().zip(packets).for_each(|(met, id)| *met |= mesh.world.is_delivered(id));
        }
        assert_eq!(met, [true; 2], "seed {seed}");
        mesh.world.run_for(secs(1));
        talk(&mut mesh.world, homes[0], homes[1], 5);
        assert!(is_direct(&mesh.world, homes[0], homes[1]), "seed {seed}");
    }
}
