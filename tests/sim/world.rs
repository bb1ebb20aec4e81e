//! A world in which time is a number: nodes, addresses, and the lines between them.
//!
//! Nothing here sleeps or reads a clock. One seed makes everything: the keys of the nodes, what the lines lose, delay, repeat and reorder, and the nodes' own randomness. So a
//! run is the same every time, and its seed, which is printed when a test fails, brings it back.
//!
//! Every IP packet that a test sends is in a ledger. Whatever comes out of a tunnel is compared with it, in every scenario: to the right node, intact, and at most once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use handfast::base::{Ecn, Link, OuterDscp, PeerId, PeerIndex, Rng, TrafficClass, TunSink, TxSink};
use handfast::crypto::keys::IdentitySecret;
use handfast::overlay::{ChannelRules, FlowMatch};
use handfast::proto::command::PeerStatus;
use handfast::proto::{Command, Dropped, Event, Node, NodeConfig, PeerConfig};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

/// UDP port of flows that go unreliably.
const PLAIN_PORT: u16 = 9;
/// UDP port of the flows on reliable channel 1; channel 2 has the next one.
const RELIABLE_PORT: u16 = 514;
/// How long a name look-up takes.
const LOOKUP: Duration = Duration::from_millis(50);
/// Happenings at one moment, after which something turns in circles.
const MAX_AT_ONCE: u32 = 100_000;

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One direction between two hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) delay: Duration,
    /// Up to this much is added at random; more than the distance between packets, it reorders them.
    pub(crate) jitter: Duration,
    /// Of a thousand datagrams, so many are lost.
    pub(crate) loss: u32,
    /// Of a thousand, so many arrive twice.
    pub(crate) duplicates: u32,
    pub(crate) up: bool,
    /// Longer IP packets are lost without a word.
    pub(crate) mtu: usize,
    /// Of a thousand ECN-capable datagrams, so many are marked: congestion experienced.
    pub(crate) marks: u32,
}

impl Line {
    /// A line that loses nothing.
    pub(crate) const fn clean(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0, duplicates: 0, up: true, mtu: 1500, marks: 0 }
    }

    /// A line that loses, repeats and reorders.
    pub(crate) const fn rough(delay: Duration, loss: u32) -> Self {
        Self { delay, jitter: delay, loss, duplicates: 10, up: true, mtu: 1500, marks: 0 }
    }
}

/// A datagram in the underlay.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) class: TrafficClass,
    pub(crate) bytes: Vec<u8>,
}

/// A host, by its place in the world.
pub(crate) type HostId = usize;

/// An IP packet that a test sent, by its place in the ledger.
pub(crate) type PacketId = u64;

/// What is configured on one host for one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) keepalive: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) id: PeerId,
    pub(crate) node: Option<Node>,
    /// What its configuration says of each other host.
    pub(crate) known: BTreeMap<HostId, Known>,
    /// Its peers have names that can be looked up.
    pub(crate) names: bool,
    pub(crate) prefers_aes: bool,
    pub(crate) max_datagram: usize,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Packets of the ledger that came out of its tunnel, in order.
    pub(crate) received: Vec<(Duration, PacketId)>,
    /// Anything else that came out of its tunnel.
    pub(crate) other: Vec<Vec<u8>>,
    asleep_until: Option<Instant>,
    restarts: u64,
}

/// A packet of the ledger.
#[derive(Clone, Copy, Debug)]
struct Sent {
    from: HostId,
    to: HostId,
    channel: u8,
    len: usize,
    delivered: u32,
}

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    lines: BTreeMap<(HostId, HostId), Line>,
    flying: BTreeMap<(Instant, u64), Datagram>,
    lookups: BTreeMap<(Instant, u64), (HostId, HostId)>,
    counter: u64,
    at_once: u32,
    ledger: Vec<Sent>,
    digest: Sha256,
    trace: bool,
    /// Datagrams and bytes that each host has sent.
    pub(crate) sent: Vec<(u64, u64)>,
    /// Every datagram that was sent since this was set.
    pub(crate) tap: Option<Vec<Datagram>>,
    /// What was sent to addresses that are nobody's: spoofed sources, places that a host has left.
    pub(crate) strays: Vec<Datagram>,
    /// A packet may come out twice: only after a session with reliable packets in flight was replaced (PROTOCOL §7).
    pub(crate) repeats_allowed: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?} into the world of SIM_SEED={}", self.elapsed(), self.seed);
        }
    }
}

