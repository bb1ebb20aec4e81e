//! Members that lie, and what it costs those to whom they do.

use std::net::{IpAddr, Ipv6Addr};

use super::*;
use crate::crypto::keys::IdentitySecret;
use crate::crypto::mesh::Introduced;
use crate::proto::command::{NodeConfig, PeerConfig};
use crate::proto::event::Event;
use crate::proto::hop;
use crate::proto::tests::pair::{Pair, Side, address, config, packet};
use crate::wire::member::{Candidates, Entry, FOUND, MORE, Source, encode_candidates, encode_entries};

const A: PeerIndex = PeerIndex(0);
const C: PeerIndex = PeerIndex(1);

fn third() -> IdentitySecret {
    IdentitySecret::generate(&mut Rng::from_number(102))
}

/// Both are members of a mesh with a third one, whose address they do not know.
fn members(greeting: &[Side]) -> Pair {
    let mut pair = Pair::with(|side| {
        let mut config: NodeConfig = config(side, greeting.contains(&side));
        let (id, endpoints, prefixes) = (third().id(), Vec::new(), Vec::new());
        config.peers.push(PeerConfig { id, endpoints, prefixes, keepalive: None });
        config
    });
    pair.run(Duration::from_secs(5));
    pair
}

impl Pair {
    /// A control record of A reaches B.
    fn tell_b(&mut self, record: Record<'_>) {
        let now = self.now;
        assert!(self.b.node.handle_mesh_record(now, A, &record.encode()));
        self.b.node.settle(now, A);
        self.drain(Side::B);
    }

    fn contact_of_third(&mut self) -> &mut Contact {
        self.b.node.peers.get_mut(C).unwrap().contact()
    }

    /// Datagrams that went to somebody else than the two.
    fn astray(&self) -> usize {
        let known = [Side::A, Side::B].map(address);
        self.log.iter().filter(|datagram| !known.contains(&datagram.to)).count()
    }
}

fn somewhere(number: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, (number / 200) as u8], 1000 + number))
}

#[test]
fn a_session_that_is_held_and_was_used_once_lets_the_node_sleep() {
    let mut pair = members(&[Side::A, Side::B]);
    pair.send(Side::A, &packet(Side::A, b"once")).unwrap();
    pair.run(Duration::from_secs(150));
    pair.wakes = 0;
    pair.run(Duration::from_secs(60));
    assert!(pair.wakes < 200, "{} wakes in a minute", pair.wakes);
}

#[test]
fn a_list_that_nobody_asked_for_keeps_nobody_busy() {
    let mut pair = members(&[Side::A]);
    assert!(!pair.b.node.peers.get_mut(A).unwrap().is_standing());
    pair.tell_b(Record::PeersList { version: 1, flags: MORE, entries: entries(&[]) });
    pair.wakes = 0;
    pair.run(Duration::from_secs(10));
    assert!(pair.wakes < 100, "{} wakes in ten seconds", pair.wakes);
}

fn entries(bytes: &[u8]) -> crate::wire::member::Entries<'_> {
    let record: Vec<u8> = [&[0x06, 0, 0, 0, 0, 0][..], bytes].concat();
    let Ok(Record::PeersList { entries, .. }) = Record::decode(Box::leak(record.into_boxed_slice())) else { panic!() };
    entries
}

#[test]
fn a_peer_that_sees_this_node_elsewhere_all_the_time_is_not_told_to_everybody_each_time() {
    let mut pair = members(&[Side::A]);
    let sent = pair.log.len();
    for number in 0..100 {
        pair.tell_b(Record::About { flags: 2, nonce: &[1; 16], seen: somewhere(number) });
        pair.run(Duration::from_millis(10));
    }
    assert!(pair.log.len() - sent < 20, "{} datagrams", pair.log.len() - sent);
    pair.run(Duration::from_secs(120));
    let candidates = pair.b.node.own_candidates(A);
    assert_eq!(pair.b.node.peers.get_mut(A).unwrap().contact().candidates, Some(candidates), "the last word is told");
}

#[test]
fn candidates_without_end_are_pinged_at_a_walk() {
    let mut pair = members(&[Side::A]);
    for number in 0..100u16 {
        let told: Vec<_> = (0..16).map(|port| (somewhere(number * 16 + port), Source::Local)).collect();
        pair.tell_b(Record::Candidates(Candidates::new(&encode_candidates(&told))));
        pair.now += Duration::from_millis(10);
    }
    assert!(pair.astray() <= 64 + 20, "{} in a second", pair.astray());
}

