//! Marks and codepoints of the outer header, wherever the node itself sends or delivers (PROTOCOL §11.6).

use std::time::Duration;

use super::pair::{Datagram, Pair, Side, config, packet};
use crate::base::{Ecn, OuterDscp, TrafficClass};
use crate::envelope::UNRELIABLE;
use crate::ip::IpPacket;
use crate::overlay::flow::{ChannelRules, FlowMatch};
use crate::proto::{Dropped, NodeConfig};
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::{Frame, PART_OVERHEAD};

const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
/// Expedited forwarding.
const EF: u8 = 46;

/// A packet from A to B of this class.
fn classed(class: TrafficClass, payload: &[u8]) -> Vec<u8> {
    let mut bytes = packet(Side::A, payload);
    bytes[1] = class.byte();
    let sum = etherparse::Ipv4HeaderSlice::from_slice(&bytes).unwrap().to_header().calc_header_checksum();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn marked(mark: Ecn, len: usize) -> Vec<u8> {
    classed(TrafficClass::new(0, mark), &vec![7; len])
}

/// What a road makes of a datagram.
fn under(mark: Ecn, datagram: &Datagram) -> Datagram {
    Datagram { class: TrafficClass::new(datagram.class.dscp(), mark), ..datagram.clone() }
}

/// The class of each datagram that A has sent since it was connected, and what it sends for `packets`.
fn classes(pair: &mut Pair, packets: &[Vec<u8>]) -> Vec<TrafficClass> {
    pair.wire.clear();
    packets.iter().for_each(|packet| pair.put(Side::A, packet).unwrap());
    pair.drain(Side::A);
    pair.wire.iter().map(|datagram| datagram.class).collect()
}

fn connected(dscp: OuterDscp, channels: ChannelRules) -> Pair {
    let configure = |side| NodeConfig { dscp, channels: channels.clone(), ..config(side, side == Side::A) };
    let mut pair = Pair::with(configure);
    pair.run(Duration::from_secs(1));
    pair
}

fn congestion(pair: &Pair) -> u64 {
    pair.b.node.status(pair.now).peers[0].drops.of(Dropped::Congestion)
}

#[test]
fn what_a_node_says_itself_bears_no_mark_whatever_came_in() {
    let mut pair = Pair::new(&[Side::A]);
    pair.drain(Side::A);
    let hello = pair.wire.pop_front().unwrap();
    pair.deliver(&under(Ecn::Ce, &hello)).unwrap().unwrap();
    let retry = pair.wire.pop_front().unwrap();
    assert_eq!((retry.class.byte(), retry.bytes[1]), (0, 0x83));
}

#[test]
fn a_datagram_of_the_node_bears_the_mark_of_the_packet_inside_also_if_it_waited_or_goes_in_parts() {
    for mark in ALL {
        let class = TrafficClass::new(0, mark);
        let mut pair = Pair::new(&[Side::A]);
        pair.send(Side::A, &marked(mark, 100)).unwrap();
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.b.received, [marked(mark, 100)], "it waited");
        let seen = pair.log.iter().filter(|datagram| datagram.class == class).count();
        assert!(if mark == Ecn::NotEct { seen == pair.log.len() } else { seen == 1 });
        assert_eq!(classes(&mut pair, &[marked(mark, 100)]), [class]);
        assert_eq!(classes(&mut pair, &[marked(mark, 3000)]), [class; 3], "parts");
    }
}

#[test]
fn the_mark_of_a_datagram_passes_to_its_packet_which_is_dropped_if_it_cannot_bear_it() {
    for (inner, outer, expected) in [
        (Ecn::Ect0, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ect1, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ect0, Ecn::Ect1, Some(Ecn::Ect1)),
        (Ecn::Ect0, Ecn::NotEct, Some(Ecn::Ect0)),
        (Ecn::Ce, Ecn::Ect0, Some(Ecn::Ce)),
        (Ecn::NotEct, Ecn::Ect0, Some(Ecn::NotEct)),
        (Ecn::NotEct, Ecn::Ce, None),
    ] {
        let mut pair = Pair::connected();
        assert_eq!(classes(&mut pair, &[marked(inner, 100)]).len(), 1);
        let datagram = pair.wire.pop_front().unwrap();
        pair.deliver(&under(outer, &datagram));
        assert_eq!(pair.b.received, expected.map(|mark| marked(mark, 100)).into_iter().collect::<Vec<_>>());
        assert_eq!(congestion(&pair), u64::from(expected.is_none()));
    }
}

