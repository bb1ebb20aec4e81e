//! Helping others to measure, and a node to measure with (PROTOCOL §12.9).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pair::{Pair, Side, address, config, identity};
use crate::base::{PeerIndex, Rng};
use crate::crypto::keys::IdentitySecret;
use crate::proto::{Dropped, Node, NodeConfig, PeerConfig};
use crate::wire::member::Tags;
use crate::wire::record::KnockState;

fn stranger(number: u64) -> PeerConfig {
    let id = IdentitySecret::generate(&mut Rng::from_number(number)).id();
    PeerConfig { id, endpoints: Vec::new(), prefixes: Vec::new(), keepalive: None }
}

/// A node with two peers, neither of which is there.
pub(crate) fn lone() -> (Instant, Node) {
    let now = super::start();
    let config = NodeConfig { peers: vec![stranger(901), stranger(902)], ..NodeConfig::default() };
    (now, Node::new(config, identity(Side::A), Rng::from_number(1), now))
}

/// Timers run for an hour without end or panic.
pub(crate) fn settle_down(node: &mut Node, now: Instant) {
    for second in 0..3600 {
        node.handle_timeout(now + Duration::from_secs(second));
    }
}

/// Connected, with one more peer in the table of each, so that there is a mesh.
fn connected() -> Pair {
    let with_third = |side| {
        let mut config = config(side, true);
        config.peers.push(stranger(903));
        config
    };
    let mut pair = Pair::with(with_third);
    pair.run(Duration::from_secs(2));
    pair
}

/// Pings in the clear to `to` that carry one of the tokens of these tests.
fn pings_to(pair: &Pair, to: SocketAddr) -> usize {
    let is_one = |bytes: &[u8]| bytes.len() == 34 && bytes[1] == 2 && bytes[2..].iter().all(|byte| *byte == bytes[2]);
    pair.log.iter().filter(|sent| sent.to == to && is_one(&sent.bytes)).count()
}

#[test]
fn echoes_are_sent_when_they_are_due_and_no_more_than_eight_wait() {
    let mut pair = connected();
    let (now, peer) = (pair.now, PeerIndex(0));
    let before = pings_to(&pair, address(Side::A));
    for number in 0..20 {
        let result = pair.b.node.on_echo_after(now, peer, 30, &[number; 32]);
        assert_eq!(result, if number < 8 { Ok(()) } else { Err(Dropped::RateLimited) });
    }
    pair.run(Duration::from_secs(29));
    assert_eq!(pings_to(&pair, address(Side::A)), before);
    pair.run(Duration::from_secs(2));
    assert_eq!(pings_to(&pair, address(Side::A)), before + 8);
    assert_eq!(pair.b.node.on_echo_after(pair.now, peer, 601, &[1; 32]), Err(Dropped::RateLimited), "too late");
}

#[test]
fn knocks_are_few_and_go_nowhere_that_nobody_can_own() {
    let mut pair = connected();
    let (now, peer, node) = (pair.now, PeerIndex(0), &mut pair.b.node);
    let target: SocketAddr = "198.51.100.9:7".parse().unwrap();
    let done = (0..20).filter(|number| node.on_knock_for(now, peer, target, &[*number; 32]).is_ok()).count();
    assert_eq!(done, 2, "for one introducer");
    for near in ["10.0.0.1:7", "127.0.0.1:7", "192.0.2.1:0", "[fe80::1]:7", "[100::1]:7"] {
        assert_eq!(node.on_knock_for(now, peer, near.parse().unwrap(), &[1; 32]), Err(Dropped::Ignored), "{near}");
    }
}

#[test]
fn who_asks_for_a_knock_is_not_served_twice_a_minute_and_where_nobody_is_able_it_is_refused() {
    let mut pair = connected();
    let (now, peer, node) = (pair.now, PeerIndex(0), &mut pair.b.node);
    let mut ask = |at| node.on_knock(at, peer, KnockState::Asked, &[1; 32], Tags::EMPTY);
    assert_eq!(ask(now), Err(Dropped::UnknownPeer), "there is no third member");
    assert_eq!(ask(now + Duration::from_secs(59)), Err(Dropped::RateLimited));
    assert_eq!(ask(now + Duration::from_secs(60)), Err(Dropped::UnknownPeer));
}