#[test]
fn forged_introductions_do_not_use_up_what_an_address_may_get() {
    let mut pair = members(&[Side::A]);
    let (ephemeral, target) = ([7; 32], pair.b.node.id());
    let ask = |pair: &mut Pair, ephemeral: [u8; 32], signature| {
        let (now, address) = (pair.now, somewhere(1));
        let introduction = answer::Introduction { number: 1, ephemeral, asker: third().id(), signature, address };
        pair.b.node.on_introduction(now, A, &introduction)
    };
    for number in 0..9 {
        assert_eq!(ask(&mut pair, [number; 32], [number; 64]), Err(Dropped::BadSignature));
    }
    pair.now += Duration::from_millis(200);
    let introducer = pair.a.node.id();
    let nonce = pair.b.node.mesh.nonce;
    let asker = third().id();
    let introduced =
        Introduced { asker: &asker, introducer: &introducer, target: &target, ephemeral: &ephemeral, nonce: &nonce };
    let signature = pair.b.node.local.net.sign_introduction(&third(), &introduced);
    assert_eq!(ask(&mut pair, ephemeral, signature), Ok(()));
}

#[test]
fn a_token_that_somebody_copies_sends_nothing_to_the_world() {
    let mut pair = members(&[Side::A]);
    let until = pair.now + Duration::from_secs(60);
    pair.b.node.mesh.tokens.insert([9; 32], Token { peer: A, asked: true, until });
    for number in 0..1000 {
        let now = pair.now;
        assert!(pair.b.node.on_token(now, Link::to(somewhere(number)), &[9; 32]));
        pair.drain(Side::B);
        pair.now += Duration::from_millis(1);
    }
    assert!(pair.astray() <= 8, "{} in a second", pair.astray());
}

#[test]
fn what_nobody_asked_for_is_not_remembered_of_a_member() {
    let mut pair = members(&[Side::A]);
    let known = Entry {
        id: third().id(),
        address: somewhere(1),
        connected: true,
        relays: false,
        claimed: false,
        nonce: [1; 16],
    };
    let bytes = encode_entries(&[known]);
    pair.tell_b(Record::PeersList { version: 0, flags: FOUND, entries: entries(&bytes) });
    assert_eq!(pair.contact_of_third().addresses, []);
    let now = pair.now;
    assert_eq!(pair.contact_of_third().nonce(now), None);
}

#[test]
fn nobody_is_looked_for_where_nobody_can_be() {
    let mut contact = Contact::default();
    let everywhere = ["127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "0.0.0.0:1", "[::1]:1", "[ff02::1]:1"];
    for address in everywhere {
        contact.on_address(address.parse().unwrap());
    }
    contact.on_address(hop::relayed(A, 7));
    assert_eq!(contact.addresses, []);
    contact.on_address(somewhere(1));
    contact.on_address("192.168.1.7:1".parse().unwrap());
    assert_eq!(contact.addresses.len(), 2);
}

#[test]
fn a_relay_cannot_say_that_one_member_is_another() {
    let mut pair = members(&[Side::A]);
    pair.seal_ping(Side::A);
    let datagram = pair.wire.pop_back().unwrap();
    let own = pair.b.node.local.net.tag(&pair.a.node.id());
    let now = pair.now;
    let mut arrive = |tag| {
        let mut tx = crate::proto::tests::pair::Outbox::default();
        let mut tun = crate::proto::tests::pair::Inbox::default();
        let mut bytes = datagram.bytes.clone();
        pair.b.node.take_datagram(now, Link::to(hop::relayed(C, tag)), &mut bytes, &mut tx, &mut tun)
    };
    assert!(arrive(own ^ 1).is_err());
    assert_eq!(arrive(own), Ok(()));
}

#[test]
fn the_relayed_hops_of_two_relays_are_two_neighbourhoods() {
    let prefix = |relay| match hop::relayed(PeerIndex(relay), 1).ip() {
        IpAddr::V6(ip) => ip.octets()[..7].to_vec(),
        IpAddr::V4(_) => Vec::new(),
    };
    assert_ne!(prefix(1), prefix(2), "floods through one relay must not use up the allowance of the other");
    assert_eq!(hop::through(hop::relayed(PeerIndex(0x0102_0304), 9)), Some((PeerIndex(0x0102_0304), 9)));
    assert_eq!(hop::through(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1)), None);
}

/// What a member may have this node do by asking for ports to be tried, if it is not as it says.
#[test]
fn a_search_that_is_asked_for_where_there_is_no_need_is_refused_and_answers_to_none_count_for_nothing() {
    use crate::wire::record::SprayState;
    let mut pair = members(&[Side::A]);
    let now = pair.now;
    let mut say = |state| pair.b.node.on_spray(now, A, state, &[7; 32]);
    assert_eq!(say(SprayState::Asked), Err(Dropped::Ignored), "the session is direct, and who knows what NAT there is");
    assert_eq!(say(SprayState::Agreed), Err(Dropped::Unexpected));
    assert_eq!(say(SprayState::Refused), Err(Dropped::Unexpected));
    assert_eq!(pair.b.node.on_spray(now, PeerIndex(9), SprayState::Asked, &[7; 32]), Err(Dropped::UnknownPeer));
    assert!(!pair.b.node.on_sprayed(now, Link::to(somewhere(1)), &[7; 32]), "nothing is waited for");
    assert!(std::iter::from_fn(|| pair.b.node.poll_event()).all(|event| !matches!(event, Event::OpenSockets { .. })));
    assert_eq!(pair.astray(), 0);
}
