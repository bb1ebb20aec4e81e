//! A world in which time is a number: nodes, addresses, and the lines between them.
//!
//! Nothing here sleeps or reads a clock. One seed makes everything: the keys of the nodes, what the lines lose, delay, repeat and reorder, and the nodes' own randomness. So a
//! run is the same every time, and its seed, which is printed when a test fails, brings it back.
//!
//! Every IP packet that a test sends is in a ledger. Whatever comes out of a tunnel is compared with it, in every scenario: to the right node, intact, and at most once.

mod ledger;
mod underlay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use handfast::base::{Link, PeerId, PeerIndex, Rng, TrafficClass};
use handfast::crypto::keys::IdentitySecret;
use handfast::overlay::{ChannelRules, FlowMatch};
use handfast::proto::command::PeerStatus;
use handfast::proto::{CandidateKind, Command, Dropped, Event, Node, NodeConfig, PeerConfig, RelayLimits};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use self::ledger::{RELIABLE_PORT, Sent};
use self::underlay::{Announcement, Flight};
use crate::line::Queue;
pub(crate) use crate::line::{Line, Rate};
use crate::nat::{Behaviour, Way};
pub(crate) use crate::network::{Families, HostId, SegmentId};
use crate::network::{INTERNET, Network};

/// The port of every node.
const PORT: u16 = 18502;

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A datagram in the underlay.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) class: TrafficClass,
    pub(crate) bytes: Vec<u8>,
}

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
    /// Its address; of a host with several, the first.
    pub(crate) address: SocketAddr,
    /// Its other addresses, in the same network.
    pub(crate) more: Vec<SocketAddr>,
    /// Its extra sockets: the port of each, by its number.
    pub(crate) outlets: BTreeMap<u16, u16>,
    /// It opens those that its node asks for.
    pub(crate) has_descriptors: bool,
    /// The network that it is in.
    pub(crate) segment: SegmentId,
    families: Families,
    /// What the network knows of it: its addresses as they were when they were last made known.
    attached: Vec<(SegmentId, SocketAddr)>,
    pub(crate) id: PeerId,
    pub(crate) node: Option<Node>,
    /// What its configuration says of each other host.
    pub(crate) known: BTreeMap<HostId, Known>,
    /// Its peers have names that can be looked up.
    pub(crate) names: bool,
    pub(crate) prefers_aes: bool,
    pub(crate) max_datagram: usize,
    pub(crate) relay: Option<RelayLimits>,
    /// What it can send, over all lines together.
    uplink: Option<(Rate, Queue)>,
    /// Its clock runs ahead by this much.
    ahead: Duration,
    /// Hosts on different islands do not hear each other.
    island: u32,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Packets of the ledger that came out of its tunnel, in order.
    pub(crate) received: Vec<(Duration, PacketId)>,
    /// Anything else that came out of its tunnel.
    pub(crate) other: Vec<Vec<u8>>,
    asleep_until: Option<Instant>,
    restarts: u64,
    /// The entry in the list of timers.
    timer: Option<Instant>,
}

impl Host {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.address).chain(self.more.iter().copied())
    }

    /// Which of its addresses a datagram leaves from.
    fn source_for(&self, link: Link) -> Option<SocketAddr> {
        let asked = self.addresses().find(|address| Some(address.ip()) == link.local);
        let fits = |address: &SocketAddr| address.is_ipv4() == link.remote.is_ipv4();
        let common = asked.filter(fits).or_else(|| self.addresses().find(fits))?;
        match link.socket {
            0 => Some(common),
            number => self.outlets.get(&number).map(|port| SocketAddr::new(common.ip(), *port)),
        }
    }

    /// The socket that has this port.
    fn socket_at(&self, port: u16) -> u16 {
        self.outlets.iter().find(|(_, own)| **own == port).map_or(0, |(number, _)| *number)
    }

    /// All places at which something reaches it.
    fn places(&self) -> Vec<SocketAddr> {
        let ports = self.outlets.values().copied();
        let v4 = self.addresses().find(SocketAddr::is_ipv4);
        let extra = ports.filter_map(|port| Some(SocketAddr::new(v4?.ip(), port)));
        self.addresses().chain(extra).collect()
    }
}

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    network: Network,
    /// A host reaches addresses of both families from any of its own: in worlds in which addresses are no more than names.
    families_mix: bool,
    /// Between two hosts that nothing else is said of.
    line: Line,
    lines: BTreeMap<(HostId, HostId), Line>,
    /// Of the lines that have a rate.
    queues: BTreeMap<(HostId, HostId), Queue>,
    /// When each node wants to be called; what is asleep, when it wakes.
    timers: BTreeSet<(Instant, HostId)>,
    flying: BTreeMap<(Instant, u64), Flight>,
    announcements: BTreeMap<(Instant, u64), Announcement>,
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
    /// Every datagram that reached a host since this was set, as it came to it.
    pub(crate) arrivals: Option<Vec<(HostId, Datagram)>>,
    /// What was sent to addresses that are nobody's: spoofed sources, places that a host has left.
    pub(crate) strays: Vec<Datagram>,
    /// A packet may come out twice: only after a session with reliable packets in flight was replaced (PROTOCOL §7).
    pub(crate) repeats_allowed: bool,
    /// Routers do as hop limits say.
    pub(crate) counts_hops: bool,
    /// Links carry multicast.
    pub(crate) multicast: bool,
    /// A host that takes everybody for somebody at another address, and says so ([`mistaken`]).
    pub(crate) liar: Option<HostId>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?} into the world of SIM_SEED={}", self.elapsed(), self.seed);
        }
    }
}

