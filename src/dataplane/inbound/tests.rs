//! What becomes of the packets of one datagram.

use etherparse::PacketBuilder;

use super::super::sample::{INDEX, INNER_MTU, capable, shared, start};
use super::*;
use crate::dataplane::Mail;

/// What a datagram led to.
struct Outcome {
    delivered: Vec<Vec<u8>>,
    received: Received,
    mail: Mail,
}

/// Takes in one datagram with these frames and this mark.
fn carry(ecn: Ecn, frames: &[Frame<'_>]) -> Outcome {
    let remote = ([127, 0, 0, 1], 9).into();
    let shared = shared(start(), remote);
    let mut buffer = vec![0; 9000];
    let mut writer = DataWriter::new(&mut buffer);
    frames.iter().for_each(|frame| writer.push(frame).unwrap());
    let len = writer.finish();
    let link = Link::to(remote).bearing(TrafficClass::new(0, ecn));
    let plaintext = Plaintext { counter: 0, link, highest: true, bytes: &mut buffer[..len] };
    let (mut delivered, mut received) = (Vec::new(), Received::default());
    let view = shared.table.read();
    let owner = view.owner(INDEX).unwrap();
    Inbound::new().packets(&view, owner, plaintext, &shared, &mut received, |packet, _| {
        delivered.push(packet.bytes().to_vec());
        true
    });
    let mail = shared.mailbox.take();
    Outcome { delivered, received, mail }
}

fn data(packet: &[u8]) -> Frame<'_> {
    Frame::UnreliableData { channel: UNRELIABLE, data: packet }
}

#[test]
fn every_packet_of_a_marked_datagram_bears_the_mark() {
    let packet = capable(20);
    let outcome = carry(Ecn::Ce, &[data(&packet); 255]);
    let marked = outcome.delivered.iter().filter(|packet| IpPacket::parse(packet).unwrap().ecn() == Ecn::Ce).count();
    assert_eq!((outcome.delivered.len(), marked), (255, 255));
}

#[test]
fn a_packet_that_the_control_thread_delivers_is_counted_there_alone() {
    let mut packet = Vec::new();
    let size = etherparse::TcpOptionElement::MaximumSegmentSize(INNER_MTU as u16);
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4).syn();
    builder.options(&[size]).unwrap().write(&mut packet, &[]).unwrap();
    let outcome = carry(Ecn::NotEct, &[data(&packet)]);
    assert_eq!((outcome.delivered.len(), outcome.mail.opened.len()), (0, 1));
    assert_eq!((outcome.received.traffic.rx_packets, outcome.received.traffic.rx_bytes), (0, 0));
    assert!(outcome.received.content);
}

/// PROTOCOL §8.5: it is answered only if it came alone, and the control thread does not see what it came with.
#[test]
fn a_probe_beside_a_packet_is_not_taken_for_one_that_came_alone() {
    let packet = capable(20);
    let probe = Frame::Probe { channel: UNRELIABLE, number: 1 };
    let seen = |frames: &[Frame<'_>]| carry(Ecn::NotEct, frames).mail.opened[0].len;
    assert_eq!(seen(&[probe]), HEADER + DATA_HEADER + 6 + TAG);
    assert_eq!(seen(&[data(&packet), probe]), 0);
}
