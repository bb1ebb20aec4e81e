//! From nothing to the first packet.

use std::time::Duration;

use super::pair::{Pair, Side, packet};
use crate::base::PeerIndex;
use crate::proto::event::Ended;
use crate::proto::{Command, Event};

fn types(pair: &Pair) -> Vec<u8> {
    pair.log.iter().map(|datagram| datagram.bytes[1]).collect()
}

#[test]
fn a_handshake_is_hello_retry_hello_hello_and_then_only_sealed_packets() {
    let pair = Pair::connected();
    let types = types(&pair);
    assert_eq!(types[..4], [0x01, 0x83, 0x01, 0x81]);
    assert!(types[4..].iter().all(|&kind| kind == 0x10), "{types:02x?}");
}

#[test]
fn a_packet_that_waits_is_delivered_with_the_third_flight_of_the_initiator() {
    let mut pair = Pair::new(&[Side::A]);
    let bytes = packet(Side::A, b"first");
    pair.send(Side::A, &bytes).unwrap();
    let mut flights = 0;
    while pair.b.received.is_empty() {
        let flight: Vec<_> = pair.wire.drain(..).collect();
        assert!(!flight.is_empty(), "the handshake has stopped");
        flights += usize::from(flight[0].from == pair.a.address);
        for datagram in flight {
            pair.deliver(&datagram);
        }
    }
    assert_eq!(flights, 3, "hello, hello, finish with data");
    assert_eq!(pair.b.received, [bytes]);
}

#[test]
fn packets_flow_both_ways() {
    let mut pair = Pair::connected();
    for i in 0..100u8 {
        let (there, back) = (packet(Side::A, &[i; 300]), packet(Side::B, &[i; 300]));
        pair.send(Side::A, &there).unwrap();
        pair.send(Side::B, &back).unwrap();
        pair.run(Duration::from_millis(1));
        assert_eq!(pair.b.received.last(), Some(&there));
        assert_eq!(pair.a.received.last(), Some(&back));
    }
    assert!(pair.a.events.iter().any(|event| matches!(event, Event::Connected { .. })));
}

#[test]
fn a_node_that_stops_says_so_and_its_peer_forgets_the_session_at_once() {
    let mut pair = Pair::connected();
    pair.command(Side::A, Command::Shutdown);
    pair.run(Duration::from_millis(10));
    let now = pair.now;
    assert!(pair.b.node.status(now).peers[0].session.is_none());
    assert!(pair.b.events.contains(&Event::Disconnected { peer: PeerIndex(0), reason: Ended::PeerStopped }));
    pair.restart(Side::A, true);
    pair.run(Duration::from_secs(1));
    let now = pair.now;
    assert!(pair.b.node.status(now).peers[0].session.is_some(), "and it is welcome back");
}

#[test]
fn packets_that_come_while_the_offer_is_on_its_way_start_no_second_attempt() {
    let mut pair = Pair::new(&[Side::A]);
    // The answer arrives, and what is sealed does not yet.
    pair.run_with(Duration::from_millis(1), |datagram| datagram.bytes[1] != 0x10);
    for number in 0..10 {
        pair.send(Side::A, &packet(Side::A, &[number; 100])).unwrap();
    }
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.b.received.len(), 10);
    let hellos = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).count();
    assert_eq!(hellos, 2, "one handshake");
}

#[test]
fn a_lost_confirmation_of_the_responder_costs_no_second_handshake() {
    let mut pair = Pair::new(&[Side::A]);
    // Unreliable data, one way only, travels right behind the finish.
    pair.send(Side::A, &packet(Side::A, b"first")).unwrap();
    let (mut sealed, from) = (0, pair.b.address);
    pair.run_with(Duration::from_millis(50), |datagram| {
        sealed += usize::from(datagram.from == from && datagram.bytes[1] == 0x10);
        // The two datagrams of the offer arrive; what B says in epoch 1 does not.
        datagram.from != from || datagram.bytes[1] != 0x10 || sealed <= 2
    });
    assert!(sealed > 2, "there was nothing to lose");
    pair.run(Duration::from_secs(1));
    let now = pair.now;
    assert!(pair.a.node.status(now).peers[0].session.is_some(), "the repeated finish is acknowledged");
    pair.run(Duration::from_secs(10));
    let hellos = pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).count();
    assert_eq!(hellos, 2, "one handshake");
}

#[test]
fn a_goodbye_ends_the_sessions_that_the_peer_has_forgotten_too() {
    let mut pair = Pair::connected();
    pair.run(Duration::from_secs(6));
    // A is killed and comes back: B keeps the old session for a while besides the new one.
    pair.restart(Side::A, true);
    pair.run(Duration::from_secs(1));
    pair.command(Side::A, Command::Shutdown);
    pair.run(Duration::from_millis(10));
    let now = pair.now;
    assert!(pair.b.node.status(now).peers[0].session.is_none());
}

#[test]
fn a_packet_in_the_same_burst_as_the_offer_does_not_overtake_the_finish() {
    let mut pair = Pair::new(&[Side::A]);
    pair.drain(Side::A);
    while pair.b.node.status(pair.now).peers[0].session.is_none() {
        let datagram = pair.wire.pop_front().unwrap();
        pair.hand_over(&datagram);
        if datagram.to == pair.a.address && datagram.bytes[1] == 0x10 && pair.b.received.is_empty() {
            pair.send(Side::A, &packet(Side::A, b"eager")).unwrap();
        }
        pair.drain(Side::A);
        pair.drain(Side::B);
    }
    pair.run(Duration::from_millis(100));
    assert!(!pair.b.received.is_empty(), "it came before the keys that open it");
    assert_eq!(pair.b.node.status(pair.now).drops.nonzero().next(), None);
}
