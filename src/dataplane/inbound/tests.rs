//! What becomes of the packets of one datagram.

use super::super::sample::{INDEX, capable, shared, start};
use super::*;

/// What a datagram led to.
struct Outcome {
    delivered: Vec<Vec<u8>>,
}

/// Takes in one datagram with these frames and this mark.
fn carry(ecn: Ecn, frames: &[Frame<'_>]) -> Outcome {
    let remote = ([127, 0, 0, 1], 9).into();
    let shared = shared(start(), remote);
    let mut buffer = vec![0; 9000];
    let mut writer = DataWriter::new(&mut buffer);
    frames.iter().for_each(|frame| writer.push(frame).unwrap());
    let len = writer.finish();
    let link = Link { ecn, ..Link::to(remote) };
    let plaintext = Plaintext { counter: 0, link, highest: true, bytes: &mut buffer[..len] };
    let (mut delivered, mut received) = (Vec::new(), Received::default());
    let view = shared.table.read();
    let owner = view.owner(INDEX).unwrap();
    Inbound::new().packets(&view, owner, plaintext, &shared, &mut received, |packet, _| {
        delivered.push(packet.bytes().to_vec());
        true
    });
    Outcome { delivered }
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