#[derive(Default)]
struct Outbox(Vec<(Link, Vec<u8>)>);

impl TxSink for Outbox {
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8])) {
        // What stood there before must not matter.
        let mut bytes = vec![0xee; len];
        fill(&mut bytes);
        self.0.push((link, bytes));
    }
}

#[derive(Default)]
struct Inbox(Vec<Vec<u8>>);

impl TunSink for Inbox {
    fn deliver(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

/// The seeds of a scenario: `count` of them, or the one in the environment variable `SIM_SEED`.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

pub(crate) fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([198, 18, high, low], 18502))
}

pub(crate) fn overlay_v4(host: HostId) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host as u8 + 1)
}

pub(crate) fn overlay_v6(host: HostId) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

/// Making a world.
impl World {
    /// `hosts` hosts that know each other's addresses, with the same line between any two. Nobody is running yet.
    pub(crate) fn new(seed: u64, hosts: usize, line: Line) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a simulation needs one arbitrary moment to start from")]
        let start = Instant::now();
        let mut world = Self {
            seed,
            start,
            now: start,
            rng: Rng::from_number(seed),
            hosts: Vec::new(),
            lines: BTreeMap::new(),
            flying: BTreeMap::new(),
            lookups: BTreeMap::new(),
            counter: 0,
            at_once: 0,
            ledger: Vec::new(),
            digest: Sha256::new(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
            sent: vec![(0, 0); hosts],
            tap: None,
            strays: Vec::new(),
            repeats_allowed: false,
        };
        for host in 0..hosts {
            let known = (0..hosts).filter(|&other| other != host);
            let known = known.map(|other| (other, Known { endpoints: vec![address(other as u16)], keepalive: None }));
            world.hosts.push(Host {
                address: address(host as u16),
                id: world.identity(host).id(),
                node: None,
                known: known.collect(),
                names: false,
                prefers_aes: false,
                max_datagram: NodeConfig::default().max_datagram,
                events: Vec::new(),
                received: Vec::new(),
                other: Vec::new(),
                asleep_until: None,
                restarts: 0,
            });
            for other in (0..hosts).filter(|&other| other != host) {
                world.lines.insert((host, other), line);
            }
        }
        world
    }

    /// Two hosts with an established session, of which the first was the initiator, and nothing in flight. The line is clean until then.
    pub(crate) fn connected(seed: u64, line: Line) -> Self {
        let mut world = Self::new(seed, 2, Line::clean(line.delay));
        world.forget_endpoint(1, 0);
        world.start(1);
        world.start(0);
        world.run_for(secs(2));
        let connected = world.session(0, 1).is_some() && world.session(1, 0).is_some();
        assert!(connected, "two hosts cannot even connect");
        world.set_lines(0, 1, line);
        world
    }

    fn identity(&self, host: HostId) -> IdentitySecret {
        IdentitySecret::generate(&mut Rng::from_number(self.seed.wrapping_mul(1_000_003) + host as u64))
    }

    /// `host` will have to wait until `other` says hello.
    pub(crate) fn forget_endpoint(&mut self, host: HostId, other: HostId) {
        self.hosts[host].known.entry(other).or_default().endpoints.clear();
    }

    pub(crate) fn set_line(&mut self, from: HostId, to: HostId, line: Line) {
        self.lines.insert((from, to), line);
    }

    /// Both directions.
    pub(crate) fn set_lines(&mut self, one: HostId, other: HostId, line: Line) {
        self.set_line(one, other, line);
        self.set_line(other, one, line);
    }

