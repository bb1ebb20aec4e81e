//! What strangers, recorders and hostile peers may cost.

use std::net::SocketAddr;
use std::time::Duration;

use super::pair::{Datagram, Pair, Side, address, identity, packet};
use crate::base::{PeerIndex, Rng, TrafficClass};
use crate::crypto::keys::{EphemeralSecret, IdentitySecret};
use crate::crypto::schedule::Net;
use crate::crypto::secret::Secret;
use crate::overlay::flow::{ChannelRules, FlowMatch};
use crate::proto::event::Ended;
use crate::proto::{Command, Dropped, Event};
use crate::wire::hello::{HelloKind, encode_hello};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn hellos(pair: &Pair) -> Vec<Datagram> {
    pair.log.iter().filter(|datagram| datagram.bytes[1] == 0x01).cloned().collect()
}

/// A first hello to B from the address of A, by somebody who knows the public keys and nothing else.
fn spoofed(rng: &mut Rng) -> Datagram {
    let (a, b) = (identity(Side::A).id(), identity(Side::B).id());
    let ephemeral = EphemeralSecret::generate(rng).public();
    let mac1 = Net::new(&Secret::fill(|psk| psk.fill(0))).mac1(&b, &ephemeral, &a);
    let bytes = encode_hello(HelloKind::Hello, &ephemeral, &a, &rng.bytes(), &mac1).to_vec();
    Datagram { from: address(Side::A), to: address(Side::B), class: TrafficClass::default(), bytes }
}

#[test]
fn hellos_spoofed_from_the_address_of_a_peer_do_not_lock_it_out() {
    let (mut pair, mut rng) = (Pair::new(&[Side::A]), Rng::from_number(9));
    let forged: Vec<Datagram> = (0..100).map(|_| spoofed(&mut rng)).collect();
    // Before A gets a word in, and then 500 a second.
    for hello in &forged {
        pair.deliver(hello);
    }
    for number in 0..2000 {
        pair.deliver(&forged[number % forged.len()]);
        pair.run(ms(2));
    }
    let now = pair.now;
    assert!(pair.a.node.status(now).peers[0].session.is_some(), "A is locked out");
}

#[test]
fn a_hello_whose_session_was_confirmed_is_not_answered_again() {
    let mut pair = Pair::connected();
    let recorded = hellos(&pair)[1].clone();
    pair.run(Duration::from_secs(11));
    let sent = pair.log.len();
    for _ in 0..3 {
        assert_eq!(pair.deliver(&recorded), Some(Err(Dropped::Replayed)));
    }
    assert_eq!(pair.log.len(), sent, "and costs no public-key work, no answer and no offer");
}

#[test]
fn a_replayed_hello_of_an_earlier_attempt_does_not_lock_out_the_present_one() {
    let mut pair = Pair::new(&[Side::A]);
    // The first attempt is answered and comes no further.
    pair.run_with(ms(100), |datagram| datagram.bytes[1] != 0x10);
    let old = hellos(&pair)[1].clone();
    pair.restart(Side::A, true);
    // Nor does the second, whose half-open session then ends.
    pair.run_with(ms(100), |datagram| datagram.bytes[1] != 0x81);
    pair.run_with(Duration::from_secs(11), |_| false);
    assert_eq!(pair.deliver(&old), Some(Ok(())), "the first hello has its half-open session again");
    pair.wire.clear();
    pair.run(Duration::from_secs(7));
    let now = pair.now;
    assert!(pair.b.node.status(now).peers[0].session.is_some(), "the hellos of the second attempt are refused");
}

#[test]
fn a_peer_that_never_confirms_does_not_make_undelivered_packets_pile_up() {
    let rules = ChannelRules::new(vec![FlowMatch { protocol: Some(17), ..FlowMatch::default() }]).unwrap();
    let mut pair = Pair::with_rules(&[Side::A], rules);
    let (from, bytes) = (pair.a.address, packet(Side::A, &[7; 60_000]));
    for _ in 0..60 {
        for _ in 0..20 {
            let _ = pair.send(Side::A, &bytes);
        }
        // B answers and offers, and never hears the finish.
        pair.run_with(Duration::from_secs(1), |datagram| datagram.from != from || datagram.bytes[1] != 0x10);
    }
    assert!(hellos(&pair).len() > 10, "there was no second attempt");
    pair.run(Duration::from_secs(30));
    // 2 MiB of one session, and what waited for one.
    let kept: usize = pair.b.received.iter().map(Vec::len).sum();
    assert!((1 << 20..5 << 19).contains(&kept), "{kept} bytes were kept");
}

#[test]
fn twenty_sealed_pings_are_answered_in_a_second() {
    let mut pair = Pair::connected();
    let answers = |pair: &mut Pair| {
        let sent = pair.log.len();
        (0..90).for_each(|_| pair.seal_ping(Side::A));
        pair.run(ms(1));
        pair.log[sent..].iter().filter(|datagram| datagram.from == address(Side::B)).count()
    };
    assert_eq!(answers(&mut pair), 40);
    pair.run(ms(500));
    assert_eq!(answers(&mut pair), 10);
}

