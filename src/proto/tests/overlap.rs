//! Several sessions with one peer (PROTOCOL §7), and hellos that were seen before.

use std::time::Duration;

use super::pair::{Pair, Side, packet};
use crate::proto::Dropped;

/// Both nodes still open what the other sends.
fn assert_talking(pair: &mut Pair) {
    for from in [Side::A, Side::B] {
        let bytes = packet(from, b"are you there");
        pair.send(from, &bytes).unwrap();
        pair.run(Duration::from_millis(10));
        assert_eq!(pair.end(from.other()).received.pop(), Some(bytes), "from {from:?}");
    }
}

#[test]
fn two_nodes_that_greet_each_other_at_once_and_then_rest_still_have_a_session_a_minute_later() {
    let mut pair = Pair::new(&[Side::A, Side::B]);
    pair.run(Duration::from_secs(60));
    let hellos = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).count();
    assert_talking(&mut pair);
    let more = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).count();
    assert_eq!(hellos, more, "no new handshake was needed");
    assert_eq!((pair.a.node.peers.iter().next().unwrap().sessions.len()), 1, "the other session is gone");
}

#[test]
fn a_recorded_hello_of_an_earlier_attempt_does_not_end_the_present_one() {
    let mut pair = Pair::new(&[Side::A]);
    pair.run(Duration::from_millis(100));
    let old = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).nth(1).cloned().unwrap();
    pair.restart(Side::A, true);
    // Up to the answer of the second attempt.
    while pair.log.last().is_some_and(|last| last.bytes[1] != 0x81) {
        let next = pair.wire.pop_front().unwrap();
        pair.deliver(&next);
        if pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x81).count() == 2 {
            break;
        }
    }
    assert_eq!(pair.deliver(&old), Some(Err(Dropped::Replayed)));
    pair.run(Duration::from_secs(1));
    assert_talking(&mut pair);
    let hellos = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).count();
    assert_eq!(hellos, 4, "two for each attempt");
}

#[test]
fn a_restarted_peer_is_back_with_one_handshake() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::connected();
        pair.run(Duration::from_secs(5));
        pair.restart(side, true);
        pair.run(Duration::from_secs(1));
        assert_talking(&mut pair);
    }
}

#[test]
fn a_replayed_handshake_resets_nothing() {
    let mut pair = Pair::connected();
    let recorded: Vec<_> = pair.log.clone();
    pair.run(Duration::from_secs(11));
    for datagram in &recorded {
        pair.deliver(datagram);
        pair.wire.clear();
        assert_talking(&mut pair);
    }
}