/// Where a liar sees who is not a public host himself: at an address of somebody else. The same once more is the true one.
pub(crate) fn mistaken(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            SocketAddr::new(Ipv4Addr::new(a ^ 8, b, c, d).into(), address.port())
        }
        IpAddr::V6(_) => address,
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
    SocketAddr::from(([198, 18, high, low], PORT))
}

pub(crate) fn overlay_v4(host: HostId) -> Ipv4Addr {
    let [high, low] = (host as u16 + 1).to_be_bytes();
    Ipv4Addr::new(10, 77, high, low)
}

pub(crate) fn overlay_v6(host: HostId) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

/// Each host is reached by one prefix of each family.
pub(crate) fn overlay_prefixes(host: HostId) -> Vec<IpNet> {
    vec![IpNet::from(IpAddr::V4(overlay_v4(host))), IpNet::from(IpAddr::V6(overlay_v6(host)))]
}

/// Making a world.
impl World {
    /// `hosts` hosts that know each other's addresses, with the same line between any two. Nobody is running yet.
    pub(crate) fn new(seed: u64, hosts: usize, line: Line) -> Self {
        let mut world = Self::empty(seed, line);
        world.families_mix = true;
        for _ in 0..hosts {
            world.add_host(INTERNET, Families::V4);
        }
        world.publish(&(0..hosts).collect::<Vec<_>>());
        world
    }

    /// An Internet without hosts; between any two that will come, there is this line.
    pub(crate) fn empty(seed: u64, line: Line) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a simulation needs one arbitrary moment to start from")]
        let start = Instant::now();
        Self {
            seed,
            start,
            now: start,
            rng: Rng::from_number(seed),
            hosts: Vec::new(),
            network: Network::new(),
            families_mix: false,
            line,
            lines: BTreeMap::new(),
            queues: BTreeMap::new(),
            timers: BTreeSet::new(),
            flying: BTreeMap::new(),
            announcements: BTreeMap::new(),
            lookups: BTreeMap::new(),
            counter: 0,
            at_once: 0,
            ledger: Vec::new(),
            digest: Sha256::new(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
            sent: Vec::new(),
            tap: None,
            arrivals: None,
            strays: Vec::new(),
            repeats_allowed: false,
            counts_hops: true,
            multicast: true,
            liar: None,
        }
    }

