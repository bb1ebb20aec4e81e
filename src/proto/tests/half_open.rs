//! What a responder does for a hello, in which order, and what it keeps (PROTOCOL §4.1 to §4.4).

use std::net::SocketAddr;
use std::time::Duration;

use super::pair::{Datagram, Pair, Side, address, config, identity};
use crate::base::{Link, PeerId, PeerIndex, Rng, TrafficClass};
use crate::crypto::keys::{EphemeralSecret, IdentitySecret};
use crate::crypto::schedule::Net;
use crate::crypto::secret::Secret;
use crate::proto::handshake::responder;
use crate::proto::session::{Opening, Session};
use crate::proto::{Dropped, Event, Node, NodeConfig, PeerConfig};
use crate::wire::hello::{HelloKind, encode_hello};

/// Somebody who greets B, one packet at a time.
struct Caller {
    identity: IdentitySecret,
    ephemeral: [u8; 32],
    from: SocketAddr,
    net: Net,
    to: PeerId,
}

impl Caller {
    fn new(identity: IdentitySecret, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self {
            identity,
            ephemeral: EphemeralSecret::generate(&mut Rng::from_number(u64::from(number))).public(),
            from: SocketAddr::from(([198, 51, high, low], 18502)),
            net: Net::new(&Secret::fill(|psk| psk.fill(0))),
            to: super::pair::identity(Side::B).id(),
        }
    }

    fn stranger(number: u16) -> Self {
        Self::new(IdentitySecret::generate(&mut Rng::from_number(10_000 + u64::from(number))), number)
    }

    fn hello(&self, cookie: &[u8; 32]) -> Datagram {
        let signature = self.net.sign_hello(&self.identity, &self.to, &self.ephemeral, cookie);
        let bytes = encode_hello(HelloKind::Hello, &self.ephemeral, &self.identity.id(), &signature, cookie);
        Datagram { from: self.from, to: address(Side::B), class: TrafficClass::default(), bytes: bytes.to_vec() }
    }

    /// Says a first hello and returns the second one, with the cookie that came back.
    fn second_hello(&self, pair: &mut Pair) -> Datagram {
        let mac1 = self.net.mac1(&self.to, &self.ephemeral, &self.identity.id());
        pair.deliver(&self.hello(&mac1)).unwrap().unwrap();
        let retry = pair.log.last().unwrap();
        assert_eq!((retry.to, retry.bytes[1], retry.bytes.len()), (self.from, 0x83, 34));
        self.hello(retry.bytes[2..].try_into().unwrap())
    }
}

/// Spoils the signature.
fn forged(hello: &Datagram) -> Datagram {
    let mut forged = hello.clone();
    forged.bytes[100] ^= 1;
    forged
}

fn half_open(pair: &Pair) -> usize {
    pair.b.node.peers.iter().flat_map(|peer| &peer.sessions).filter(|session| session.is_half_open()).count()
}

#[test]
fn a_cookie_is_good_for_one_address_and_one_key() {
    let mut pair = Pair::new(&[]);
    let caller = Caller::new(identity(Side::A), 1);
    let hello = caller.second_hello(&mut pair);
    let elsewhere = Datagram { from: SocketAddr::from(([198, 51, 9, 9], 18502)), ..hello.clone() };
    assert_eq!(pair.deliver(&elsewhere), Some(Err(Dropped::BadMac)));
    let other_port = Datagram { from: SocketAddr::new(hello.from.ip(), 1), ..hello.clone() };
    assert_eq!(pair.deliver(&other_port), Some(Err(Dropped::BadMac)));
    let cookie: [u8; 32] = hello.bytes[130..].try_into().unwrap();
    let mut other_key = Caller::new(identity(Side::A), 2);
    other_key.from = caller.from;
    assert_eq!(pair.deliver(&other_key.hello(&cookie)), Some(Err(Dropped::BadMac)));
    let other_identity = Caller { ephemeral: caller.ephemeral, ..Caller::stranger(1) };
    assert_eq!(pair.deliver(&other_identity.hello(&cookie)), Some(Err(Dropped::BadMac)));
    assert_eq!(half_open(&pair), 0);
    assert_eq!(pair.deliver(&hello), Some(Ok(())));
    assert_eq!(half_open(&pair), 1);
}