    /// Cuts or mends the line between two hosts.
    pub(crate) fn set_up(&mut self, one: HostId, other: HostId, up: bool) {
        for pair in [(one, other), (other, one)] {
            if let Some(line) = self.lines.get_mut(&pair) {
                line.up = up;
            }
        }
    }
}

/// What happens to hosts.
impl World {
    /// Starts a node that remembers nothing.
    pub(crate) fn start(&mut self, host: HostId) {
        let peers = self.hosts[host].known.iter().map(|(&other, known)| PeerConfig {
            id: self.hosts[other].id,
            endpoints: known.endpoints.clone(),
            prefixes: vec![IpNet::from(IpAddr::V4(overlay_v4(other))), IpNet::from(IpAddr::V6(overlay_v6(other)))],
            keepalive: known.keepalive,
        });
        let rules = (0..2).map(|rule| FlowMatch {
            protocol: Some(17),
            ports: Some(RELIABLE_PORT + rule..=RELIABLE_PORT + rule),
            ..FlowMatch::default()
        });
        let config = NodeConfig {
            peers: peers.collect(),
            addresses: vec![IpAddr::V4(overlay_v4(host)), IpAddr::V6(overlay_v6(host))],
            channels: ChannelRules::new(rules.collect()).unwrap(),
            prefers_aes: self.hosts[host].prefers_aes,
            publishes: false,
            dscp: OuterDscp::default(),
            max_datagram: self.hosts[host].max_datagram,
            relay: None,
        };
        self.start_with(host, config);
    }

    /// Starts a node with a configuration of the test's own.
    pub(crate) fn start_with(&mut self, host: HostId, config: NodeConfig) {
        let restarts = self.hosts[host].restarts;
        self.hosts[host].restarts += 1;
        let rng = Rng::from_number(self.seed.wrapping_mul(7_368_787) + host as u64 * 1_000 + restarts);
        self.hosts[host].node = Some(Node::new(config, self.identity(host), rng, self.now));
        self.drain(host);
    }

    /// The process dies without a word.
    pub(crate) fn kill(&mut self, host: HostId) {
        self.hosts[host].node = None;
    }

    pub(crate) fn restart(&mut self, host: HostId) {
        self.kill(host);
        self.start(host);
    }

    /// The host has another address from now on; what is sent to the old one is lost.
    pub(crate) fn roam(&mut self, host: HostId, to: SocketAddr) {
        self.hosts[host].address = to;
    }

    /// The host hears nothing and does nothing for a while, and then finds that its clock has jumped.
    pub(crate) fn suspend(&mut self, host: HostId, duration: Duration) {
        self.hosts[host].asleep_until = Some(self.now + duration);
    }

    pub(crate) fn command(&mut self, host: HostId, command: Command) {
        let now = self.now;
        if let Some(node) = &mut self.hosts[host].node {
            node.handle_command(now, command);
        }
        self.drain(host);
    }
}

/// IP packets.
impl World {
    /// Sends a small unreliable IP packet; every other one is IPv6.
    pub(crate) fn send(&mut self, from: HostId, to: HostId) -> PacketId {
        self.send_sized(from, to, 0, 100)
    }

    /// Sends an IP packet of `len` bytes on a reliable channel, 1 or 2, or with channel 0 unreliably. What the node says about it stands in its counters.
    pub(crate) fn send_sized(&mut self, from: HostId, to: HostId, channel: u8, len: usize) -> PacketId {
        let id = self.ledger.len() as PacketId;
        let sent = Sent { from, to, channel, len, delivered: 0 };
        self.ledger.push(sent);
        let bytes = packet(id, sent);
        // A drop is counted in the status of the node.
        let _ = self.send_bytes(from, &bytes);
        id
    }

    /// As [`Self::send_sized`]; what the node refuses is not in the ledger.
    pub(crate) fn try_send(&mut self, from: HostId, to: HostId, channel: u8, len: usize) -> Result<PacketId, Dropped> {
        let id = self.ledger.len() as PacketId;
        let sent = Sent { from, to, channel, len, delivered: 0 };
        self.ledger.push(sent);
        let result = self.send_bytes(from, &packet(id, sent));
        if result.is_err() {
            self.ledger.pop();
        }
        result.map(|()| id)
    }

