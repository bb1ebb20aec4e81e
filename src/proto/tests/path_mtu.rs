//! Peers that do not know probes, and peers that lie with them (PROTOCOL §8.5).

use std::time::Duration;

use super::pair::{Datagram, Pair, Side, address, config, identity, packet};
use crate::base::{PeerIndex, Rng, TrafficClass};
use crate::proto::handshake::CAP_PROBES;
use crate::proto::session::{Lane, Session};
use crate::proto::{Dropped, Node, NodeConfig};
use crate::wire::data::DataWriter;
use crate::wire::frame::Frame;
use crate::wire::sealed::{HEADER, MAX_DATAGRAM, TAG};

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes that probe; `caps` says what they can do besides.
fn pair(caps: [u32; 2]) -> Pair {
    let mut pair = Pair::new(&[Side::A]);
    for (side, caps) in [Side::A, Side::B].into_iter().zip(caps) {
        let config = NodeConfig { max_datagram: 8972, ..config(side, side == Side::A) };
        let mut node = Node::new(config, identity(side), Rng::from_number(side as u64), pair.now);
        node.local.caps = caps;
        pair.end(side).node = node;
    }
    pair.run(SECOND);
    pair
}

fn session(pair: &mut Pair, side: Side) -> &mut Session {
    pair.end(side).node.peers.get_mut(PeerIndex(0)).unwrap().sending().unwrap()
}

/// Seals frames of A, padded to a datagram of `size` bytes, and hands it to B.
fn send(pair: &mut Pair, frames: &[Frame<'_>], size: usize) {
    let now = pair.now;
    let mut bytes = vec![0; size];
    let mut writer = DataWriter::new(&mut bytes[HEADER..size - TAG]);
    for frame in frames {
        writer.push(frame).unwrap();
    }
    writer.finish();
    session(pair, Side::A).seal(now, Lane::Control, &mut bytes, size - HEADER - TAG).unwrap();
    let datagram = Datagram { from: address(Side::A), to: address(Side::B), class: TrafficClass::default(), bytes };
    pair.deliver(&datagram);
}

fn dropped(pair: &Pair, reason: Dropped) -> u64 {
    let now = pair.now;
    pair.b.node.status(now).peers[0].drops.of(reason)
}

fn probe(number: u32) -> Frame<'static> {
    Frame::Probe { channel: 128, number }
}

#[test]
fn a_peer_that_does_not_know_probes_gets_none() {
    for caps in [[2, 2 | CAP_PROBES], [2 | CAP_PROBES, 2]] {
        let mut pair = pair(caps);
        for _ in 0..20 {
            for side in [Side::A, Side::B] {
                pair.send(side, &packet(side, &[7; 3000])).unwrap();
            }
            pair.run(SECOND);
        }
        assert!(pair.log.iter().all(|datagram| datagram.bytes.len() <= MAX_DATAGRAM));
        assert_eq!((pair.a.received.len(), pair.b.received.len()), (20, 20));
        for side in [Side::A, Side::B] {
            assert_eq!(session(&mut pair, side).inner_mtu(), None, "nothing was found out");
        }
    }
}

#[test]
fn two_that_know_probes_use_them() {
    let mut pair = pair([2 | CAP_PROBES; 2]);
    pair.send(Side::A, &packet(Side::A, b"traffic")).unwrap();
    pair.run(SECOND);
    assert_eq!(session(&mut pair, Side::A).inner_mtu(), Some(8972 - 37));
    assert_eq!(session(&mut pair, Side::B).inner_mtu(), None, "B has sent nothing");
}

#[test]
fn a_probe_that_is_not_answered_says_why() {
    let mut pair = pair([2 | CAP_PROBES; 2]);
    let sent = pair.log.len();
    send(&mut pair, &[probe(1), probe(2)], 1400);
    send(&mut pair, &[probe(1), Frame::UnreliableData { channel: 128, data: &[] }], 1400);
    send(&mut pair, &[probe(1)], 40);
    assert_eq!((dropped(&pair, Dropped::Ignored), pair.log.len()), (4, sent), "not alone, or too small");
    send(&mut pair, &[Frame::Probe { channel: 1, number: 1 }], 1400);
    assert_eq!((dropped(&pair, Dropped::WrongChannel), pair.log.len()), (1, sent));
    send(&mut pair, &[probe(1)], 41);
    assert_eq!(pair.log.len(), sent + 1);
    assert_eq!(pair.log.last().unwrap().bytes.len(), 41, "no larger than what it answers");
}

#[test]
fn a_flood_of_probes_is_answered_twenty_times_a_second_and_never_with_more_bytes() {
    let mut pair = pair([2 | CAP_PROBES; 2]);
    let before = pair.log.len();
    for number in 0..5000 {
        send(&mut pair, &[probe(number)], 64);
        pair.run(Duration::from_millis(2));
    }
    let answers = &pair.log[before..];
    let bytes: usize = answers.iter().map(|answer| answer.bytes.len()).sum();
    assert!(answers.len() <= 220 + 2 && bytes < 220 * 64, "{} datagrams, {bytes} bytes", answers.len());
    assert!(dropped(&pair, Dropped::RateLimited) > 4700);
}

#[test]
fn answers_that_were_not_asked_for_change_nothing() {
    let mut pair = pair([2 | CAP_PROBES; 2]);
    for number in 0..1000 {
        let answer = Frame::ProbeAnswer { channel: 128, number, size: 65_535 - number as u16 };
        send(&mut pair, &[answer], 100);
    }
    assert_eq!(dropped(&pair, Dropped::Unexpected), 1000);
    assert_eq!(session(&mut pair, Side::B).mtu.limit(), MAX_DATAGRAM);
}

#[test]
fn a_peer_that_lies_about_what_has_arrived_gets_no_more_than_the_configuration_allows() {
    let mut pair = pair([2 | CAP_PROBES; 2]);
    // B sends, and A says of everything that it has come.
    for round in 0..30_u8 {
        pair.send(Side::B, &packet(Side::B, &[round; 2000])).unwrap();
        for number in 0..40 {
            for size in [1472, 8868, 8972, 8973, 65_535] {
                send(&mut pair, &[Frame::ProbeAnswer { channel: 128, number, size }], 100);
            }
        }
        pair.run_with(Duration::from_millis(100), |_| false);
    }
    assert_eq!(session(&mut pair, Side::B).mtu.limit(), 8972);
    assert!(pair.log.iter().all(|datagram| datagram.bytes.len() <= 8972));
}

#[test]
fn a_peer_that_takes_no_parts_is_sent_nothing_larger_and_the_host_is_told() {
    let mut pair = pair([0, 2]);
    assert_eq!(pair.send(Side::B, &packet(Side::B, &[7; 2000])), Err(Dropped::TooLarge));
    let error = pair.b.received.pop().expect("an ICMP error");
    assert_eq!((error[20], error[21], &error[26..28]), (3, 4, &1191_u16.to_be_bytes()[..]));
}
