//! Keepalives, and a peer that does not answer (PROTOCOL §8.3).

use std::time::Duration;

use super::pair::{Pair, Side, address, packet};
use crate::base::PeerIndex;
use crate::proto::Event;

const SECOND: Duration = Duration::from_secs(1);

/// A session on which nothing is owed any more.
fn quiet() -> Pair {
    let mut pair = Pair::connected();
    pair.run(SECOND * 15);
    pair.log.clear();
    pair
}

fn sent_by(pair: &Pair, side: Side) -> usize {
    pair.log.iter().filter(|datagram| datagram.from == address(side)).count()
}

#[test]
fn a_session_at_rest_is_silent() {
    let mut pair = quiet();
    pair.run(SECOND * 60);
    assert!(pair.log.is_empty(), "{} datagrams", pair.log.len());
}

#[test]
fn what_was_received_is_acknowledged_by_one_ping_or_keepalive_and_that_by_nothing() {
    let mut pair = quiet();
    pair.send(Side::A, &packet(Side::A, b"one")).unwrap();
    pair.run(Duration::from_millis(290));
    assert_eq!((sent_by(&pair, Side::A), sent_by(&pair, Side::B)), (1, 0));
    // Nothing came back, so A asks whether the path works; the answer is the sign of life that B owes.
    pair.run(Duration::from_millis(20));
    assert_eq!((sent_by(&pair, Side::A), sent_by(&pair, Side::B)), (2, 1));
    pair.run(SECOND * 60);
    assert_eq!((sent_by(&pair, Side::A), sent_by(&pair, Side::B)), (2, 1));
}

#[test]
fn who_answers_soon_is_not_asked_and_sends_no_keepalive() {
    let mut pair = quiet();
    pair.send(Side::A, &packet(Side::A, b"question")).unwrap();
    pair.run(Duration::from_millis(200));
    pair.send(Side::B, &packet(Side::B, b"answer")).unwrap();
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.log.len(), 2);
    pair.run(SECOND * 60);
    // The answer itself wants a sign of life, and B asks for it when it does not come.
    assert_eq!((sent_by(&pair, Side::A), sent_by(&pair, Side::B)), (2, 2));
}

#[test]
fn a_second_of_asking_in_vain_makes_a_new_handshake_and_the_session_stays_meanwhile() {
    let mut pair = quiet();
    let begun = pair.now;
    let mut first_hello = None;
    for second in 0..20 {
        pair.send(Side::A, &packet(Side::A, &[second])).unwrap();
        pair.run_with(SECOND, |_| false);
        if first_hello.is_none() && pair.log.iter().any(|datagram| datagram.bytes[1] == 0x01) {
            first_hello = Some(pair.now - begun);
        }
    }
    assert_eq!(first_hello, Some(SECOND * 2), "0.3 s of silence, and 1 s of pings");
    let now = pair.now;
    assert!(pair.a.node.status(now).peers[0].session.is_some());
    assert!(!pair.a.events.iter().any(|event| matches!(event, Event::Disconnected { .. })));
    // It was only the line.
    let bytes = packet(Side::A, b"back again");
    pair.send(Side::A, &bytes).unwrap();
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.b.received.last(), Some(&bytes));
    pair.run(SECOND * 10);
    let now = pair.now;
    assert!(!pair.a.node.status(now).peers[0].connecting, "the attempt has ended");
}

#[test]
fn a_peer_that_answers_pings_alone_is_not_greeted() {
    let mut pair = quiet();
    for number in 0..30 {
        pair.send(Side::A, &packet(Side::A, &[number])).unwrap();
        pair.run(SECOND);
    }
    assert!(pair.log.iter().all(|datagram| datagram.bytes[1] == 0x10), "answers to pings are enough");
    assert_eq!(sent_by(&pair, Side::B), 30, "one for each packet that nothing else has answered");
}

/// Other threads may carry all that follows the move, so this one may never hear of the peer again.
#[test]
fn a_peer_that_has_moved_is_greeted_where_it_was_last_and_not_where_it_had_been() {
    let mut pair = quiet();
    let new = std::net::SocketAddr::from(([192, 0, 2, 77], 4444));
    pair.a.address = new;
    pair.send(Side::A, &packet(Side::A, b"from elsewhere")).unwrap();
    pair.run(SECOND);
    assert!(pair.b.events.iter().any(|event| matches!(event, Event::Moved { .. })));
    assert_eq!(pair.b.node.peers.get_mut(PeerIndex(0)).unwrap().greetable(), [new]);
}
