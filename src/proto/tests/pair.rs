//! Two nodes, a clock, and a link between them that delivers at once, in order, and can be looked into.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::base::{Ecn, Link, PeerIndex, Rng, TrafficClass, TunSink, TxSink};
use crate::crypto::keys::IdentitySecret;
use crate::overlay::flow::ChannelRules;
use crate::proto::session::{Serial, SessionRef};
use crate::proto::{Command, Dropped, Event, Node, NodeConfig, OpenedElsewhere, PeerConfig};
use crate::wire::hello::CookieKind;
use crate::wire::sealed::MAX_DATAGRAM;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) class: TrafficClass,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Outbox(Vec<(Link, Vec<u8>)>);

impl TxSink for Outbox {
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0xee; len];
        fill(&mut bytes);
        self.0.push((link, bytes));
    }
}

/// IP packets that came out of a tunnel.
#[derive(Default)]
pub(crate) struct Inbox(Vec<Vec<u8>>);

impl TunSink for Inbox {
    fn deliver(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

pub(crate) struct End {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    pub(crate) received: Vec<Vec<u8>>,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) a: End,
    pub(crate) b: End,
    pub(crate) wire: VecDeque<Datagram>,
    /// Every datagram that was ever sent.
    pub(crate) log: Vec<Datagram>,
    /// How often a node was woken by its timers.
    pub(crate) wakes: usize,
}

pub(crate) fn address(side: Side) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 18502))
}

/// The overlay address of a side.
pub(crate) fn overlay(side: Side) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, side as u8 + 1)
}

pub(crate) fn identity(side: Side) -> IdentitySecret {
    IdentitySecret::generate(&mut Rng::from_number(100 + side as u64))
}

pub(crate) fn config(side: Side, knows_endpoint: bool) -> NodeConfig {
    let other = side.other();
    NodeConfig {
        peers: vec![PeerConfig {
            id: identity(other).id(),
            endpoints: if knows_endpoint { vec![address(other)] } else { Vec::new() },
            prefixes: vec![IpAddr::V4(overlay(other)).into()],
            keepalive: None,
        }],
        addresses: vec![IpAddr::V4(overlay(side))],
        // Scenarios count datagrams: without probes of the path.
        max_datagram: MAX_DATAGRAM,
        ..NodeConfig::default()
    }
}

