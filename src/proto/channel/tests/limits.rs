//! Bounds, and peers that do not keep to the rules.

use proptest::prelude::*;

use super::*;

/// An acknowledgement field with these ranges, written as numbers are.
fn field(window: u16, ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut field = window.to_be_bytes().to_vec();
    field.extend([0, 0]);
    for (first, end) in ranges {
        field.extend(first.to_be_bytes());
        field.extend(end.to_be_bytes());
    }
    field
}

#[test]
fn whoever_acknowledges_what_was_never_sent_is_refused_and_changes_nothing() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.send(now, 1, &record(0, 3000)).unwrap();
    assert_eq!(frames_of(&mut end, now, Scope::All).len(), 3);
    let deadline = end.deadline();
    let later = now + ms(30);
    for lie in [
        end.on_frame(later, 1, 0, 5, &field(64, &[])),
        end.on_frame(later, 1, 0, u32::MAX / 3, &field(64, &[])),
        end.on_frame(later, 1, 0, 2, &field(64, &[(3, 5)])),
        end.on_frame(later, 1, 0, 2, &field(64, &[(3, u32::MAX / 4)])),
        end.on_frame(later, 1, 1, 5, &[0]),
        end.on_frame(later, 2, 0, 2, &field(64, &[])),
    ] {
        assert_eq!(lie, Err(FrameFault::NeverSent));
    }
    for nonsense in [
        end.on_frame(later, 1, 0, 0, &field(64, &[])),
        end.on_frame(later, 1, 0, u32::MAX, &field(64, &[])),
        end.on_frame(later, 1, 0, 2, &[0, 1, 2]),
        end.on_frame(later, 1, 0, 2, &field(64, &[(2, 4)])),
        end.on_frame(later, 1, 1, 1, &[]),
        end.on_frame(later, 1, u32::MAX, 1, &[0]),
        end.on_frame(later, 1, 1, 1, &[0; MAX_MESSAGE + 1]),
    ] {
        assert_eq!(nonsense, Err(FrameFault::Malformed));
    }
    assert_eq!(end.on_frame(later, 128, 1, 1, &[0]), Err(FrameFault::NotReliable));
    assert_eq!((end.deadline(), end.rtt(), end.recovery.under_way()), (deadline, None, 3));
    assert!(!end.has_due(later, Scope::All));
    assert_eq!(end.on_frame(later, 1, 0, 2, &field(64, &[(3, 4)])), Ok(()));
    assert_eq!(end.recovery.under_way(), 1);
}

#[test]
fn a_record_of_impossible_length_ends_it() {
    let now = epoch();
    for (channel, length, fits) in
        [(1, 19, false), (1, 0, false), (1, 20, true), (0, 0, false), (0, 8193, false), (0, 8192, true)]
    {
        let mut end = Channels::new(now);
        let [high, low] = u16::to_be_bytes(length);
        // The length is split over two messages, and the second comes first.
        assert_eq!(end.on_frame(now, channel, 2, 1, &[low, 7]), Ok(()));
        let fault = end.on_frame(now, channel, 1, 1, &[high]);
        assert_eq!(fault, if fits { Ok(()) } else { Err(FrameFault::RecordLength) });
        assert_eq!(end.on_frame(now, channel, 3, 1, &[7]), fault);
    }
}

#[test]
fn a_peer_that_only_leaves_gaps_fills_no_more_than_the_room() {
    let now = epoch();
    let mut end = Channels::new(now);
    let mut refused = 0;
    for channel in 1..=127 {
        for sequence in 2..2000 {
            refused += u32::from(end.on_frame(now, channel, sequence, 1, &[0; 100]).is_err());
        }
    }
    assert!(refused > 200_000);
    assert!(end.held <= RECEIVE_ROOM && end.held > RECEIVE_ROOM - 200, "{}", end.held);
    let frames = frames_of(&mut end, now, Scope::All);
    assert_eq!(frames.len(), 127);
    for (channel, sequence, ack, data) in frames {
        let field = Acknowledgement::decode(&data, 0).unwrap();
        assert_eq!((sequence, ack), (0, 1));
        assert_eq!(field.window, u16::from(channel == 1), "only the first channel with a gap may fill it");
    }
}

#[test]
fn a_peer_that_only_begins_records_fills_no_more_than_the_room() {
    let now = epoch();
    let mut end = Channels::new(now);
    for sequence in 1..=55u32 {
        for channel in 1..=127 {
            let mut data = [0xff; MAX_MESSAGE];
            if sequence == 1 {
                data[..2].copy_from_slice(&65535u16.to_be_bytes());
            }
            let _ = end.on_frame(now, channel, sequence, 1, &data);
        }
    }
    assert!(end.held <= RECEIVE_ROOM + 65535 + 2 * MAX_MESSAGE, "{}", end.held);
    assert!(end.poll_record().is_none());
}

#[test]
fn many_half_records_cannot_lock_each_other_up() {
    let mut world = World::clean(ms(5));
    for id in 1..=31 {
        world.ends[0].send(world.now, id, &record(id.into(), 65535)).unwrap();
    }
    assert_eq!(world.ends[0].send(world.now, 32, &record(0, 65535)), Err(Full), "2 MiB are all");
    world.flush(0);
    world.settle();
    for id in 1..=31 {
        assert_eq!(world.on_channel(1, id), [&record(id.into(), 65535)[..]]);
    }
    assert!(world.faults.iter().any(|(_, fault)| *fault == FrameFault::BeyondWindow), "the room was short");
}

