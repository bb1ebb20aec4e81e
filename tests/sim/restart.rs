//! A process that dies and comes back, at any moment.

use std::time::Duration;

use crate::world::{HostId, Line, World, ms, secs, seeds};

const DELAY: Duration = ms(20);

/// `host` is killed at a random moment, stays away for `away`, and comes back; both send all the time. `limit` after that, packets are through both ways.
fn heals_within(limit: Duration, seed: u64, host: HostId, away: Duration, knows_endpoint: bool) {
    // Without jitter the bound is in round trips; with it, an offer that overtakes the answer has to be repeated after a second.
    let (line, limit) =
        if seed % 8 < 4 { (Line::clean(DELAY), limit) } else { (Line::rough(DELAY, 0), limit + ms(1500)) };
    let mut world = World::new(seed, 2, line);
    if !knows_endpoint {
        world.forget_endpoint(host, 1 - host);
    }
    world.start(0);
    world.start(1);
    let moment = ms(u64::from(world.rng.below(400)) + if seed.is_multiple_of(2) { 0 } else { 130_000 });
    send_both_ways(&mut world, moment);
    world.kill(host);
    send_both_ways(&mut world, away);
    world.start(host);
    let begun = world.now;
    let since = world.packets_sent();
    for _ in 0..2000 {
        world.send(0, 1);
        world.send(1, 0);
        let healed = world.run_until(ms(50), |world| {
            [0, 1].into_iter().all(|to| world.hosts[to].received.last().is_some_and(|&(_, id)| id >= since))
        });
        if healed.is_some() {
            break;
        }
    }
    let healed = world.now - begun;
    assert!(healed <= limit, "{healed:?} after host {host} was back");
    // And it stays so.
    world.run_for(ms(500));
    let since = world.packets_sent();
    send_both_ways(&mut world, secs(15));
    world.run_for(ms(500));
    assert!(world.all_delivered_since(since), "packets were lost after the link had healed");
}

fn send_both_ways(world: &mut World, duration: Duration) {
    let end = world.now + duration;
    while world.now < end {
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(ms(250).min(end - world.now));
    }
}

#[test]
fn a_restart_heals_with_one_handshake_if_the_restarted_node_knows_the_other() {
    for seed in seeds(100) {
        for host in [0, 1] {
            let away = if seed % 4 < 2 { secs(0) } else { secs(30) };
            heals_within(DELAY * 12, seed, host, away, true);
        }
    }
}

#[test]
fn a_restart_heals_once_the_other_side_misses_an_answer() {
    for seed in seeds(40) {
        for host in [0, 1] {
            let away = if seed % 4 < 2 { secs(0) } else { secs(30) };
            heals_within(secs(17), seed, host, away, false);
        }
    }
}

#[test]
fn a_link_heals_when_the_line_does() {
    for seed in seeds(40) {
        let mut world = World::connected(seed, Line::rough(DELAY, 0));
        let cut = secs(1 + u64::from(world.rng.below(200)));
        let end = world.now + cut;
        world.set_up(0, 1, false);
        while world.now < end {
            world.send(0, 1);
            world.run_for(ms(500));
        }
        world.set_up(0, 1, true);
        let begun = world.now;
        let since = world.packets_sent();
        while !(since..world.packets_sent()).any(|id| world.is_delivered(id)) {
            world.send(0, 1);
            world.run_for(ms(100));
            assert!(world.now - begun < secs(10), "still dead ten seconds after a cut of {cut:?}");
        }
    }
}

#[test]
fn a_host_that_slept_is_back_within_seconds_of_its_first_packet() {
    for seed in seeds(40) {
        for sender in [0, 1] {
            let mut world = World::connected(seed, Line::rough(DELAY, 0));
            world.forget_endpoint(1, 0);
            let sleep = secs(1 + u64::from(world.rng.below(3000)));
            world.suspend(0, sleep);
            world.run_for(sleep + secs(1));
            let begun = world.now;
            let since = world.packets_sent();
            while !(since..world.packets_sent()).any(|id| world.is_delivered(id)) {
                world.send(sender, 1 - sender);
                world.run_for(ms(100));
                assert!(world.now - begun < secs(2), "host {sender} waits two seconds after {sleep:?} of sleep");
            }
        }
    }
}