/// An IPv4 packet from one side to the other, with `payload` behind its header.
pub(crate) fn packet(from: Side, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(overlay(from).octets(), overlay(from.other()).octets(), 64)
        .udp(1000, 2000)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

impl Pair {
    /// Both nodes, of which those in `greeting` know the address of the other.
    pub(crate) fn new(greeting: &[Side]) -> Self {
        Self::with_rules(greeting, ChannelRules::default())
    }

    /// The same with rules for reliable channels.
    pub(crate) fn with_rules(greeting: &[Side], rules: ChannelRules) -> Self {
        Self::with(|side| NodeConfig { channels: rules.clone(), ..config(side, greeting.contains(&side)) })
    }

    /// Both nodes, configured at will.
    pub(crate) fn with(configure: impl Fn(Side) -> NodeConfig) -> Self {
        let now = crate::proto::tests::start();
        let end = |side: Side| End {
            node: Node::new(configure(side), identity(side), Rng::from_number(side as u64), now),
            address: address(side),
            received: Vec::new(),
            events: Vec::new(),
        };
        Self { now, a: end(Side::A), b: end(Side::B), wire: VecDeque::new(), log: Vec::new(), wakes: 0 }
    }

    /// Both connected, and nothing on the wire.
    pub(crate) fn connected() -> Self {
        let mut pair = Self::new(&[Side::A]);
        pair.run(Duration::from_secs(1));
        for side in [Side::A, Side::B] {
            let now = pair.now;
            assert!(pair.end(side).node.status(now).peers[0].session.is_some(), "{side:?} is not connected");
        }
        pair
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    fn side_at(&self, address: SocketAddr) -> Option<Side> {
        [(Side::A, self.a.address), (Side::B, self.b.address)]
            .into_iter()
            .find(|&(_, at)| at == address)
            .map(|(side, _)| side)
    }

    /// Replaces a node by a new one that remembers nothing.
    pub(crate) fn restart(&mut self, side: Side, knows_endpoint: bool) {
        let now = self.now;
        let seed = self.log.len() as u64;
        self.end(side).node =
            Node::new(config(side, knows_endpoint), identity(side), Rng::from_number(1000 + seed), now);
        self.drain(side);
    }

    /// Puts an IP packet into the tunnel.
    pub(crate) fn send(&mut self, from: Side, bytes: &[u8]) -> Result<(), Dropped> {
        let result = self.put(from, bytes);
        self.drain(from);
        result
    }

    /// Puts an IP packet into the tunnel as one of several that are ready: the node may not send yet what it would send itself.
    pub(crate) fn put(&mut self, from: Side, bytes: &[u8]) -> Result<(), Dropped> {
        let now = self.now;
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let end = self.end(from);
        let result = end.node.handle_tun(now, bytes, &mut tx, &mut tun);
        end.received.append(&mut tun.0);
        self.post(from, tx);
        result
    }

    /// Hands over what another thread has opened for `side`, under this mark.
    pub(crate) fn hand_opened(&mut self, side: Side, mark: Ecn, plaintext: &[u8]) {
        let (now, peer) = (self.now, PeerIndex(0));
        let link = Link::to(address(side.other())).bearing(TrafficClass::new(0, mark));
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let end = self.end(side);
        let Serial(session) = end.node.peers.get_mut(peer).unwrap().sessions[0].serial;
        let from = OpenedElsewhere { peer, session, link, highest: true, len: plaintext.len() };
        end.node.handle_opened(now, from, plaintext, &mut tx, &mut tun);
        end.received.append(&mut tun.0);
        self.post(side, tx);
    }

    pub(crate) fn command(&mut self, side: Side, command: Command) {
        let now = self.now;
        self.end(side).node.handle_command(now, command);
        self.drain(side);
    }

    /// Lets the session of a side start a rekey, whatever its age.
    pub(crate) fn start_rekey(&mut self, side: Side) {
        let now = self.now;
        let Node { local, rng, peers, .. } = &mut self.end(side).node;
        let peer = peers.get_mut(PeerIndex(0)).unwrap();
        peer.sessions[0].start_rekey(now, local, rng);
        peers.settle(now, PeerIndex(0));
        peers.wake(PeerIndex(0));
        self.drain(side);
    }

    /// Sends a sealed ping on the session of a side.
    pub(crate) fn seal_ping(&mut self, side: Side) {
        let (now, to) = (self.now, Link::to(address(side.other())));
        let (index, mut tx) = (PeerIndex(0), Outbox::default());
        let node = &mut self.end(side).node;
        let serial = node.peers.get_mut(index).unwrap().sessions[0].serial;
        node.send_cookie(now, SessionRef { peer: index, serial }, to, CookieKind::Ping, &[7; 32], 34, &mut tx);
        self.post(side, tx);
    }

    /// Hands a datagram to whoever is at its destination, and lets it send what it wants to.
    pub(crate) fn deliver(&mut self, datagram: &Datagram) -> Option<Result<(), Dropped>> {
        let result = self.hand_over(datagram);
        if let Some(side) = self.side_at(datagram.to) {
            self.drain(side);
        }
        result
    }

    /// Hands a datagram over as one of a burst: more input follows before the node may send.
    pub(crate) fn hand_over(&mut self, datagram: &Datagram) -> Option<Result<(), Dropped>> {
        let side = self.side_at(datagram.to)?;
        let now = self.now;
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let mut bytes = datagram.bytes.clone();
        let link = Link::new(Some(datagram.to.ip()), datagram.from).bearing(datagram.class);
        let end = self.end(side);
        let result = end.node.handle_datagram(now, link, &mut bytes, &mut tx, &mut tun);
        end.received.append(&mut tun.0);
        self.post(side, tx);
        Some(result)
    }

    fn post(&mut self, side: Side, tx: Outbox) {
        let from = self.end(side).address;
        for (link, bytes) in tx.0 {
            let datagram = Datagram { from, to: link.remote, class: link.class, bytes };
            self.log.push(datagram.clone());
            self.wire.push_back(datagram);
        }
    }

    /// The second rule of the contract.
    pub(crate) fn drain(&mut self, side: Side) {
        let now = self.now;
        loop {
            let mut tx = Outbox::default();
            let more = self.end(side).node.poll_transmit(now, &mut tx);
            self.post(side, tx);
            if !more {
                break;
            }
        }
        let end = self.end(side);
        while let Some(event) = end.node.poll_event() {
            end.events.push(event);
        }
    }

    /// Lets time pass; every datagram arrives at once.
    pub(crate) fn run(&mut self, duration: Duration) {
        self.run_with(duration, |_| true);
    }

    /// As [`Self::run`], with only those datagrams that `passes` lets through.
    pub(crate) fn run_with(&mut self, duration: Duration, mut passes: impl FnMut(&Datagram) -> bool) {
        let end = self.now + duration;
        self.drain(Side::A);
        self.drain(Side::B);
        loop {
            while let Some(datagram) = self.wire.pop_front() {
                if passes(&datagram) {
                    self.deliver(&datagram);
                }
            }
            let next = [Side::A, Side::B].into_iter().filter_map(|side| self.end(side).node.poll_timeout()).min();
            let Some(next) = next.filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            for side in [Side::A, Side::B] {
                if self.end(side).node.poll_timeout().is_some_and(|at| at <= now) {
                    self.wakes += 1;
                    self.end(side).node.handle_timeout(now);
                    self.drain(side);
                }
            }
        }
        self.now = end;
    }
}
