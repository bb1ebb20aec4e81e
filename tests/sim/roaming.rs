//! Addresses that change under a session, and attackers who pretend that they do.

use std::net::SocketAddr;

use handfast::proto::Event;

use crate::world::{Datagram, Line, World, address, ms, secs, seeds};

fn endpoint(world: &World, host: usize) -> SocketAddr {
    world.session(host, 1 - host).expect("connected").1
}

#[test]
fn traffic_follows_a_host_that_sends_from_another_address() {
    for seed in seeds(100) {
        let roamer = (seed % 2) as usize;
        let mut world = World::connected(seed, Line::rough(ms(20), if seed % 3 == 0 { 50 } else { 0 }));
        for place in 0..5 {
            for _ in 0..20 {
                world.send(0, 1);
                world.send(1, 0);
                world.run_for(ms(100));
            }
            let new = address(100 + place);
            world.roam(roamer, new);
            let begun = world.now;
            while endpoint(&world, 1 - roamer) != new {
                world.send(0, 1);
                world.send(1, 0);
                world.run_for(ms(50));
                assert!(world.now - begun < secs(4), "host {roamer} is lost at {new}");
            }
            assert_eq!(world.status(0, 1).traffic.sessions, 1, "without a new handshake");
        }
    }
}

#[test]
fn without_loss_one_packet_and_two_round_trips_are_enough() {
    let mut world = World::connected(1, Line::clean(ms(20)));
    world.roam(0, address(100));
    world.send(0, 1);
    // The packet, then a small ping and its answer, then one of full size and its answer; and the old address has 100 ms to answer.
    world.run_for(ms(99));
    assert_eq!(endpoint(&world, 1), address(0), "not before it has proven itself");
    world.run_for(ms(21));
    assert_eq!(endpoint(&world, 1), address(100));
    let packet = world.send(1, 0);
    assert_eq!(world.run_until(secs(1), |world| world.is_delivered(packet)), Some(ms(20)));
    assert!(world.hosts[1].events.iter().any(|(_, event)| matches!(event, Event::Moved { .. })));
}

#[test]
fn a_silent_host_that_moved_is_found_again_by_name() {
    for seed in seeds(30) {
        let mut world = World::connected(seed, Line::rough(ms(20), 0));
        world.hosts[1].names = true;
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(secs(12));
        world.roam(0, address(100));
        let begun = world.now;
        while endpoint(&world, 1) != address(100) {
            world.send(1, 0);
            world.run_for(ms(100));
            // 15 s without an answer, then three transmissions of a hello, then the name is looked up.
            assert!(world.now - begun < secs(22), "host 0 is lost");
        }
    }
}

#[test]
fn both_may_move_at_once_if_names_are_known() {
    for seed in seeds(30) {
        let mut world = World::connected(seed, Line::rough(ms(20), 0));
        world.hosts[0].names = true;
        world.hosts[1].names = true;
        world.roam(0, address(100));
        world.roam(1, address(101));
        let begun = world.now;
        let since = world.packets_sent();
        while !(since..world.packets_sent()).any(|id| world.is_delivered(id)) {
            world.send(0, 1);
            world.run_for(ms(100));
            assert!(world.now - begun < secs(25), "both are lost");
        }
    }
}

/// An attacker who sees every datagram and sends copies of valid ones from elsewhere, sometimes before the original arrives.
#[test]
fn copies_from_elsewhere_move_nothing() {
    for seed in seeds(30) {
        let mut world = World::connected(seed, Line::rough(ms(20), 0));
        world.tap = Some(Vec::new());
        let homes = [0, 1].map(|host| endpoint(&world, host));
        let mut pings_copied = 0;
        for _ in 0..100 {
            world.send(0, 1);
            world.send(1, 0);
            let seen = world.tap.replace(Vec::new()).unwrap_or_default();
            for (number, datagram) in (0..).zip(seen) {
                if world.chance(700) {
                    pings_copied += usize::from(datagram.bytes.len() == 64);
                    // Faster than the original, so that the copy is the first to open.
                    let _ = world.inject(Datagram { from: address(200 + number % 50), ..datagram });
                }
            }
            world.run_for(ms(50));
            assert_eq!([0, 1].map(|host| endpoint(&world, host)), homes);
        }
        // Pings went to the attacker, but few: each host asks at most two unproven addresses at a time, each by four pings of 64 bytes in 1.5 s. And a ping that is
        // copied is answered where the copy came from, in its own length.
        let bytes: usize = world.strays.iter().map(|stray| stray.bytes.len()).sum();
        let rounds = 5_000usize.div_ceil(1_500);
        let most = (2 * 2 * rounds * 4 + pings_copied) * 64;
        assert!(bytes <= most, "{bytes} bytes to places that did not ask, of {most}");
        world.run_for(secs(1));
        assert!(
            world.all_delivered_since(0),
            "the attacker has lost nothing for us: the copy is as good as the original"
        );
        for host in [0, 1] {
            assert!(!world.hosts[host].events.iter().any(|(_, event)| matches!(event, Event::Moved { .. })));
        }
    }
}
