//! What a node says to strangers: nothing to who does not know its key, and never more than it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use handfast::base::{Rng, TrafficClass};
use handfast::crypto::keys::{EphemeralSecret, IdentitySecret};
use handfast::crypto::schedule::Net;
use handfast::crypto::secret::Secret;
use handfast::wire::{CookieKind, HelloKind, encode_cookie_packet, encode_hello};

use crate::world::{Datagram, Line, World, address, ms, secs};

fn net() -> Net {
    Net::new(&Secret::fill(|psk| psk.fill(0)))
}

/// A first hello as a stranger can make it who knows the key of the node.
fn hello(world: &World, rng: &mut Rng) -> Vec<u8> {
    let (stranger, to) = (IdentitySecret::generate(rng), world.hosts[1].id);
    let ephemeral = EphemeralSecret::generate(rng).public();
    let mac1 = net().mac1(&to, &ephemeral, &stranger.id());
    let signature = net().sign_hello(&stranger, &to, &ephemeral, &mac1);
    encode_hello(HelloKind::Hello, &ephemeral, &stranger.id(), &signature, &mac1).to_vec()
}

/// A clear ping as a stranger can make it who knows the key of the node.
fn ping(world: &World, rng: &mut Rng) -> Vec<u8> {
    let n: [u8; 16] = rng.bytes();
    let mac = net().ping_mac(&world.hosts[1].id, &n);
    let cookie = [n, mac].concat().try_into().unwrap();
    encode_cookie_packet(CookieKind::Ping, &cookie).to_vec()
}

#[test]
fn no_type_and_no_length_is_answered_to_who_does_not_know_the_key() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    let mut rng = Rng::from_number(1);
    let (to, state, sent) = (world.hosts[1].address, world.state(1), world.sent[1]);
    let mut body = vec![0; 1600];
    rng.fill(&mut body);
    for kind in 0..=255 {
        let lengths = (0..200).chain((200..1600).step_by(7)).chain([1227, 1228, 1229, 1500, 1599]);
        for length in lengths {
            let mut bytes = body[..length].to_vec();
            bytes.splice(..2.min(length), [1, kind].into_iter().take(length));
            let result = world.inject(Datagram { from: address(3000), to, class: TrafficClass::default(), bytes });
            assert!(result.is_err(), "type {kind:#04x}, {length} bytes");
        }
    }
    assert_eq!(world.sent[1], sent, "not one datagram");
    assert_eq!(world.state(1), state);
}

#[test]
fn another_version_is_not_answered_even_if_all_else_is_right() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    let mut rng = Rng::from_number(1);
    let (to, sent) = (world.hosts[1].address, world.sent[1]);
    for version in (0..=255).filter(|&version| version != 1) {
        for mut bytes in [hello(&world, &mut rng), ping(&world, &mut rng)] {
            bytes[0] = version;
            assert!(world.inject(Datagram { from: address(3000), to, class: TrafficClass::default(), bytes }).is_err());
        }
    }
    assert_eq!(world.sent[1], sent);
}

#[test]
fn who_knows_the_key_gets_at_most_what_it_has_sent() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    let mut rng = Rng::from_number(1);
    let to = world.hosts[1].address;
    let mut received: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    world.strays.clear();
    for number in 0..5000u16 {
        let from = address(3000 + number % 50);
        let bytes = if number % 2 == 0 { hello(&world, &mut rng) } else { ping(&world, &mut rng) };
        *received.entry(from).or_default() += bytes.len();
        assert_ne!(
            world.inject(Datagram { from, to, class: TrafficClass::default(), bytes }),
            Err(handfast::proto::Dropped::BadMac)
        );
        world.run_for(ms(1));
    }
    world.run_for(secs(200));
    assert!(world.strays.len() > 100, "{} answers are no test", world.strays.len());
    let mut sent: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for stray in &world.strays {
        assert!(matches!(stray.bytes[1], 0x82 | 0x83), "only retries and ping answers");
        *sent.entry(stray.to).or_default() += stray.bytes.len();
    }
    for (source, &sent) in &sent {
        let received = received.get(source).copied().unwrap_or(0);
        assert!(sent <= received, "{source} has sent {received} bytes and got {sent}");
    }
    // And slowly: 20 retries and 5 pings a second from one source, after their bursts.
    assert!(world.strays.len() < 50 * (5 + 20 * 5 + 10 + 5 * 5), "{} answers in five seconds", world.strays.len());
}

#[test]
fn answers_are_never_answered() {
    let mut world = World::new(1, 2, Line::clean(ms(10)));
    world.tap = Some(Vec::new());
    world.start(0);
    world.start(1);
    let mut rng = Rng::from_number(1);
    let to = world.hosts[1].address;
    let bytes = ping(&world, &mut rng);
    world.inject(Datagram { from: address(0), to, class: TrafficClass::default(), bytes }).unwrap();
    world.run_for(secs(2));
    let answers = world.tap.take().unwrap_or_default().into_iter().filter(|datagram| datagram.bytes[1] & 0x80 != 0);
    let answers: Vec<Datagram> = answers.collect();
    let kinds: std::collections::BTreeSet<u8> = answers.iter().map(|answer| answer.bytes[1]).collect();
    assert_eq!(Vec::from_iter(kinds), [0x81, 0x82, 0x83], "all kinds of answers");
    let sent = world.sent.clone();
    for answer in &answers {
        for (from, to) in [(answer.from, answer.to), (address(3000), answer.to), (answer.to, answer.from)] {
            let datagram = Datagram { from, to, class: TrafficClass::default(), bytes: answer.bytes.clone() };
            assert!(world.inject(datagram).is_err());
        }
    }
    assert_eq!(world.sent, sent);
}
