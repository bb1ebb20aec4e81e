//! When things happen: delayed acknowledgements, tail probes, the retransmission timer.

use super::*;

#[test]
fn one_message_is_acknowledged_within_twenty_milliseconds_and_two_at_once() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.on_frame(now, 1, 1, 1, &[0]).unwrap();
    assert!(!end.has_due(now, Scope::All));
    assert_eq!(end.deadline(), Some(now + ms(20)));
    let later = now + ms(20);
    end.handle_timeout(later);
    let frames = frames_of(&mut end, later, Scope::All);
    assert_eq!(frames, [(1, 0, 2, vec![0x03, 0x48, 0, 20])]);
    assert_eq!(end.deadline(), None);
    end.on_frame(later, 1, 2, 1, &[40]).unwrap();
    assert!(!end.has_due(later, Scope::All));
    end.on_frame(later, 2, 1, 1, &[0]).unwrap();
    let frames = frames_of(&mut end, later, Scope::All);
    assert_eq!(frames.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [1, 2], "the second takes the first along");
}

#[test]
fn a_gap_and_a_duplicate_are_answered_at_once() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.on_frame(now, 1, 3, 1, &[0]).unwrap();
    let frames = frames_of(&mut end, now, Scope::All);
    assert_eq!(frames[0].2, 1);
    assert_eq!(frames[0].3[4..], [0, 0, 0, 3, 0, 0, 0, 4]);
    assert_eq!(end.on_frame(now, 1, 3, 1, &[0]), Err(FrameFault::Duplicate));
    assert_eq!(frames_of(&mut end, now, Scope::All).len(), 1);
    end.on_frame(now, 1, 1, 1, &[0]).unwrap();
    assert_eq!(frames_of(&mut end, now, Scope::All)[0].2, 2);
    end.on_frame(now, 1, 2, 1, &[40]).unwrap();
    assert_eq!(frames_of(&mut end, now, Scope::All)[0].2, 4);
}

#[test]
fn data_takes_an_acknowledgement_along() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.on_frame(now, 1, 1, 1, &[0]).unwrap();
    end.send(now, 2, &record(0, 40)).unwrap();
    let frames = frames_of(&mut end, now, Scope::All);
    assert_eq!(frames.iter().map(|(id, sequence, ..)| (*id, *sequence)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    assert!(!end.has_due(now + ms(20), Scope::All));
}

#[test]
fn acknowledgements_of_several_channels_in_one_packet_lose_nothing() {
    let now = epoch();
    let (mut end, mut other) = (Channels::new(now), Channels::new(now));
    for id in [1, 2, 2, 2, 2, 3] {
        end.send(now, id, &record(0, 1170)).unwrap();
    }
    for (id, sequence, ack, data) in frames_of(&mut end, now, Scope::All) {
        other.on_frame(now + ms(10), id, sequence, ack, &data).unwrap();
    }
    let acks = frames_of(&mut other, now + ms(10), Scope::All);
    assert_eq!(acks.len(), 3);
    for (id, sequence, ack, data) in acks.iter().rev() {
        end.on_frame(now + ms(20), *id, *sequence, *ack, data).unwrap();
    }
    assert!(frames_of(&mut end, now + ms(20), Scope::All).is_empty());
    assert_eq!(end.recovery.window(), 16, "six arrived and nothing was lost");
    assert_eq!(end.deadline(), None);
}

#[test]
fn a_message_is_lost_once_three_later_ones_arrived() {
    let mut world = World::clean(ms(50));
    world.ends[0].seed_rtt(ms(100));
    world.roads[0].doomed = vec![0];
    for tag in 0..4 {
        world.send(0, 1, &record(tag, 1100)).unwrap();
    }
    world.pass(ms(99));
    assert_eq!(world.roads[0].carried, 4);
    world.pass(ms(1));
    assert_eq!(world.roads[0].carried, 5, "on the acknowledgement of the fourth");
    world.settle();
    assert_eq!(world.roads[0].carried, 5);
}

/// Sends three messages of which the last `lost` ones, and their first `probes` repetitions, do not arrive; returns how long it took and the window.
fn tail_loss(lost: u64, probes: u64) -> (Duration, usize) {
    let mut world = World::clean(ms(10));
    for tag in 0..30 {
        world.send(0, 1, &record(tag, 1100)).unwrap();
        world.pass(ms(25));
    }
    let begin = world.now;
    let carried = world.roads[0].carried;
    world.roads[0].doomed = (carried + 3 - lost..carried + 3 + probes).collect();
    for tag in 0..3 {
        world.send(0, 1, &record(tag, 1100)).unwrap();
    }
    while world.delivered[1].len() < 33 {
        assert!(world.step(begin + ms(10_000)));
    }
    let took = world.now - begin;
    world.settle();
    (took, world.ends[0].recovery.window())
}

#[test]
fn the_loss_of_the_last_messages_is_found_before_the_timer() {
    for lost in 1..=3 {
        let (took, window) = tail_loss(lost, 0);
        assert!(took < ms(100), "{lost} lost: {took:?}");
        assert!(window > 1, "the window does not start over");
    }
}

#[test]
fn a_tail_probe_that_is_lost_too_is_followed_by_the_timer() {
    let (took, _) = tail_loss(1, 1);
    assert!(took > ms(110) && took < ms(200), "{took:?}");
}

#[test]
fn a_path_that_becomes_slower_is_measured_again() {
    let mut world = World::clean(ms(10));
    for delay in [10, 35, 200, 900] {
        world.roads[0].delay = ms(delay);
        world.roads[1].delay = ms(delay);
        for tag in 0..40 {
            world.send(0, 1, &record(tag, 100)).unwrap();
            world.settle();
        }
        let before = world.roads[0].carried;
        for tag in 0..10 {
            world.send(0, 1, &record(tag, 100)).unwrap();
            world.settle();
        }
        let repeated = world.roads[0].carried - before - 10;
        assert_eq!(repeated, 0, "after it was learnt that the way takes {delay} ms");
    }
}

#[test]
fn an_acknowledgement_that_waits_does_not_set_off_the_timer() {
    // The round trip alone is just below the shortest timer.
    let mut world = World::clean(ms(48));
    for tag in 0..50 {
        world.send(0, 1, &record(tag, 100)).unwrap();
        world.settle();
    }
    assert_eq!(world.roads[0].carried, 50);
}

#[test]
fn after_twelve_silent_expiries_it_is_dead() {
    let mut world = World::clean(ms(10));
    world.send(0, 1, &record(0, 100)).unwrap();
    world.settle();
    world.roads[0].loss = 100;
    world.send(0, 1, &record(1, 100)).unwrap();
    let begin = world.now;
    while !world.ends[0].is_dead() {
        assert!(world.step(begin + Duration::from_secs(120)), "the timer runs until the end");
    }
    let took = world.now - begin;
    assert!(took > Duration::from_secs(45) && took < Duration::from_secs(75), "{took:?}");
    assert_eq!(world.ends.swap_remove(0).into_unacknowledged(), [(1, record(1, 100))]);
}

#[test]
fn a_closed_window_and_silence_are_the_end_as_well() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.on_frame(now, 1, 0, 1, &[0, 0, 0, 0]).unwrap();
    end.send(now, 1, &record(0, 100)).unwrap();
    let mut probes = 0;
    while !end.is_dead() {
        let due = end.deadline().unwrap();
        end.handle_timeout(due);
        probes += frames_of(&mut end, due, Scope::All).len();
    }
    assert_eq!(probes, 12);
}