#[test]
fn a_cookie_lives_for_one_period_of_its_secret_and_the_next() {
    for (age, accepted) in [(59, true), (61, true), (119, true), (121, false)] {
        let mut pair = Pair::new(&[]);
        let hello = Caller::new(identity(Side::A), 1).second_hello(&mut pair);
        pair.run(Duration::from_secs(age));
        let expected = if accepted { Ok(()) } else { Err(Dropped::BadMac) };
        assert_eq!(pair.deliver(&hello), Some(expected), "after {age} s");
    }
}

#[test]
fn nobody_greets_with_the_responders_own_key() {
    let mut pair = Pair::new(&[]);
    let caller = Caller::new(identity(Side::B), 1);
    let mac1 = caller.net.mac1(&caller.to, &caller.ephemeral, &caller.identity.id());
    assert_eq!(pair.deliver(&caller.hello(&mac1)), Some(Err(Dropped::OwnIdentity)));
}

#[test]
fn an_unknown_peer_costs_no_signature() {
    let mut pair = Pair::new(&[]);
    let hello = Caller::stranger(1).second_hello(&mut pair);
    for _ in 0..100 {
        assert_eq!(pair.deliver(&forged(&hello)), Some(Err(Dropped::UnknownPeer)), "before signature and buckets");
    }
    assert_eq!(pair.deliver(&hello), Some(Err(Dropped::UnknownPeer)));
}

#[test]
fn signatures_are_checked_ten_a_second_for_one_source() {
    let mut pair = Pair::new(&[]);
    let hello = Caller::new(identity(Side::A), 1).second_hello(&mut pair);
    let results: Vec<_> = (0..20).map(|_| pair.deliver(&forged(&hello)).unwrap()).collect();
    assert_eq!(results[..10], [Err(Dropped::BadSignature); 10]);
    assert_eq!(results[10..], [Err(Dropped::RateLimited); 10]);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.deliver(&hello), Some(Ok(())), "a tenth of a second later, one more");
}

#[test]
fn forged_signatures_do_not_lock_out_whose_name_they_bear() {
    let mut pair = Pair::new(&[]);
    for number in 10..60 {
        let hello = Caller::new(identity(Side::A), number).second_hello(&mut pair);
        assert_eq!(pair.deliver(&forged(&hello)), Some(Err(Dropped::BadSignature)));
        pair.run(Duration::from_millis(2));
    }
    let hello = Caller::new(identity(Side::A), 1).second_hello(&mut pair);
    assert_eq!(pair.deliver(&hello), Some(Ok(())));
}

#[test]
fn an_identity_is_answered_once_a_second() {
    let mut pair = Pair::new(&[]);
    let mut accepted = 0;
    for number in 1..=40 {
        let hello = Caller::new(identity(Side::A), number).second_hello(&mut pair);
        accepted += usize::from(pair.deliver(&hello) == Some(Ok(())));
        assert_eq!(half_open(&pair), usize::from(accepted > 0), "one half-open session for one peer");
        pair.run(Duration::from_millis(50));
    }
    assert_eq!(accepted, 10 + 1, "the burst, and one in the two seconds that it took but for the last moment");
}