#[test]
fn a_peer_that_changes_keys_without_end_loses_the_session() {
    let mut pair = Pair::connected();
    let mut made = 0;
    while !pair.b.events.contains(&Event::Disconnected { peer: PeerIndex(0), reason: Ended::Fault }) {
        pair.start_rekey(Side::A);
        pair.run(ms(10));
        made += 1;
        assert!(made < 20, "in a fifth of a second");
    }
    assert!(made > 10, "a burst is allowed");
}

#[test]
fn a_forged_retry_leaves_the_attempt_as_it_was() {
    let mut pair = Pair::new(&[Side::A]);
    pair.run_with(ms(10), |datagram| datagram.bytes[1] != 0x83);
    let retry = pair.log.iter().find(|datagram| datagram.bytes[1] == 0x83).cloned().unwrap();
    for byte in 2..34 {
        let mut forged = retry.clone();
        forged.bytes[byte] ^= 1;
        assert_eq!(pair.deliver(&forged), Some(Err(Dropped::BadRetry)), "byte {byte}");
    }
    let elsewhere = Datagram { from: SocketAddr::from(([198, 51, 100, 1], 18502)), ..retry.clone() };
    assert_eq!(pair.deliver(&elsewhere), Some(Err(Dropped::Unexpected)), "from where nobody was greeted");
    assert_eq!(hellos(&pair).len(), 1);
    assert_eq!(pair.deliver(&retry), Some(Ok(())));
    assert_eq!(pair.deliver(&retry), Some(Err(Dropped::Unexpected)), "one retry for one hello");
    assert_eq!(hellos(&pair).len(), 2);
}

#[test]
fn a_forged_answer_leaves_the_attempt_as_it_was() {
    let mut pair = Pair::new(&[Side::A]);
    pair.run_with(ms(10), |datagram| datagram.bytes[1] != 0x81);
    let answer = pair.log.iter().find(|datagram| datagram.bytes[1] == 0x81).cloned().unwrap();
    let mut weak = answer.clone();
    weak.bytes[2..34].fill(0);
    assert_eq!(pair.deliver(&weak), Some(Err(Dropped::WeakKey)));
    for (byte, reason) in
        [(2, Dropped::BadAnswer), (34, Dropped::UnknownPeer), (66, Dropped::BadAnswer), (130, Dropped::BadAnswer)]
    {
        let mut forged = answer.clone();
        forged.bytes[byte] ^= 1;
        assert_eq!(pair.deliver(&forged), Some(Err(reason)), "byte {byte}");
    }
    let elsewhere = Datagram { from: SocketAddr::from(([198, 51, 100, 1], 18502)), ..answer.clone() };
    assert_eq!(pair.deliver(&elsewhere), Some(Err(Dropped::Unexpected)));
    assert_eq!(pair.deliver(&answer), Some(Ok(())));
    // The offer came before the answer and has to be repeated.
    pair.run(Duration::from_secs(2));
    let now = pair.now;
    assert!(pair.a.node.status(now).peers[0].session.is_some());
    assert_eq!(hellos(&pair).len(), 2);
}

/// As if somebody had the keys of a session, but not the identity of its owner.
fn steal(pair: &mut Pair) {
    pair.a.node.local.identity = IdentitySecret::generate(&mut Rng::from_number(666));
}

#[test]
fn a_finish_that_somebody_else_signed_erases_the_half_open_session() {
    let mut pair = Pair::new(&[Side::A]);
    pair.run_with(ms(10), |datagram| datagram.bytes[1] != 0x81);
    let answer = pair.log.iter().find(|datagram| datagram.bytes[1] == 0x81).cloned().unwrap();
    pair.send(Side::A, &packet(Side::A, b"not by A")).unwrap();
    steal(&mut pair);
    pair.deliver(&answer);
    assert_eq!(pair.b.node.peers.iter().next().unwrap().sessions.len(), 1);
    pair.run(Duration::from_secs(2));
    assert!(pair.b.node.peers.iter().next().unwrap().sessions.is_empty());
    assert!(pair.b.received.is_empty());
}

#[test]
fn a_rekey_that_somebody_else_signed_ends_the_session() {
    let mut pair = Pair::connected();
    steal(&mut pair);
    pair.start_rekey(Side::A);
    pair.run(ms(10));
    assert!(pair.b.events.contains(&Event::Disconnected { peer: PeerIndex(0), reason: Ended::Fault }));
}

#[test]
fn a_goodbye_that_was_held_back_does_not_end_a_later_session() {
    let mut pair = Pair::connected();
    pair.run(Duration::from_secs(6));
    pair.command(Side::A, Command::Shutdown);
    let goodbye: Vec<Datagram> = pair.wire.drain(..).collect();
    pair.restart(Side::A, true);
    pair.run(Duration::from_secs(1));
    for datagram in &goodbye {
        assert_eq!(pair.deliver(datagram), Some(Ok(())));
    }
    let bytes = packet(Side::A, b"still here");
    pair.send(Side::A, &bytes).unwrap();
    pair.run(ms(10));
    assert_eq!(pair.b.received.pop(), Some(bytes));
}
