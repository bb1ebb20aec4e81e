//! The age of keys, and what happens at their limits (PROTOCOL §5.2, §5.3).

use std::time::Duration;

use super::pair::{Datagram, Pair, Side, address, packet};
use crate::base::PeerIndex;
use crate::proto::event::Ended;
use crate::proto::session::Session;
use crate::proto::{Dropped, Event};

const SECOND: Duration = Duration::from_secs(1);

fn session(pair: &mut Pair, side: Side) -> Option<&mut Session> {
    pair.end(side).node.peers.get_mut(PeerIndex(0)).and_then(|peer| peer.sending())
}

fn epoch(pair: &mut Pair, side: Side) -> Option<u64> {
    session(pair, side).map(|session| session.epoch_number())
}

/// Takes the next datagram of A out of the wire.
fn intercept(pair: &mut Pair, bytes: &[u8]) -> Datagram {
    pair.send(Side::A, bytes).unwrap();
    pair.wire.pop_back().unwrap()
}

#[test]
fn keys_that_are_used_are_replaced_after_two_minutes() {
    let mut pair = Pair::connected();
    let mut replaced = Vec::new();
    for second in 1..400 {
        pair.send(Side::A, &packet(Side::A, b"tick")).unwrap();
        pair.run(SECOND);
        if epoch(&mut pair, Side::A) > Some(1 + replaced.len() as u64) {
            replaced.push(second);
        }
    }
    assert_eq!(replaced.len(), 3, "{replaced:?}");
    let mut last = 0;
    for second in replaced {
        assert!((119..=126).contains(&(second - last)), "after {} s", second - last);
        last = second;
    }
    assert_eq!(pair.b.received.len(), 399);
}

#[test]
fn keys_that_nobody_uses_end_with_their_session() {
    let mut pair = Pair::connected();
    pair.run(SECOND * 178);
    assert_eq!(epoch(&mut pair, Side::A), Some(1));
    pair.run(SECOND * 3);
    for side in [Side::A, Side::B] {
        assert_eq!(epoch(&mut pair, side), None);
        let ended = |reason| Event::Disconnected { peer: PeerIndex(0), reason };
        let events = &pair.end(side).events;
        // Whoever is first says goodbye.
        assert!(events.contains(&ended(Ended::Idle)) || events.contains(&ended(Ended::ClosedByPeer)));
        assert!(pair.end(side).node.peers.iter().all(|peer| peer.sessions.is_empty()));
    }
}

#[test]
fn a_datagram_under_the_keys_before_is_taken_for_ten_seconds() {
    for (wait, taken) in [(9, true), (11, false)] {
        let mut pair = Pair::connected();
        let bytes = packet(Side::A, b"late");
        let late = intercept(&mut pair, &bytes);
        while epoch(&mut pair, Side::B) == Some(1) {
            pair.send(Side::A, &packet(Side::A, b"tick")).unwrap();
            pair.run(Duration::from_millis(500));
        }
        pair.run(SECOND * wait);
        let result = pair.deliver(&late).unwrap();
        assert_eq!(result, if taken { Ok(()) } else { Err(Dropped::UnknownSession) }, "{wait} s after the rekey");
        assert_eq!(pair.b.received.contains(&bytes), taken);
    }
}

#[test]
fn nothing_is_opened_under_keys_that_are_sixteen_minutes_old() {
    let mut pair = Pair::connected();
    let late = intercept(&mut pair, &packet(Side::A, b"late"));
    // No rekey comes through, though A sends all the time.
    for _ in 0..965 {
        let _ = pair.send(Side::A, &packet(Side::A, b"tick"));
        pair.run_with(SECOND, |_| false);
    }
    assert!(matches!(pair.deliver(&late), Some(Err(Dropped::KeyExpired | Dropped::UnknownSession))));
    assert_eq!(epoch(&mut pair, Side::A), None, "nor is anything sealed");
}

#[test]
fn a_worn_cipher_is_replaced_at_once() {
    let mut pair = Pair::connected();
    session(&mut pair, Side::A).unwrap().present_epoch().force_blocks((1 << 32) - 1);
    pair.send(Side::A, &packet(Side::A, b"the last straw")).unwrap();
    pair.run(SECOND);
    assert_eq!((epoch(&mut pair, Side::A), epoch(&mut pair, Side::B)), (Some(2), Some(2)));
}

#[test]
fn a_worn_out_cipher_ends_the_session_and_the_next_packet_makes_a_new_one() {
    let mut pair = Pair::connected();
    session(&mut pair, Side::A).unwrap().present_epoch().force_blocks((1 << 33) - 1);
    // The straw, while the peer does not answer the rekey.
    pair.send(Side::A, &packet(Side::A, b"the last straw")).unwrap();
    pair.run_with(SECOND, |_| false);
    assert_eq!(epoch(&mut pair, Side::A), None);
    let bytes = packet(Side::A, b"fresh");
    pair.send(Side::A, &bytes).unwrap();
    pair.run(SECOND * 6);
    assert_eq!(pair.b.received.last(), Some(&bytes));
    assert_eq!(epoch(&mut pair, Side::A), Some(1));
}

#[test]
fn a_repeated_datagram_is_refused_in_every_epoch() {
    let mut pair = Pair::connected();
    let mut seen = Vec::new();
    for _ in 0..130 {
        let next = intercept(&mut pair, &packet(Side::A, b"once"));
        pair.deliver(&next).unwrap().unwrap();
        seen.push(next);
        pair.run(SECOND);
    }
    assert_eq!(epoch(&mut pair, Side::B), Some(2));
    let received = pair.b.received.len();
    for datagram in seen.into_iter().chain(pair.log.clone()).filter(|datagram| datagram.to == address(Side::B)) {
        if datagram.bytes[1] == 0x10 {
            assert!(matches!(pair.deliver(&datagram), Some(Err(Dropped::Replayed | Dropped::UnknownSession))));
        }
    }
    assert_eq!(pair.b.received.len(), received);
}