#[test]
fn the_same_hello_gets_the_same_answer_and_makes_nothing_new() {
    let mut pair = Pair::new(&[]);
    let hello = Caller::new(identity(Side::A), 1).second_hello(&mut pair);
    pair.deliver(&hello).unwrap().unwrap();
    let is_answer = |datagram: &&Datagram| datagram.bytes[1] == 0x81;
    let answer = pair.log.iter().find(is_answer).cloned().unwrap();
    let state = |pair: &Pair| -> Vec<_> {
        pair.b.node.peers.iter().flat_map(|peer| peer.sessions.iter().flat_map(|session| session.indexes())).collect()
    };
    let before = state(&pair);
    for _ in 0..50 {
        pair.deliver(&hello).unwrap().unwrap();
    }
    let answers: Vec<_> = pair.log.iter().filter(is_answer).collect();
    assert_eq!(answers.len(), 51, "no bucket is asked");
    assert!(answers.iter().all(|again| again.bytes == answer.bytes && again.to == answer.to));
    assert_eq!(state(&pair), before);
}

#[test]
fn a_half_open_session_is_gone_after_ten_seconds() {
    let mut pair = Pair::new(&[]);
    let hello = Caller::new(identity(Side::A), 1).second_hello(&mut pair);
    pair.deliver(&hello).unwrap().unwrap();
    pair.run(Duration::from_millis(9_990));
    assert_eq!(half_open(&pair), 1);
    pair.run(Duration::from_millis(20));
    assert_eq!(half_open(&pair), 0);
    assert!(!pair.b.events.iter().any(|event| matches!(event, Event::Connected { .. })), "{:?}", pair.b.events);
}

/// A half-open session as an introduction makes one.
fn introduce(pair: &mut Pair, number: u64) {
    let (now, index) = (pair.now, PeerIndex(0));
    let ephemeral = EphemeralSecret::generate(&mut Rng::from_number(number)).public();
    let node = &mut pair.b.node;
    let accepted =
        responder::answer_to(&node.local, &identity(Side::A).id(), &ephemeral, &[7; 32], &mut node.rng).unwrap();
    let (serial, opening) = (node.next_serial(), Opening::Introduction(&ephemeral));
    let link = Link::to(address(Side::A));
    let session = Session::offered(now, serial, link, opening, accepted, &node.local, &mut node.rng);
    node.add_half_open(now, index, session);
}

#[test]
fn a_hello_does_not_end_what_an_introduction_began_nor_the_reverse() {
    let mut pair = Pair::new(&[]);
    for round in 1..=3 {
        let hello = Caller::new(identity(Side::A), round).second_hello(&mut pair);
        assert_eq!(pair.deliver(&hello), Some(Ok(())));
        introduce(&mut pair, round.into());
        assert_eq!(half_open(&pair), 2, "one of each kind");
        let answers = pair.log.len();
        assert_eq!(pair.deliver(&hello), Some(Ok(())), "the hello still has its session");
        assert_eq!(pair.log[answers].bytes[1], 0x81);
    }
}

#[test]
fn half_open_sessions_are_bounded_and_the_oldest_makes_room() {
    const CALLERS: u16 = 1100;
    let mut pair = Pair::new(&[]);
    let callers: Vec<Caller> = (0..CALLERS).map(Caller::stranger).collect();
    let peers = callers.iter().map(|caller| PeerConfig {
        id: caller.identity.id(),
        endpoints: Vec::new(),
        prefixes: Vec::new(),
        keepalive: None,
    });
    let config = NodeConfig { peers: peers.collect(), ..config(Side::B, false) };
    pair.b.node = Node::new(config, identity(Side::B), Rng::from_number(1), pair.now);
    for caller in &callers {
        let hello = caller.second_hello(&mut pair);
        assert_eq!(pair.deliver(&hello), Some(Ok(())));
        pair.run(Duration::from_millis(2));
    }
    assert_eq!(half_open(&pair), 1024);
    let open: Vec<bool> = pair.b.node.peers.iter().map(|peer| !peer.sessions.is_empty()).collect();
    let oldest = usize::from(CALLERS) - 1024;
    assert_eq!(open.iter().position(|&open| open), Some(oldest));
    pair.run(Duration::from_secs(11));
    assert_eq!(half_open(&pair), 0);
}
