//! Time and datagrams: timers, lines, multicast.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handfast::base::{Ecn, Link, TrafficClass, TxSink};
use handfast::proto::{Command, Dropped, Event, Node};
use sha2::Digest as _;

use super::ledger::Inbox;
use super::{Datagram, Host, HostId, SegmentId, World, mistaken, ms};
use crate::line::{Line, Queue};
use crate::network::{Ascent, INTERNET};

/// How long a name look-up takes.
const LOOKUP: Duration = ms(50);
/// Happenings at one moment, after which something turns in circles.
const MAX_AT_ONCE: u32 = 100_000;
/// No more of what went nowhere is kept.
const MAX_STRAYS: usize = 100_000;

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
        let timer = self.timers.first().map(|&(at, _)| at);
        let datagram = self.flying.first_key_value().map(|(&(at, _), _)| at);
        let lookup = self.lookups.first_key_value().map(|(&(at, _), _)| at);
        let announcement = self.announcements.first_key_value().map(|(&(at, _), _)| at);
        let next = [timer, datagram, lookup, announcement].into_iter().flatten().min();
        let Some(next) = next.filter(|&next| next <= end) else {
            self.now = end;
            return false;
        };
        self.at_once = if next > self.now { 0 } else { self.at_once + 1 };
        assert!(self.at_once < MAX_AT_ONCE, "time stands still");
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let flight = entry.remove();
            // A drop is counted in the status of the node.
            let _ = self.arrive(flight);
        }
        while let Some(entry) = self.lookups.first_entry().filter(|entry| entry.key().0 <= now) {
            let (host, other) = entry.remove();
            let endpoints = vec![self.hosts[other].address];
            self.command(host, Command::SetEndpoints { peer: self.peer_index(host, other), endpoints });
        }
        while let Some(entry) = self.announcements.first_entry().filter(|entry| entry.key().0 <= now) {
            let Announcement { to, from, datagram } = entry.remove();
            if self.is_awake(to) {
                if let Some(arrivals) = &mut self.arrivals {
                    let (class, bytes) = (TrafficClass::default(), datagram.clone());
                    arrivals.push((to, Datagram { from, to: group(from), class, bytes }));
                }
                self.command(to, Command::Announced { from, datagram });
            }
        }
        let due: BTreeSet<HostId> = self.timers.range(..=(now, HostId::MAX)).map(|&(_, host)| host).collect();
        for host in due {
            let clock = self.clock(host);
            if self.is_awake(host)
                && let Some(node) = &mut self.hosts[host].node
            {
                node.handle_timeout(clock);
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

    /// Brings the entry of a host in the list of timers up to date.
    pub(super) fn set_timer(&mut self, host: HostId) {
        let Host { node, asleep_until, ahead, timer, .. } = &mut self.hosts[host];
        let at = node.as_ref().and_then(Node::poll_timeout);
        // For a clock that has jumped, the moment may lie before the world began.
        let at = at.map(|at| at.checked_sub(*ahead).unwrap_or(self.start).max(self.start));
        let at = at.map(|at| asleep_until.map_or(at, |until| until.max(at)));
        if at == *timer {
            return;
        }
        if let Some(old) = std::mem::replace(timer, at) {
            self.timers.remove(&(old, host));
        }
        self.timers.extend(at.map(|at| (at, host)));
    }

    /// Hands a datagram to whoever is at its destination on the Internet, now: what an attacker can do who may write any source address.
    pub(crate) fn inject(&mut self, datagram: Datagram) -> Result<(), Dropped> {
        self.arrive(Flight { segment: INTERNET, hops: None, datagram })
    }

    fn arrive(&mut self, flight: Flight) -> Result<(), Dropped> {
        let Flight { segment, hops, datagram } = flight;
        let Datagram { mut from, to, class, mut bytes } = datagram;
        let reached = self.network.descend(self.now, segment, from, to, hops);
        let Some((host, to)) = reached.filter(|&(host, _)| self.is_awake(host)) else {
            return Ok(());
        };
        if self.liar == Some(host) && !self.is_public(from) {
            from = mistaken(from);
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.push((host, Datagram { from, to, class, bytes: bytes.clone() }));
        }
        let now = self.clock(host);
        let socket = self.hosts[host].socket_at(to.port());
        let Some(node) = &mut self.hosts[host].node else {
            return Ok(());
        };
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let link = Link::new(Some(to.ip()), from).bearing(class).through(socket);
        let result = node.handle_datagram(now, link, &mut bytes, &mut tx, &mut tun);
        self.post(host, tx);
        self.check_inbox(host, tun);
        self.drain(host);
        result
    }

    /// The second rule of the contract (see `handfast::proto`).
    pub(super) fn drain(&mut self, host: HostId) {
        self.drain_transmits(host);
        self.drain_events(host);
        self.set_timer(host);
    }

    fn drain_transmits(&mut self, host: HostId) {
        let now = self.clock(host);
        for _ in 0..MAX_AT_ONCE {
            let Some(node) = &mut self.hosts[host].node else {
                return;
            };
            let mut tx = Outbox::default();
            let more = node.poll_transmit(now, &mut tx);
            self.post(host, tx);
            if !more {
                return;
            }
        }
        panic!("poll_transmit never ends");
    }

    fn drain_events(&mut self, host: HostId) {
        while let Some(event) = self.hosts[host].node.as_mut().and_then(Node::poll_event) {
            let elapsed = self.elapsed();
            if let Event::Announce { datagram } = event {
                self.announce(host, &datagram);
            }
            self.set_outlets(host, event);
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

    /// What the shell does when the node wants sockets, or wants them no more.
    fn set_outlets(&mut self, host: HostId, event: Event) {
        let Host { outlets, has_descriptors, .. } = &mut self.hosts[host];
        match event {
            Event::OpenSockets { .. } if !*has_descriptors => return,
            Event::OpenSockets { first, count } => {
                outlets.extend((first..first + count).map(|number| (number, 32_768 + number % 28_000)));
            }
            Event::CloseSockets { first, count } => {
                outlets.retain(|number, _| !(first..first + count).contains(number))
            }
            Event::Resolve { .. }
            | Event::Connected { .. }
            | Event::Disconnected { .. }
            | Event::Moved { .. }
            | Event::Pong { .. }
            | Event::Announce { .. }
            | Event::Unreachable { .. } => return,
        }
        self.attach(host);
    }

    /// Multicast: to all others of the LAN, in each family that both have.
    pub(crate) fn announce(&mut self, host: HostId, datagram: &[u8]) {
        let (others, line) = self.network.neighbours(host, self.hosts[host].segment);
        let sources: Vec<_> = self.hosts[host].addresses().collect();
        for to in others.into_iter().filter(|&to| self.multicast && self.is_connected(host, to)).collect::<Vec<_>>() {
            for &from in &sources {
                if self.hosts[to].addresses().any(|address| address.is_ipv4() == from.is_ipv4()) {
                    self.counter += 1;
                    let announcement = Announcement { to, from, datagram: datagram.to_vec() };
                    self.announcements.insert((self.now + line.delay, self.counter), announcement);
                }
            }
        }
    }

    /// Puts what a host sends on its lines.
    pub(super) fn post(&mut self, host: HostId, tx: Outbox) {
        for (link, bytes) in tx.0 {
            self.send_datagram(host, link, bytes);
        }
    }

    /// Sends a datagram from one of the addresses of a host, as its node would.
    pub(crate) fn send_datagram(&mut self, host: HostId, link: Link, bytes: Vec<u8>) {
        let source = self.hosts[host].source_for(link);
        if source.is_none() && link.socket != 0 {
            // Closed, or never opened.
            return;
        }
        let (from, mut to) = (source.unwrap_or(self.hosts[host].address), link.remote);
        if self.liar == Some(host) && !self.is_public(to) {
            to = mistaken(to);
        }
        self.sent[host].0 += 1;
        self.sent[host].1 += bytes.len() as u64;
        self.digest.update((self.now - self.start).as_nanos().to_be_bytes());
        self.digest.update(format!("{from} {to} {} ", bytes.len()));
        self.digest.update(&bytes);
        let datagram = Datagram { from, to, class: link.class, bytes };
        if self.trace {
            let (elapsed, head) = (self.elapsed(), &datagram.bytes[1..14.min(datagram.bytes.len())]);
            println!("{elapsed:?} {from} to {to}: {head:02x?}, {} bytes", datagram.bytes.len());
        }
        if let Some(tap) = &mut self.tap {
            tap.push(datagram.clone());
        }
        // Without an address of that family it goes nowhere, and neither does what a host sends to itself.
        if source.is_none() && !self.families_mix || self.hosts[host].addresses().any(|own| own == to) {
            return self.lose(datagram);
        }
        let hops = link.hop_limit.filter(|_| self.counts_hops);
        match self.network.ascend(self.now, self.hosts[host].segment, from, to, hops) {
            Ascent::Seen { segment, source, hops, line } => {
                let flight = Flight { segment, hops, datagram: Datagram { from: source, ..datagram } };
                self.fly(host, line, flight);
            }
            Ascent::Stray { source } => self.lose(Datagram { from: source, ..datagram }),
            Ascent::Dropped => {}
        }
    }

    /// Whether a host itself has this address, and no router.
    fn is_public(&self, address: SocketAddr) -> bool {
        self.network.host_at(INTERNET, address).is_some()
    }

    fn lose(&mut self, datagram: Datagram) {
        if self.strays.len() < MAX_STRAYS {
            self.strays.push(datagram);
        }
    }

    fn is_connected(&self, from: HostId, to: HostId) -> bool {
        self.line(from, to).up && self.hosts[from].island == self.hosts[to].island
    }

    /// `local` is the line within a network behind routers.
    fn fly(&mut self, from: HostId, local: Option<Line>, mut flight: Flight) {
        let datagram = &mut flight.datagram;
        let len = datagram.bytes.len() + if datagram.to.is_ipv4() { 28 } else { 48 };
        let owner = self.network.owner(self.now, flight.segment, datagram.to);
        let line = local.unwrap_or_else(|| owner.map_or(self.line, |to| self.line(from, to)));
        let is_connected = line.up && owner.is_none_or(|to| self.is_connected(from, to));
        if !is_connected || len > line.mtu || self.chance(line.loss) {
            return;
        }
        let Some(leaves) = self.queue(from, owner, line, len) else {
            return;
        };
        if datagram.class.ecn() != Ecn::NotEct && self.chance(line.marks) {
            datagram.class = TrafficClass::new(datagram.class.dscp(), Ecn::Ce);
        }
        if self.chance(line.duplicates) {
            self.fly_once(leaves, line, flight.clone());
        }
        self.fly_once(leaves, line, flight);
    }

    /// When a packet is on its way, after what has waited before it; `None` if a queue is full.
    fn queue(&mut self, from: HostId, owner: Option<HostId>, line: Line, len: usize) -> Option<Instant> {
        let mut leaves = self.now;
        if let Some((rate, queue)) = &mut self.hosts[from].uplink {
            leaves = queue.admit(leaves, *rate, len)?;
        }
        if let (Some(rate), Some(to)) = (line.rate, owner) {
            let queue = self.queues.entry((from, to)).or_insert_with(|| Queue::new(leaves));
            leaves = queue.admit(leaves, rate, len)?;
        }
        Some(leaves)
    }

    fn fly_once(&mut self, leaves: Instant, line: Line, flight: Flight) {
        let jitter = line.jitter * self.rng.below(1000) / 1000;
        self.counter += 1;
        self.flying.insert((leaves + line.delay + jitter, self.counter), flight);
    }

    /// True in `of_thousand` of a thousand cases.
    pub(crate) fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.rng.below(1000) < of_thousand
    }
}

/// A datagram on a line.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// In which network its destination was seen.
    segment: SegmentId,
    hops: Option<u8>,
    datagram: Datagram,
}

/// A datagram that went by multicast, on its way to one of the LAN.
#[derive(Debug)]
pub(super) struct Announcement {
    to: HostId,
    from: SocketAddr,
    datagram: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Outbox(pub(super) Vec<(Link, Vec<u8>)>);

impl TxSink for Outbox {
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8])) {
        // What stood there before must not matter.
        let mut bytes = vec![0xee; len];
        fill(&mut bytes);
        self.0.push((link, bytes));
    }
}

/// Where members announce themselves, in the family of `from` (PROTOCOL §12.7).
fn group(from: SocketAddr) -> SocketAddr {
    if from.is_ipv4() {
        SocketAddr::from(([239, 255, 72, 70], 18503))
    } else {
        SocketAddr::from(([0xff02, 0, 0, 0, 0, 0, 0x4866, 0x4146], 18503))
    }
}