#[test]
fn one_marked_part_marks_the_whole_packet() {
    for number in 0..3 {
        for (inner, expected) in [(Ecn::Ect0, Some(Ecn::Ce)), (Ecn::NotEct, None)] {
            let mut pair = Pair::connected();
            assert_eq!(classes(&mut pair, &[marked(inner, 3000)]).len(), 3);
            for (part, at) in std::mem::take(&mut pair.wire).iter().zip(0..) {
                pair.deliver(&if at == number { under(Ecn::Ce, part) } else { part.clone() });
            }
            assert_eq!(pair.b.received, expected.map(|mark| marked(mark, 3000)).into_iter().collect::<Vec<_>>());
            assert_eq!(congestion(&pair), u64::from(expected.is_none()));
        }
    }
}

#[test]
fn what_another_thread_has_opened_is_marked_as_well() {
    let mut pair = Pair::connected();
    let bytes = marked(Ecn::Ect0, 100);
    let (front, back) = bytes.split_at(50);
    let part = |index, data| Frame::Part { channel: UNRELIABLE, number: 1, index, count: 2, data };
    let whole = Frame::UnreliableData { channel: UNRELIABLE, data: &bytes };
    for (mark, frame) in [(Ecn::Ce, part(0, front)), (Ecn::Ect0, part(1, back)), (Ecn::Ce, whole)] {
        let mut plaintext = vec![0; DATA_HEADER + PART_OVERHEAD + bytes.len()];
        let mut writer = DataWriter::new(&mut plaintext);
        writer.push(&frame).unwrap();
        let len = writer.finish();
        pair.hand_opened(Side::B, mark, &plaintext[..len]);
    }
    assert_eq!(pair.b.received, [marked(Ecn::Ce, 100), marked(Ecn::Ce, 100)]);
}

#[test]
fn packets_of_another_class_do_not_share_a_datagram() {
    let class = |dscp, mark| TrafficClass::new(dscp, mark);
    let sent = [class(EF, Ecn::Ect0), class(EF, Ecn::Ect0), class(EF, Ecn::NotEct), class(8, Ecn::NotEct)];
    let packets = sent.map(|class| classed(class, b"small"));
    let mut pair = connected(OuterDscp::Copy, ChannelRules::default());
    assert_eq!(classes(&mut pair, &packets), sent[1..], "the first two share one");
    let mut pair = connected(OuterDscp::default(), ChannelRules::default());
    assert_eq!(classes(&mut pair, &packets), [class(0, Ecn::Ect0), class(0, Ecn::NotEct)]);
    let mut pair = connected(OuterDscp::Fixed(10), ChannelRules::default());
    assert_eq!(classes(&mut pair, &packets), [class(10, Ecn::Ect0), class(10, Ecn::NotEct)]);
    pair.run(Duration::from_secs(1));
    let inner = |bytes: &Vec<u8>| IpPacket::parse(bytes).unwrap().class();
    assert_eq!(pair.b.received.iter().map(inner).collect::<Vec<_>>(), sent, "the inner header keeps its own");
}

#[test]
fn reliable_channels_have_no_part_in_a_datagram_of_a_class() {
    let rules = ChannelRules::new(vec![FlowMatch { dscp: Some(EF), ..FlowMatch::default() }]).unwrap();
    let reliable = classed(TrafficClass::new(EF, Ecn::Ect0), b"reliable");
    for (class, expected) in [
        (TrafficClass::default(), vec![TrafficClass::default()]),
        (TrafficClass::new(0, Ecn::Ect0), vec![TrafficClass::new(0, Ecn::Ect0), TrafficClass::default()]),
        (TrafficClass::new(8, Ecn::NotEct), vec![TrafficClass::new(8, Ecn::NotEct), TrafficClass::default()]),
    ] {
        let mut pair = connected(OuterDscp::Copy, rules.clone());
        let other = classed(class, b"other");
        assert_eq!(classes(&mut pair, &[reliable.clone(), other.clone()]), expected);
        pair.run(Duration::from_secs(1));
        pair.b.received.sort_unstable();
        let mut sent = [reliable.clone(), other];
        sent.sort_unstable();
        assert_eq!(pair.b.received, sent, "neither is marked by the other's datagram");
    }
}