    /// Hands any bytes to the tunnel of a host.
    pub(crate) fn send_bytes(&mut self, from: HostId, bytes: &[u8]) -> Result<(), Dropped> {
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let now = self.now;
        let node = self.hosts[from].node.as_mut();
        let result = node.map_or(Ok(()), |node| node.handle_tun(now, bytes, &mut tx, &mut tun));
        self.post(from, tx);
        self.check_inbox(from, tun);
        self.drain(from);
        result
    }

    pub(crate) fn is_delivered(&self, id: PacketId) -> bool {
        self.ledger[id as usize].delivered > 0
    }

    /// Whether every packet of the ledger from `since` on has arrived.
    pub(crate) fn all_delivered_since(&self, since: PacketId) -> bool {
        self.ledger[since as usize..].iter().all(|sent| sent.delivered > 0)
    }

    pub(crate) fn packets_sent(&self) -> PacketId {
        self.ledger.len() as PacketId
    }

    /// The reliable packets that have not arrived.
    pub(crate) fn lost_reliable(&self) -> Vec<PacketId> {
        let ledger = (0..).zip(&self.ledger);
        ledger.filter(|(_, sent)| sent.channel > 0 && sent.delivered == 0).map(|(id, _)| id).collect()
    }

    /// What came out of a tunnel.
    fn check_inbox(&mut self, host: HostId, tun: Inbox) {
        for bytes in tun.0 {
            let Some(id) = packet_id(&bytes) else {
                self.hosts[host].other.push(bytes);
                continue;
            };
            let Some(sent) = self.ledger.get_mut(id as usize) else {
                panic!("host {host} got a packet that nobody sent: {bytes:02x?}");
            };
            sent.delivered += 1;
            let sent = *sent;
            assert_eq!(sent.to, host, "packet {id} {sent:?} came to another host");
            assert!(bytes == packet(id, sent), "packet {id} {sent:?} was damaged");
            assert!(sent.delivered == 1 || self.repeats_allowed && sent.channel > 0, "packet {id} {sent:?} came twice");
            let at = self.now - self.start;
            self.hosts[host].received.push((at, id));
            if self.trace {
                println!("{at:?} packet {id} {sent:?} is delivered");
            }
        }
    }
}