#[test]
fn a_reader_that_pauses_closes_the_window_and_opens_it_again() {
    let mut world = World::clean(ms(5));
    world.reading = false;
    let mut sent = 0;
    while world.send(0, 1, &record(sent, 1400)).is_ok() {
        sent += 1;
    }
    world.pass(ms(20_000));
    assert!(world.ends[1].held <= RECEIVE_ROOM, "nothing goes beyond the room");
    assert!(world.ends[1].held > RECEIVE_ROOM - 3000, "and the room is used");
    assert!(!world.ends[0].is_dead(), "a closed window is an answer");
    let waiting = world.air.len();
    assert!(waiting <= 1, "only probes fly: {waiting}");
    world.reading = true;
    world.take_records(1);
    world.flush(1);
    world.pass(ms(11));
    assert!(world.ends[0].recovery.under_way() > 0, "told at once, not at the next probe");
    world.settle();
    assert_eq!(world.on_channel(1, 1).len(), sent as usize);
}

#[test]
fn a_lost_announcement_of_the_window_is_made_up_by_a_probe() {
    let mut world = World::clean(ms(5));
    world.reading = false;
    let mut sent = 0;
    while world.send(0, 1, &record(sent, 1400)).is_ok() {
        sent += 1;
    }
    world.pass(ms(5_000));
    world.reading = true;
    world.roads[1].doomed = vec![world.roads[1].carried];
    world.take_records(1);
    world.flush(1);
    world.settle();
    assert_eq!(world.on_channel(1, 1).len(), sent as usize);
}

#[test]
fn a_window_that_shrinks_below_what_is_under_way_does_not_stop_the_channel() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.send(now, 1, &record(0, 8000)).unwrap();
    assert_eq!(frames_of(&mut end, now, Scope::All).len(), 7);
    end.on_frame(now + ms(20), 1, 0, 2, &field(0, &[])).unwrap();
    assert!(frames_of(&mut end, now + ms(20), Scope::All).is_empty());
    let mut numbers = Vec::new();
    for _ in 0..6 {
        let due = end.deadline().expect("a timer runs");
        end.handle_timeout(due);
        numbers.extend(frames_of(&mut end, due, Scope::All).into_iter().map(|(_, sequence, ..)| sequence));
    }
    assert!(numbers.ends_with(&[2, 2, 2]), "one message at a time asks for the window: {numbers:?}");
    let later = end.deadline().unwrap() - ms(1);
    end.on_frame(later, 1, 0, 2, &field(100, &[])).unwrap();
    assert_eq!(frames_of(&mut end, later, Scope::All)[0].1, 2);
}

#[test]
fn an_old_acknowledgement_does_not_bring_its_window_back() {
    let now = epoch();
    let mut end = Channels::new(now);
    end.send(now, 1, &record(0, 20_000)).unwrap();
    frames_of(&mut end, now, Scope::All);
    end.on_frame(now + ms(1), 1, 0, 5, &field(6, &[])).unwrap();
    end.on_frame(now + ms(2), 1, 0, 3, &field(500, &[])).unwrap();
    assert!(frames_of(&mut end, now + ms(2), Scope::All).is_empty(), "messages up to number 10 are allowed and sent");
}

#[test]
fn no_message_is_longer_than_every_path_carries_however_large_the_packet() {
    let now = epoch();
    let mut channels = Channels::new(now);
    for length in [20, 1183, 3000, 9000, 65_535] {
        channels.send(now, 1, &record(7, length)).unwrap();
    }
    let mut sent = 0;
    loop {
        let mut bytes = vec![0; 8942];
        let mut writer = DataWriter::new(&mut bytes);
        if !channels.fill(now, &mut writer, Scope::All) {
            break;
        }
        let length = writer.finish();
        let Ok(Packet::Data(frames)) = Packet::decode(&bytes[..length]) else { panic!() };
        for frame in frames {
            // So a message that was cut on a wide path is repeated as it is when the path has shrunk (PROTOCOL §8.5, §10).
            assert!(frame.unwrap().encoded_len() <= PACKET - 3);
            sent += 1;
        }
    }
    assert!(sent >= 10, "{sent} messages");
}

#[test]
fn a_channel_in_use_is_small() {
    assert!(size_of::<Channels>() <= 640, "{}", size_of::<Channels>());
    assert!(size_of::<Channel>() <= 448, "{}", size_of::<Channel>());
    let mut world = World::clean(ms(5));
    for tag in 0..600 {
        world.send(0, 1, &record(tag, 1400)).unwrap();
    }
    world.settle();
    assert!(world.ends[1].ready.capacity() <= 8);
    assert_eq!(world.ends[0].channels[&1].sender.capacity(), 0);
}

proptest! {
    #[test]
    fn no_frames_whatever_break_the_bounds(
        frames in proptest::collection::vec(
            (0u8..4, prop_oneof![0u32..40, any::<u32>()], prop_oneof![0u32..12, any::<u32>()],
             proptest::collection::vec(any::<u8>(), 0..80), 0u64..500),
            0..300,
        ),
    ) {
        let mut world = World::clean(ms(5));
        for id in 0..3 {
            world.ends[0].channels.insert(id, Channel::new(id, 0));
        }
        world.ends[0].send(world.now, 1, &record(0, 5000)).unwrap();
        world.ends[0].send_control(world.now, &record(0, 3000)).unwrap();
        for (channel, sequence, ack, data, pause) in frames {
            let _ = world.ends[0].on_frame(world.now, channel, sequence, ack, &data);
            world.take_records(0);
            world.flush(0);
            world.air.clear();
            world.now += ms(pause);
            world.ends[0].handle_timeout(world.now);
            prop_assert!(world.ends[0].deadline().is_none_or(|deadline| deadline > world.now));
            world.flush(0);
            world.check_books();
        }
    }
}
