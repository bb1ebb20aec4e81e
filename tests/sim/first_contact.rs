//! Two nodes that never met: how soon the first packets are through, and what happens when both begin at once.

use handfast::crypto::aead::Cipher;
use handfast::proto::{Dropped, Event};

use crate::world::{HostId, Line, World, ms, secs, seeds};

const DELAY: std::time::Duration = ms(10);

/// `pinger` sends when the second node starts and the other answers at once; how many round trips of the line that takes.
fn round_trips_of_first_ping(mut world: World, first: HostId, second: HostId, pinger: HostId) -> u32 {
    world.start(first);
    world.run_for(secs(3));
    world.start(second);
    let begun = world.now;
    let ping = world.send(pinger, 1 - pinger);
    world.run_until(secs(5), |world| world.is_delivered(ping)).expect("the ping is lost");
    let answer = world.send(1 - pinger, pinger);
    world.run_until(secs(5), |world| world.is_delivered(answer)).expect("the answer is lost");
    ((world.now - begun).as_micros() as u32).div_ceil(2 * DELAY.as_micros() as u32)
}

#[test]
fn the_first_ping_is_answered_within_four_round_trips_of_the_second_start() {
    for seed in seeds(10) {
        for second in [0, 1] {
            for pinger in [0, 1] {
                let world = World::new(seed, 2, Line::clean(DELAY));
                let trips = round_trips_of_first_ping(world, 1 - second, second, pinger);
                assert!(trips <= 4, "{trips} round trips, host {second} started second, host {pinger} pings");
            }
        }
    }
}

#[test]
fn one_side_is_enough_to_know_the_address_of_the_other() {
    for seed in seeds(10) {
        for pinger in [0, 1] {
            let mut world = World::new(seed, 2, Line::clean(DELAY));
            world.forget_endpoint(0, 1);
            let trips = round_trips_of_first_ping(world, 0, 1, pinger);
            assert!(trips <= 4, "{trips} round trips, host {pinger} pings");
        }
    }
}

#[test]
fn what_is_sent_before_there_is_a_session_waits_and_arrives_in_order() {
    let mut world = World::new(1, 2, Line::clean(DELAY));
    world.start(0);
    let sent: Vec<_> = (0..50).map(|_| world.send(0, 1)).collect();
    world.start(1);
    world.run_for(secs(1));
    let received: Vec<_> = world.hosts[1].received.iter().map(|&(_, id)| id).collect();
    assert_eq!(received, sent);
}

#[test]
fn a_lossy_line_only_takes_longer() {
    let mut slowest = secs(0);
    for seed in seeds(200) {
        let mut world = World::new(seed, 2, Line::rough(DELAY, 200));
        world.start(0);
        world.start(1);
        let took = world.run_until(secs(60), |world| {
            [(0, 1), (1, 0)].into_iter().all(|(host, other)| world.session(host, other).is_some())
        });
        slowest = slowest.max(took.expect("no session in a minute at 20 % loss"));
    }
    assert!(slowest < secs(20), "{slowest:?}");
}

/// Both begin within `apart` of each other, over a line with jitter; both send all the time.
fn both_begin(seed: u64, loss: u32) {
    let mut world = World::new(seed, 2, Line { loss, ..Line::rough(DELAY, 0) });
    world.hosts[0].prefers_aes = seed.is_multiple_of(2);
    world.hosts[1].prefers_aes = seed.is_multiple_of(3);
    let apart = ms(u64::from(world.rng.below(4) * world.rng.below(15)));
    world.start(0);
    world.run_for(apart);
    world.start(1);
    for _ in 0..20 {
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(ms(250));
    }
    for (host, other) in [(0, 1), (1, 0)] {
        let status = world.status(host, other);
        let session = status.session.expect("connected");
        let expected =
            if world.hosts.iter().all(|host| host.prefers_aes) { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 };
        assert_eq!((session.epoch, session.cipher), (1, expected));
        let connected = world.hosts[host].events.iter().filter(|(_, event)| matches!(event, Event::Connected { .. }));
        assert_eq!(connected.count(), 1, "host {host}: {:?}", world.hosts[host].events);
    }
    // From here on both have agreed: not one packet may be undeliverable, also when what they did not agree on is gone.
    world.set_lines(0, 1, Line::rough(DELAY, 0));
    world.run_for(ms(100));
    let agreed = world.packets_sent();
    let unknown = [0, 1].map(|host| world.drops(host, Dropped::UnknownSession));
    for _ in 0..60 {
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(ms(250));
    }
    assert!(world.all_delivered_since(agreed), "a packet was undeliverable after both had agreed");
    let unknown = [0, 1].map(|host| world.drops(host, Dropped::UnknownSession) - unknown[host]);
    assert!(
        unknown.iter().all(|&unknown| unknown <= 2),
        "{unknown:?}: a keepalive of a session that was left, repeated"
    );
    let attempts = [0, 1].map(|host| world.status(host, 1 - host).connecting);
    assert_eq!(attempts, [false, false], "nobody goes on greeting");
}

#[test]
fn nodes_that_begin_at_once_agree_on_one_session() {
    for seed in seeds(700) {
        both_begin(seed, 0);
    }
}

#[test]
fn nodes_that_begin_at_once_agree_on_one_session_despite_loss() {
    for seed in seeds(300) {
        both_begin(seed, 50);
    }
}