/// Time and datagrams.
impl World {
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Runs until `done`, but no longer than `limit`; how long it took, if it came to that.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (begin, end) = (self.now, self.now + limit);
        loop {
            if done(self) {
                return Some(self.now - begin);
            }
            if !self.step(end) {
                return None;
            }
        }
    }

    /// Everything that happens at the next moment at which anything happens; false if that is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timers = self.hosts.iter().filter_map(|host| {
            let timer = host.node.as_ref()?.poll_timeout()?;
            Some(host.asleep_until.map_or(timer, |until| until.max(timer)))
        });
        let datagram = self.flying.first_key_value().map(|(&(at, _), _)| at);
        let lookup = self.lookups.first_key_value().map(|(&(at, _), _)| at);
        let next = timers.chain(datagram).chain(lookup).min();
        let Some(next) = next.filter(|&next| next <= end) else {
            self.now = end;
            return false;
        };
        self.at_once = if next > self.now { 0 } else { self.at_once + 1 };
        assert!(self.at_once < MAX_AT_ONCE, "time stands still");
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let datagram = entry.remove();
            self.arrive(datagram);
        }
        while let Some(entry) = self.lookups.first_entry().filter(|entry| entry.key().0 <= now) {
            let (host, other) = entry.remove();
            let endpoints = vec![self.hosts[other].address];
            self.command(host, Command::SetEndpoints { peer: self.peer_index(host, other), endpoints });
        }
        for host in 0..self.hosts.len() {
            if self.is_awake(host)
                && let Some(node) = &mut self.hosts[host].node
                && node.poll_timeout().is_some_and(|at| at <= now)
            {
                node.handle_timeout(now);
                self.drain(host);
            }
        }
        true
    }

    fn is_awake(&mut self, host: HostId) -> bool {
        let now = self.now;
        let asleep_until = &mut self.hosts[host].asleep_until;
        if asleep_until.is_some_and(|until| until <= now) {
            *asleep_until = None;
        }
        asleep_until.is_none()
    }

    /// Who is at an address.
    pub(crate) fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        self.hosts.iter().position(|host| host.address == address)
    }

    fn arrive(&mut self, datagram: Datagram) {
        // A drop is counted in the status of the node.
        let _ = self.inject(datagram);
    }

    /// Hands a datagram to whoever is at its destination, now: what an attacker can do who may write any source address.
    pub(crate) fn inject(&mut self, datagram: Datagram) -> Result<(), Dropped> {
        let Some(host) = self.host_at(datagram.to).filter(|&host| self.is_awake(host)) else {
            return Ok(());
        };
        let Datagram { from, to, class, mut bytes } = datagram;
        let now = self.now;
        let Some(node) = &mut self.hosts[host].node else {
            return Ok(());
        };
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let link = Link::new(Some(to.ip()), from).bearing(class);
        let result = node.handle_datagram(now, link, &mut bytes, &mut tx, &mut tun);
        self.post(host, tx);
        self.check_inbox(host, tun);
        self.drain(host);
        result
    }

    /// The second rule of the contract (see `handfast::proto`).
    fn drain(&mut self, host: HostId) {
        let now = self.now;
        for _ in 0..MAX_AT_ONCE {
            let Some(node) = &mut self.hosts[host].node else {
                return;
            };
            let mut tx = Outbox::default();
            let more = node.poll_transmit(now, &mut tx);
            self.post(host, tx);
            if !more {
                return self.drain_events(host);
            }
        }
        panic!("poll_transmit never ends");
    }

    fn drain_events(&mut self, host: HostId) {
        while let Some(event) = self.hosts[host].node.as_mut().and_then(Node::poll_event) {
            let elapsed = self.elapsed();
            self.hosts[host].events.push((elapsed, event));
            if self.trace {
                println!("{elapsed:?} host {host}: {event:?}");
            }
            if let Event::Resolve { peer } = event
                && self.hosts[host].names
            {
                let other = self.host_of(host, peer);
                self.counter += 1;
                self.lookups.insert((self.now + LOOKUP, self.counter), (host, other));
            }
        }
    }

    /// Puts what a host sends on its lines.
    fn post(&mut self, host: HostId, tx: Outbox) {
        let from = self.hosts[host].address;
        for (link, bytes) in tx.0 {
            let to = link.remote;
            self.sent[host].0 += 1;
            self.sent[host].1 += bytes.len() as u64;
            self.digest.update((self.now - self.start).as_nanos().to_be_bytes());
            self.digest.update(format!("{from} {to} {} ", bytes.len()));
            self.digest.update(&bytes);
            let datagram = Datagram { from, to, class: link.class, bytes };
            if self.trace {
                println!(
                    "{:?} {from} to {to}: {:02x?}, {} bytes",
                    self.elapsed(),
                    &datagram.bytes[1..14],
                    datagram.bytes.len()
                );
            }
            if let Some(tap) = &mut self.tap {
                tap.push(datagram.clone());
            }
            match self.host_at(to).filter(|&other| other != host) {
                Some(other) => self.fly(self.lines[&(host, other)], datagram),
                None => self.strays.push(datagram),
            }
        }
    }

    fn fly(&mut self, line: Line, mut datagram: Datagram) {
        let headers = if datagram.to.is_ipv4() { 28 } else { 48 };
        if !line.up || datagram.bytes.len() + headers > line.mtu || self.chance(line.loss) {
            return;
        }
        if datagram.class.ecn() != Ecn::NotEct && self.chance(line.marks) {
            datagram.class = TrafficClass::new(datagram.class.dscp(), Ecn::Ce);
        }
        if self.chance(line.duplicates) {
            self.fly_once(line, datagram.clone());
        }
        self.fly_once(line, datagram);
    }

    fn fly_once(&mut self, line: Line, datagram: Datagram) {
        let jitter = line.jitter * self.rng.below(1000) / 1000;
        self.counter += 1;
        self.flying.insert((self.now + line.delay + jitter, self.counter), datagram);
    }

    /// True in `of_thousand` of a thousand cases.
    pub(crate) fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.rng.below(1000) < of_thousand
    }
}

