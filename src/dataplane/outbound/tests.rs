//! What becomes of one read of the interface.

use super::super::sample::{INNER_MTU, capable, shared, start};
use super::*;
use crate::base::Ecn;
use crate::io::poller::Poller;
use crate::io::udp::bind;

/// The marks and lengths of the datagrams that one packet of the interface becomes.
fn carried(packet: &[u8], congested: bool, count: usize) -> Vec<(Ecn, usize)> {
    let far = bind(0, None, 1).unwrap().remove(0);
    let shared = shared(start(), ([127, 0, 0, 1], far.port().unwrap()).into());
    let mut sender = bind(0, None, 1).unwrap()[0].sender().unwrap();
    let mut way = Way { now: start(), shared: &shared, sender: &mut sender };
    let view = shared.table.read();
    let mut outbound = Outbound::new();
    // Its size was told already.
    outbound.told = Some(way.now);
    let read = [&VnetHeader::PLAIN.encode()[..], packet].concat();
    outbound.waiting.room()[..read.len()].copy_from_slice(&read);
    assert_eq!(outbound.waiting.push(way.now, read.len(), &shared.rules), Some(0));
    let mut turn = outbound.waiting.pop(way.now).unwrap();
    turn.congested = congested;
    outbound.packet(&view, &mut turn, &mut way).unwrap();
    outbound.flush(&view, &mut way);
    way.sender.flush();

    let mut receivers = far.receivers().unwrap();
    let poller = Poller::new().unwrap();
    receivers.iter().for_each(|receiver| poller.watch(receiver.socket(), 0).unwrap());
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        poller.poll(true, |_| {}).unwrap();
        for receiver in &mut receivers {
            datagrams.extend(receiver.receive().1.map(|(link, datagram)| (link.class.ecn(), datagram.len())));
        }
    }
    datagrams
}

/// PROTOCOL §11.6.
#[test]
fn a_packet_lends_its_mark_to_its_datagram_and_to_each_of_its_parts() {
    assert_eq!(carried(&capable(INNER_MTU), false, 1), [(Ecn::Ect0, 1228)]);
    assert_eq!(carried(&capable(100), false, 1)[0].0, Ecn::Ect0);
    let parts = carried(&capable(INNER_MTU + 1), false, 2);
    assert!(parts.len() == 2 && parts.iter().all(|(ecn, _)| *ecn == Ecn::Ect0), "{parts:?}");
}

#[test]
fn a_packet_that_has_waited_too_long_tells_its_sender_by_its_mark_inside_and_outside() {
    assert_eq!(carried(&capable(INNER_MTU), true, 1), [(Ecn::Ce, 1228)]);
}