    /// One more host, which knows nobody, with an address of each of these families that the segment has.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub(crate) fn add_host(&mut self, segment: SegmentId, families: Families) -> HostId {
        let host = self.hosts.len();
        let addresses = self.addresses_for(host, segment, families);
        self.hosts.push(Host {
            address: addresses[0],
            more: addresses[1..].to_vec(),
            outlets: BTreeMap::new(),
            has_descriptors: true,
            segment,
            families,
            attached: Vec::new(),
            id: self.identity(host).id(),
            node: None,
            known: BTreeMap::new(),
            names: false,
            prefers_aes: false,
            max_datagram: NodeConfig::default().max_datagram,
            relay: None,
            uplink: None,
            ahead: Duration::ZERO,
            island: 0,
            events: Vec::new(),
            received: Vec::new(),
            other: Vec::new(),
            asleep_until: None,
            restarts: 0,
            timer: None,
        });
        self.sent.push((0, 0));
        self.attach(host);
        host
    }

    fn addresses_for(&mut self, host: HostId, segment: SegmentId, families: Families) -> Vec<SocketAddr> {
        let addresses = self.network.addresses_for(host, segment, families);
        assert!(!addresses.is_empty(), "segment {segment} has none of {families:?}");
        addresses.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect()
    }

    /// A LAN inside of `parent` (the Internet or a carrier), with what stands between it and outside for each family that it has.
    pub(crate) fn add_lan(&mut self, parent: SegmentId, v4: Option<Way>, v6: Option<Way>) -> SegmentId {
        self.network.add_segment(parent, v4, v6, &mut self.rng)
    }

    /// What lies inside of a carrier's NAT.
    pub(crate) fn add_carrier(&mut self, nat: Behaviour) -> SegmentId {
        self.network.add_carrier(nat, &mut self.rng)
    }

    /// Every configuration names every host, and the addresses of these.
    pub(crate) fn publish(&mut self, public: &[HostId]) {
        let count = self.hosts.len();
        let mut endpoints = vec![Vec::new(); count];
        for &host in public {
            endpoints[host] = self.hosts[host].addresses().collect::<Vec<_>>();
        }
        for (host, own) in self.hosts.iter_mut().enumerate() {
            let others = (0..count).filter(|&other| other != host);
            own.known =
                others.map(|other| (other, Known { endpoints: endpoints[other].clone(), keepalive: None })).collect();
        }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Makes the addresses of a host known to the network.
    fn attach(&mut self, host: HostId) {
        let own = &mut self.hosts[host];
        let addresses: Vec<_> = own.places().into_iter().map(|address| (own.segment, address)).collect();
        if own.attached == addresses {
            return;
        }
        for (segment, address) in std::mem::take(&mut own.attached) {
            self.network.detach(host, segment, address);
        }
        for &(segment, address) in &addresses {
            self.network.attach(host, segment, address);
        }
        self.hosts[host].attached = addresses;
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

    fn line(&self, from: HostId, to: HostId) -> Line {
        self.lines.get(&(from, to)).copied().unwrap_or(self.line)
    }

    /// Cuts or mends the line between two hosts, even in a LAN.
    pub(crate) fn set_up(&mut self, one: HostId, other: HostId, up: bool) {
        for (from, to) in [(one, other), (other, one)] {
            self.set_line(from, to, Line { up, ..self.line(from, to) });
        }
    }

    /// Nothing passes any more between these hosts and the others, or hosts that were parted from them before.
    pub(crate) fn part(&mut self, hosts: &[HostId]) {
        let island = self.hosts.iter().map(|host| host.island).max().unwrap_or_default() + 1;
        for &host in hosts {
            self.hosts[host].island = island;
        }
    }

    /// All hosts hear each other again.
    pub(crate) fn heal(&mut self) {
        for host in &mut self.hosts {
            host.island = 0;
        }
    }

    /// Limits what a host can send, over all lines together.
    pub(crate) fn limit_uplink(&mut self, host: HostId, rate: Option<Rate>) {
        let queue = Queue::new(self.now);
        self.hosts[host].uplink = rate.map(|rate| (rate, queue));
    }

    /// The routers of a LAN or a carrier are switched off and on again.
    pub(crate) fn reboot_routers(&mut self, segment: SegmentId) {
        self.network.reboot(segment);
    }
}

/// What happens to hosts.
impl World {
    /// Starts a node that remembers nothing.
    pub(crate) fn start(&mut self, host: HostId) {
        let peers = self.hosts[host].known.iter().map(|(&other, known)| PeerConfig {
            id: self.hosts[other].id,
            endpoints: known.endpoints.clone(),
            prefixes: overlay_prefixes(other),
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
            max_datagram: self.hosts[host].max_datagram,
            relay: self.hosts[host].relay,
            ..NodeConfig::default()
        };
        self.start_with(host, config);
    }

    /// Starts a node with a configuration of the test's own.
    pub(crate) fn start_with(&mut self, host: HostId, config: NodeConfig) {
        let restarts = self.hosts[host].restarts;
        self.hosts[host].restarts += 1;
        self.hosts[host].outlets.clear();
        let rng = Rng::from_number(self.seed.wrapping_mul(7_368_787) + host as u64 * 1_000 + restarts);
        self.attach(host);
        self.hosts[host].node = Some(Node::new(config, self.identity(host), rng, self.clock(host)));
        self.tell_addresses(host);
    }

    /// The process dies without a word.
    pub(crate) fn kill(&mut self, host: HostId) {
        self.hosts[host].node = None;
        self.set_timer(host);
    }

    pub(crate) fn restart(&mut self, host: HostId) {
        self.kill(host);
        self.start(host);
    }

    /// The host has another address in its network from now on; what is sent to the old one is lost.
    pub(crate) fn roam(&mut self, host: HostId, to: SocketAddr) {
        self.readdress(host, &[to]);
    }

    /// The host is in another network from now on, and its system has noticed.
    pub(crate) fn move_to(&mut self, host: HostId, segment: SegmentId) {
        let addresses = self.addresses_for(host, segment, self.hosts[host].families);
        self.hosts[host].segment = segment;
        self.readdress(host, &addresses);
        self.command(host, Command::NetworkChanged);
    }

    fn readdress(&mut self, host: HostId, addresses: &[SocketAddr]) {
        let own = &mut self.hosts[host];
        own.address = addresses[0];
        own.more = addresses[1..].to_vec();
        self.attach(host);
        self.tell_addresses(host);
    }

    /// What the shell of the node does whenever its addresses change.
    fn tell_addresses(&mut self, host: HostId) {
        let addresses = self.hosts[host].addresses().map(|address| (address, CandidateKind::Local)).collect();
        self.command(host, Command::SetLocal { addresses });
    }

    /// The host hears nothing and does nothing for a while, and then finds that its clock has jumped.
    pub(crate) fn suspend(&mut self, host: HostId, duration: Duration) {
        self.hosts[host].asleep_until = Some(self.now + duration);
        self.set_timer(host);
    }

    /// The clock of the host jumps ahead, at once.
    pub(crate) fn jump_clock(&mut self, host: HostId, by: Duration) {
        self.hosts[host].ahead += by;
        self.set_timer(host);
    }

    /// What time it is for the node of a host.
    pub(crate) fn clock(&self, host: HostId) -> Instant {
        self.now + self.hosts[host].ahead
    }

    pub(crate) fn command(&mut self, host: HostId, command: Command) {
        let now = self.clock(host);
        if let Some(node) = &mut self.hosts[host].node {
            node.handle_command(now, command);
        }
        self.drain(host);
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
        let known = &self.hosts[host].known;
        let place = if known.len() + 1 == self.hosts.len() && !known.contains_key(&host) {
            // All others: the usual case, and the one in which counting takes long.
            Some(other - usize::from(other > host))
        } else {
            known.keys().position(|&known| known == other)
        };
        PeerIndex(place.expect("hosts know each other") as u32)
    }

    fn host_of(&self, host: HostId, peer: PeerIndex) -> HostId {
        *self.hosts[host].known.keys().nth(peer.slot()).expect("a peer is a host")
    }

    /// What `host` shows of `other`.
    pub(crate) fn status(&self, host: HostId, other: HostId) -> PeerStatus {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        node.status(self.clock(host)).peers.swap_remove(self.peer_index(host, other).slot())
    }

    /// Number of the epoch, and where the session goes, if there is one.
    pub(crate) fn session(&self, host: HostId, other: HostId) -> Option<(u64, SocketAddr)> {
        self.status(host, other).session.map(|session| (session.epoch, session.endpoint))
    }

    /// How often `host` has dropped something for this reason, whoever it came from.
    pub(crate) fn drops(&self, host: HostId, reason: Dropped) -> u64 {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        let status = node.status(self.clock(host));
        status.drops.of(reason) + status.peers.iter().map(|peer| peer.drops.of(reason)).sum::<u64>()
    }

    /// All that strangers must not be able to change: the peers with their sessions and counters, and the next thing the node will do.
    pub(crate) fn state(&self, host: HostId) -> String {
        let node = self.hosts[host].node.as_ref().expect("the host is running");
        let next = node.poll_timeout().map(|at| at.saturating_duration_since(self.start));
        format!("{:?} next {next:?}", node.status(self.clock(host)).peers)
    }

    /// Length of everything that a node holds, printed: grows with whatever piles up.
    pub(crate) fn size(&self, host: HostId) -> usize {
        format!("{:?}", self.hosts[host].node).len()
    }
}