/// What can be seen.
impl World {
    /// A digest of every datagram that was ever sent, and when.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    /// The slot of `other` in the configuration of `host`.
    pub(crate) fn peer_index(&self, host: HostId, other: HostId) -> PeerIndex {
        let place = self.hosts[host].known.keys().position(|&known| known == other);
        PeerIndex(place.expect("hosts know each other") as u32)
    }

    fn host_of(&self, host: HostId, peer: PeerIndex) -> HostId {
        *self.hosts[host].known.keys().nth(peer.slot()).expect("a peer is a host")
    }

    /// What `host` shows of `other`.
    pub(crate) fn status(&self, host: HostId, other: HostId) -> PeerStatus {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        node.status(self.now).peers.swap_remove(self.peer_index(host, other).slot())
    }

    /// Number of the epoch, and where the session goes, if there is one.
    pub(crate) fn session(&self, host: HostId, other: HostId) -> Option<(u64, SocketAddr)> {
        self.status(host, other).session.map(|session| (session.epoch, session.endpoint))
    }

    /// How often `host` has dropped something for this reason, whoever it came from.
    pub(crate) fn drops(&self, host: HostId, reason: Dropped) -> u64 {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        let status = node.status(self.now);
        status.drops.of(reason) + status.peers.iter().map(|peer| peer.drops.of(reason)).sum::<u64>()
    }

    /// All that strangers must not be able to change: the peers with their sessions and counters, and the next thing the node will do.
    pub(crate) fn state(&self, host: HostId) -> String {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        let next = node.poll_timeout().map(|at| at.saturating_duration_since(self.start));
        format!("{:?} next {next:?}", node.status(self.now).peers)
    }

    /// Length of everything that a node holds, printed: grows with whatever piles up.
    pub(crate) fn size(&self, host: HostId) -> usize {
        format!("{:?}", self.hosts[host].node).len()
    }
}

/// The bytes of a packet of the ledger.
fn packet(id: PacketId, sent: Sent) -> Vec<u8> {
    let port = if sent.channel == 0 { PLAIN_PORT } else { RELIABLE_PORT + u16::from(sent.channel) - 1 };
    let v6 = id % 2 == 1;
    let headers = if v6 { 48 } else { 28 };
    let mut payload = vec![0; sent.len.max(headers + 8) - headers];
    let mut state = id ^ 0x9e37_79b9_7f4a_7c15;
    for byte in &mut payload {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    payload[..8].copy_from_slice(&id.to_be_bytes());
    let mut bytes = Vec::with_capacity(sent.len);
    if v6 {
        let (src, dst) = (overlay_v6(sent.from).octets(), overlay_v6(sent.to).octets());
        etherparse::PacketBuilder::ipv6(src, dst, 64).udp(PLAIN_PORT, port).write(&mut bytes, &payload).unwrap();
    } else {
        let (src, dst) = (overlay_v4(sent.from).octets(), overlay_v4(sent.to).octets());
        etherparse::PacketBuilder::ipv4(src, dst, 64).udp(PLAIN_PORT, port).write(&mut bytes, &payload).unwrap();
    }
    bytes
}

/// The id of a packet, if it is one of the ledger.
fn packet_id(bytes: &[u8]) -> Option<PacketId> {
    let (protocol, at) = match bytes.first()? >> 4 {
        4 => (*bytes.get(9)?, 28),
        _ => (*bytes.get(6)?, 48),
    };
    let id = bytes.get(at..at + 8).filter(|_| protocol == 17)?;
    Some(PacketId::from_be_bytes(id.try_into().ok()?))
}
