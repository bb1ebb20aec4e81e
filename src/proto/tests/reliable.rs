//! Flows that a rule puts on a reliable channel, seen from outside.

use std::time::Duration;

use super::pair::{Pair, Side, overlay, packet};
use crate::overlay::flow::{ChannelRules, FlowMatch};

fn reliable_udp() -> ChannelRules {
    ChannelRules::new(vec![FlowMatch { protocol: Some(17), ..FlowMatch::default() }]).unwrap()
}

/// Numbered packets, in the order in which they came.
fn numbers(received: &[Vec<u8>]) -> Vec<u16> {
    received.iter().map(|packet| u16::from_be_bytes([packet[28], packet[29]])).collect()
}

fn numbered(from: Side, number: u16) -> Vec<u8> {
    packet(from, &[&number.to_be_bytes()[..], &[0xab; 200]].concat())
}

#[test]
fn everything_arrives_in_order_though_every_fifth_datagram_is_lost() {
    let mut pair = Pair::with_rules(&[Side::A], reliable_udp());
    let mut count = 0;
    for number in 0..500 {
        pair.send(Side::A, &numbered(Side::A, number)).unwrap();
        pair.run_with(Duration::from_millis(5), |_| {
            count += 1;
            count % 5 != 0
        });
    }
    pair.run(Duration::from_secs(30));
    assert_eq!(numbers(&pair.b.received), (0..500).collect::<Vec<_>>());
}

#[test]
fn what_a_restarted_peer_had_not_acknowledged_is_sent_again_in_order() {
    let mut pair = Pair::with_rules(&[Side::A], reliable_udp());
    pair.run(Duration::from_secs(1));
    for number in 0..50 {
        pair.send(Side::A, &numbered(Side::A, number)).unwrap();
    }
    pair.wire.clear();
    pair.restart(Side::B, true);
    for number in 50..100 {
        pair.send(Side::A, &numbered(Side::A, number)).unwrap();
    }
    pair.run(Duration::from_secs(20));
    assert_eq!(numbers(&pair.b.received), (0..100).collect::<Vec<_>>(), "to {}", overlay(Side::B));
}

#[test]
fn a_burst_that_comes_before_there_is_a_session_loses_nothing() {
    let mut pair = Pair::with_rules(&[Side::A], reliable_udp());
    for number in 0..3000 {
        pair.send(Side::A, &numbered(Side::A, number)).unwrap();
    }
    pair.run(Duration::from_secs(5));
    assert_eq!(numbers(&pair.b.received), (0..3000).collect::<Vec<_>>());
}
