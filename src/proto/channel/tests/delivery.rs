//! What goes in comes out: in order, once, whole.

use proptest::prelude::*;

use super::*;

/// Just before the writing of numbers begins anew.
const BEFORE_WRAP: u64 = u32::MAX as u64 - 40;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn everything_arrives_in_order_and_once_over_any_road(
        seed: u64,
        loss in 0u32..=30,
        delay in 0u64..80,
        jitter in 0u64..60,
        first in prop_oneof![Just(0), Just(BEFORE_WRAP)],
        records in proptest::collection::vec((0usize..2, 0u8..5, 20usize..6000, 0u64..30), 1..60),
    ) {
        let road = || Road::rough(ms(delay), ms(jitter), loss);
        let mut world = World::new(seed, 1, [road(), road()]);
        world.begin_at(first, 0..5);
        let mut sent: [Vec<(u8, Vec<u8>)>; 2] = [Vec::new(), Vec::new()];
        for (tag, (end, channel, length, pause)) in records.into_iter().enumerate() {
            let record = record(tag as u32, length);
            if world.send(end, channel, &record).is_ok() {
                sent[end].push((channel, record));
            }
            world.pass(ms(pause));
        }
        world.settle();
        for (end, sent) in sent.iter().enumerate() {
            for id in 0..5 {
                let expected: Vec<_> = sent.iter().filter(|(channel, _)| *channel == id).map(|(_, record)| &record[..]).collect();
                prop_assert_eq!(world.on_channel(end ^ 1, id), expected);
            }
        }
        for (_, fault) in world.faults {
            prop_assert!(matches!(fault, FrameFault::Duplicate), "{:?}", fault);
        }
    }
}

#[test]
fn the_longest_records_go_through() {
    let mut world = World::new(7, 1, [Road::rough(ms(10), ms(5), 5), Road::rough(ms(10), ms(5), 5)]);
    let (packet, control) = (record(1, 65535), record(2, 8192));
    assert_eq!(world.send(0, 127, &packet), Ok(()));
    assert_eq!(world.send(0, 0, &control), Ok(()));
    assert_eq!(world.send(0, 1, &record(3, 20)), Ok(()));
    world.settle();
    assert_eq!(world.on_channel(1, 127), [&packet[..]]);
    assert_eq!(world.on_channel(1, 0), [&control[..]]);
    assert_eq!(world.on_channel(1, 1).len(), 1);
}

#[test]
fn records_that_cannot_be_are_not_taken() {
    let mut end = Channels::new(epoch());
    let now = epoch();
    for length in [0, 19, 65536] {
        assert_eq!(end.send(now, 1, &vec![0; length]), Err(Full));
    }
    for length in [0, 8193] {
        assert_eq!(end.send_control(now, &vec![0; length]), Err(Full));
    }
    assert_eq!(end.send(now, 0, &[0; 20]), Err(Full));
    assert_eq!(end.send(now, 128, &[0; 20]), Err(Full));
    assert!(!end.has_due(now, Scope::All));
}

#[test]
fn a_gap_on_one_channel_holds_up_no_other() {
    let mut world = World::clean(ms(50));
    world.roads[0].doomed = vec![0];
    world.send(0, 1, &record(1, 1000)).unwrap();
    world.send(0, 1, &record(2, 1000)).unwrap();
    world.send(0, 2, &record(3, 1000)).unwrap();
    world.pass(ms(60));
    assert!(world.on_channel(1, 1).is_empty());
    assert_eq!(world.on_channel(1, 2).len(), 1);
    world.settle();
    assert_eq!(world.on_channel(1, 1).len(), 2);
}

#[test]
fn control_goes_first_and_the_others_take_turns() {
    let now = epoch();
    let mut end = Channels::new(now);
    for id in [5, 9, 3] {
        end.send(now, id, &record(0, 10_000)).unwrap();
    }
    end.send_control(now, &record(1, 2000)).unwrap();
    let order: Vec<u8> = frames_of(&mut end, now, Scope::All).iter().map(|(id, ..)| *id).collect();
    assert_eq!(order, [0, 0, 3, 5, 9, 3, 5, 9, 3, 5], "ten messages, as the initial window is");
}

#[test]
fn a_scope_leaves_the_other_channels_alone() {
    let now = epoch();
    let (mut end, mut other) = (Channels::new(now), Channels::new(now));
    end.send_control(now, &[1]).unwrap();
    end.send(now, 4, &record(0, 30)).unwrap();
    assert!(end.has_due(now, Scope::User));
    let user = frames_of(&mut end, now, Scope::User);
    assert_eq!(user.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [4]);
    assert!(!end.has_due(now, Scope::User) && end.has_due(now, Scope::Control));
    let control = frames_of(&mut end, now, Scope::Control);
    assert_eq!(control.len(), 1);
    for (id, sequence, ack, data) in user.iter().chain(&control) {
        other.on_frame(now, *id, *sequence, *ack, data).unwrap();
    }
    assert_eq!(frames_of(&mut other, now, Scope::User).iter().map(|frame| frame.0).collect::<Vec<_>>(), [4]);
    assert!(other.has_due(now, Scope::Control));
    assert_eq!(frames_of(&mut other, now, Scope::Control).iter().map(|frame| frame.0).collect::<Vec<_>>(), [0]);
    assert_eq!(other.deadline(), None);
}

#[test]
fn what_was_not_acknowledged_is_handed_back_whole_and_in_order() {
    let mut world = World::clean(ms(10));
    // Packets 3 and later of the first end never arrive.
    world.roads[0].doomed = (3..1000).collect();
    let packets: Vec<_> = (0..12).map(|tag| record(tag, 700)).collect();
    for packet in &packets {
        world.ends[0].send(world.now, 6, packet).unwrap();
    }
    world.ends[0].send_control(world.now, &[9]).unwrap();
    world.flush(0);
    world.pass(ms(45));
    let delivered = world.on_channel(1, 6).len();
    assert!((3..=5).contains(&delivered), "{delivered}");
    world.ends[0].send(world.now, 2, &record(99, 40)).unwrap();
    let rest = world.ends.swap_remove(0).into_unacknowledged();
    assert_eq!(rest[0], (2, record(99, 40)));
    let rest: Vec<_> = rest.into_iter().skip(1).collect();
    assert_eq!(rest, packets[delivered..].iter().map(|packet| (6, packet.clone())).collect::<Vec<_>>());
}

#[test]
fn what_waits_beyond_a_gap_counts_as_not_acknowledged() {
    let mut world = World::clean(ms(10));
    world.roads[0].doomed = vec![0, 2, 3, 4, 5, 6, 7];
    world.send(0, 1, &record(0, 1100)).unwrap();
    world.send(0, 1, &record(1, 1100)).unwrap();
    world.pass(ms(25));
    assert_eq!(world.ends[1].held, record_cost(1102), "the second waits for the first");
    assert_eq!(world.ends.swap_remove(0).into_unacknowledged(), [(1, record(0, 1100)), (1, record(1, 1100))]);
}

#[test]
fn the_same_inputs_give_the_same_frames() {
    let run = || {
        let mut world = World::new(3, 1, [Road::rough(ms(20), ms(30), 20), Road::rough(ms(20), ms(30), 20)]);
        for tag in 0..50 {
            world.send(tag as usize % 2, tag as u8 % 4 + 1, &record(tag, 900)).unwrap();
        }
        let begin = world.now;
        world.settle();
        (world.flown, world.now - begin, world.delivered)
    };
    assert_eq!(run(), run());
}
