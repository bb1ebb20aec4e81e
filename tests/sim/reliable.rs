//! Reliable channels: everything, in order, once; whatever the line does, and while keys and sessions change.

use std::time::Duration;

use handfast::proto::Dropped;

use crate::world::{HostId, Line, PacketId, World, ms, secs, seeds};

/// Sends packets of mixed sizes on both channels, both ways, for `duration`; about `per_second` of them a second.
fn load(world: &mut World, duration: Duration, per_second: u32) -> [Vec<PacketId>; 4] {
    let mut flows: [Vec<PacketId>; 4] = Default::default();
    let end = world.now + duration;
    while world.now < end {
        for (flow, &(from, to, channel)) in FLOWS.iter().enumerate() {
            let longest = if world.chance(50) { 9000 } else { 1300 };
            let len = 60 + world.rng.below(longest) as usize;
            match world.try_send(from, to, channel, len) {
                Ok(id) => flows[flow].push(id),
                Err(reason) => assert_eq!(reason, Dropped::ReliableFull),
            }
        }
        world.run_for(secs(4) / per_second);
    }
    flows
}

const FLOWS: [(HostId, HostId, u8); 4] = [(0, 1, 1), (0, 1, 2), (1, 0, 1), (1, 0, 2)];

/// What arrived of one flow, in the order of arrival.
fn arrived(world: &World, to: HostId, sent: &[PacketId]) -> Vec<PacketId> {
    world.hosts[to].received.iter().map(|&(_, id)| id).filter(|id| sent.binary_search(id).is_ok()).collect()
}

fn all_in_order_once(seed: u64, loss: u32, duration: Duration) {
    let mut world = World::connected(seed, Line::rough(ms(20), loss));
    let flows = load(&mut world, duration, 40);
    let complete =
        |world: &World| FLOWS.iter().zip(&flows).all(|(_, sent)| sent.iter().all(|&id| world.is_delivered(id)));
    assert!(world.run_until(secs(60), complete).is_some(), "not everything was delivered at {loss} of a thousand lost");
    for (&(_, to, _), sent) in FLOWS.iter().zip(&flows) {
        assert!(sent.len() as u64 > duration.as_secs() * 5, "{} packets are no load", sent.len());
        assert_eq!(arrived(&world, to, sent), *sent);
    }
    assert_eq!(world.status(0, 1).traffic.sessions, 1, "all on one session");
    let epoch = world.session(0, 1).map_or(0, |(epoch, _)| epoch);
    assert!(epoch > duration.as_secs() / 130, "across rekeys");
}

#[test]
fn everything_arrives_in_order_and_once_at_a_twentieth_lost_each_way() {
    for seed in seeds(2) {
        all_in_order_once(seed, 50, secs(300));
    }
}

#[test]
fn everything_arrives_in_order_and_once_at_a_fifth_lost_each_way() {
    for seed in seeds(2) {
        all_in_order_once(seed, 200, secs(300));
    }
}

#[test]
fn a_bulk_transfer_finishes_despite_loss_and_stays_within_its_buffers() {
    for seed in seeds(3) {
        let mut world = World::connected(seed, Line::rough(ms(10), 50));
        let mut sent = Vec::new();
        let begun = world.now;
        while sent.len() < 2000 {
            match world.try_send(0, 1, 1, 1280) {
                Ok(id) => sent.push(id),
                Err(reason) => {
                    assert_eq!(reason, Dropped::ReliableFull);
                    world.run_for(ms(50));
                }
            }
            assert!(world.now - begun < secs(120), "{} of 2000 packets in two minutes", sent.len());
        }
        assert!(world.run_until(secs(120), |world| sent.iter().all(|&id| world.is_delivered(id))).is_some());
        assert_eq!(arrived(&world, 1, &sent), sent);
    }
}

#[test]
fn one_channel_does_not_wait_for_another() {
    // A channel whose packets are large and many, and one with a small packet now and then.
    let mut world = World::connected(3, Line::rough(ms(20), 20));
    let mut slowest = secs(0);
    for _ in 0..50 {
        while world.try_send(0, 1, 1, 9000).is_ok() && world.chance(900) {}
        if let Ok(small) = world.try_send(0, 1, 2, 60) {
            let took = world.run_until(secs(20), |world| world.is_delivered(small)).expect("the small one arrives");
            slowest = slowest.max(took);
        }
    }
    assert!(slowest < secs(3), "{slowest:?} for one small packet");
}

/// The receiving process dies: the new one gets everything that was not acknowledged, in order, without a gap.
#[test]
fn a_restart_of_the_receiver_leaves_no_gap_and_turns_nothing_around() {
    for seed in seeds(40) {
        let mut world = World::connected(seed, Line::rough(ms(20), if seed % 2 == 0 { 0 } else { 50 }));
        world.repeats_allowed = true;
        world.hosts[1].known.entry(0).or_default().endpoints = vec![world.hosts[0].address];
        let mut sent = Vec::new();
        let moment = world.rng.below(100);
        let mut received_before = 0;
        for tick in 0..200 {
            if tick == 50 + moment {
                received_before = world.hosts[1].received.len();
                world.restart(1);
            }
            sent.extend(world.try_send(0, 1, 1, 700));
            world.run_for(ms(20));
        }
        let last = *sent.last().unwrap();
        assert!(world.run_until(secs(60), |world| world.is_delivered(last)).is_some(), "the flow never came back");
        let arrived: Vec<PacketId> = world.hosts[1].received.iter().map(|&(_, id)| id).collect();
        let (before, after) = arrived.split_at(received_before);
        assert_eq!(before, &sent[..before.len()], "in order before the restart");
        let resumed = sent.iter().position(|id| id == &after[0]).unwrap();
        assert!(resumed <= before.len(), "a gap of {} packets", resumed - before.len());
        assert_eq!(after, &sent[resumed..], "in order after the restart");
    }
}

/// The line dies for longer than a session lives without an answer; what was handed over is not lost before an attempt to reach the peer has failed, too.
#[test]
fn what_was_not_acknowledged_survives_the_end_of_its_session() {
    for seed in seeds(20) {
        let mut world = World::connected(seed, Line::rough(ms(20), 0));
        world.repeats_allowed = true;
        let mut sent: Vec<PacketId> = (0..20).filter_map(|_| world.try_send(0, 1, 1, 700).ok()).collect();
        world.run_for(secs(1));
        world.set_up(0, 1, false);
        sent.extend((0..20).filter_map(|_| world.try_send(0, 1, 1, 700).ok()));
        // A second without an answer to any ping, then 90 s of greeting, in which a hello leaves every five or six seconds.
        let cut = if seed % 2 == 0 { 80 } else { 400 };
        world.run_for(secs(cut));
        world.set_up(0, 1, true);
        // The next packet makes the next session, if the last one is gone.
        sent.extend(world.try_send(0, 1, 1, 700));
        if cut > 105 {
            sent.drain(20..40);
        }
        assert!(world.run_until(secs(60), |world| sent.iter().all(|&id| world.is_delivered(id))).is_some());
        assert_eq!(arrived(&world, 1, &sent), sent);
    }
}
