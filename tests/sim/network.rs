//! Networks behind networks: who is where, and which routers a datagram passes.
//!
//! A segment is a network whose members reach each other directly: the Internet, what lies inside of a carrier's NAT, a LAN. Each but the Internet has a router towards its parent,
//! for each family of addresses that it has. A datagram first *ascends* to the segment in which its destination can be seen, and is sent over a line there; when it arrives, it
//! *descends* to a host. So a NAT at the far end sees it one line later than a NAT at the near end, which is what hole punching is about.
//!
//! Nothing here knows of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use handfast::base::Rng;

use crate::line::Line;
use crate::nat::{Behaviour, Gateway, Way};

/// A host, by its place in the world.
pub(crate) type HostId = usize;

/// A segment, by its place in the network.
pub(crate) type SegmentId = usize;

/// A router, by its place in the network.
pub(crate) type RouterId = usize;

/// Where everything meets.
pub(crate) const INTERNET: SegmentId = 0;
/// Routers between any two points of the Internet.
const CORE_HOPS: u8 = 4;
/// Within a LAN.
const LAN_DELAY: Duration = Duration::from_micros(300);
/// Between two customers of a carrier.
const CARRIER_DELAY: Duration = Duration::from_millis(4);

/// The families of addresses that a host wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    pub(crate) const V4: Self = Self { v4: true, v6: false };
    pub(crate) const V6: Self = Self { v4: false, v6: true };
    pub(crate) const BOTH: Self = Self { v4: true, v6: true };
}

/// How datagrams leave a segment.
#[derive(Clone, Copy, Debug)]
struct Uplink {
    router: RouterId,
    parent: SegmentId,
}

#[derive(Debug)]
struct Segment {
    /// Between any two of its members, except on the Internet.
    line: Line,
    v4: Option<Uplink>,
    v6: Option<Uplink>,
    hosts: BTreeSet<HostId>,
    /// Addresses given out.
    given: u32,
}

#[derive(Debug)]
struct Router {
    way: Way,
    gateway: Gateway,
    inner: SegmentId,
}

/// How far a datagram came on its own side.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ascent {
    /// To a segment in which its destination can be seen.
    Seen {
        segment: SegmentId,
        /// As the destination will see it.
        source: SocketAddr,
        hops: Option<u8>,
        /// The line there; `None` on the Internet, where it depends on the two ends.
        line: Option<Line>,
    },
    /// Nobody has its destination.
    Stray { source: SocketAddr },
    /// A router has dropped it.
    Dropped,
}

#[derive(Debug)]
pub(crate) struct Network {
    segments: Vec<Segment>,
    routers: Vec<Router>,
    hosts_at: BTreeMap<(SegmentId, SocketAddr), HostId>,
    routers_at: BTreeMap<(SegmentId, IpAddr), RouterId>,
    outer_given: u16,
}

impl Network {
    /// The Internet, and nobody there.
    pub(crate) fn new() -> Self {
        let line = Line::clean(Duration::ZERO);
        let internet = Segment { line, v4: None, v6: None, hosts: BTreeSet::new(), given: 0 };
        Self {
            segments: vec![internet],
            routers: Vec::new(),
            hosts_at: BTreeMap::new(),
            routers_at: BTreeMap::new(),
            outer_given: 0,
        }
    }

    /// A LAN inside of `parent`, with what stands between it and outside for each family that it has. Carriers translate IPv4 alone: IPv6 goes straight to the Internet.
    pub(crate) fn add_segment(
        &mut self,
        parent: SegmentId,
        v4: Option<Way>,
        v6: Option<Way>,
        rng: &mut Rng,
    ) -> SegmentId {
        let inner = self.segments.len();
        let v4 = v4.map(|way| {
            let outer = IpAddr::V4(self.outer_v4(parent));
            self.add_router(way, outer, parent, inner, rng)
        });
        let v6 = v6.map(|way| {
            let outer = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, inner as u16, 0, 0, 0, 1));
            self.add_router(way, outer, INTERNET, inner, rng)
        });
        let line = Line::clean(LAN_DELAY);
        self.segments.push(Segment { line, v4, v6, hosts: BTreeSet::new(), given: 0 });
        inner
    }

    /// What lies inside of a carrier's NAT.
    pub(crate) fn add_carrier(&mut self, nat: Behaviour, rng: &mut Rng) -> SegmentId {
        let segment = self.add_segment(INTERNET, Some(Way::Nat(nat)), None, rng);
        self.segments[segment].line = Line::clean(CARRIER_DELAY);
        segment
    }

    fn add_router(&mut self, way: Way, outer: IpAddr, parent: SegmentId, inner: SegmentId, rng: &mut Rng) -> Uplink {
        let router = self.routers.len();
        let gateway = Gateway::new(way, outer, Rng::from_number(rng.number()));
        self.routers.push(Router { way, gateway, inner });
        if way.is_nat() {
            self.routers_at.insert((parent, outer), router);
        }
        Uplink { router, parent }
    }

    /// The next outer IPv4 address in a segment.
    fn outer_v4(&mut self, parent: SegmentId) -> Ipv4Addr {
        self.outer_given += 1;
        let [high, low] = self.outer_given.to_be_bytes();
        if parent == INTERNET { Ipv4Addr::new(198, 19, high, low) } else { Ipv4Addr::new(100, 64, high, low) }
    }

    /// Addresses for one more host, of the families that the segment has. Many LANs have the same private addresses, as they do in life.
    pub(crate) fn addresses_for(&mut self, host: HostId, segment: SegmentId, families: Families) -> Vec<IpAddr> {
        self.segments[segment].given += 1;
        let given = self.segments[segment].given;
        let [_, _, high, low] = (given + 1).to_be_bytes();
        let parent = self.uplink(segment, true).map_or(INTERNET, |uplink| uplink.parent);
        let v4 = match self.way(segment, true) {
            None if segment == INTERNET => {
                let [high, low] = (host as u16).to_be_bytes();
                Some(Ipv4Addr::new(198, 18, high, low))
            }
            None => None,
            Some((_, Way::Nat(_))) => Some(Ipv4Addr::new(10, (segment % 4) as u8, high, low)),
            Some((_, Way::Firewall(_) | Way::Open | Way::Blocked)) => Some(self.outer_v4(parent)),
        };
        let has_v6 = segment == INTERNET || self.segments[segment].v6.is_some();
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, segment as u16, 0, 0, 0, given as u16);
        let v4 = v4.filter(|_| families.v4).map(IpAddr::V4);
        v4.into_iter().chain((has_v6 && families.v6).then_some(IpAddr::V6(v6))).collect()
    }

    pub(crate) fn attach(&mut self, host: HostId, segment: SegmentId, address: SocketAddr) {
        self.hosts_at.insert((segment, address), host);
        self.segments[segment].hosts.insert(host);
        // Without translation its address can be seen from outside.
        let mut at = segment;
        while let Some(uplink) = self.uplink(at, address.is_ipv4())
            && !self.routers[uplink.router].way.is_nat()
        {
            self.routers_at.insert((uplink.parent, address.ip()), uplink.router);
            at = uplink.parent;
        }
    }

    pub(crate) fn detach(&mut self, host: HostId, segment: SegmentId, address: SocketAddr) {
        if self.hosts_at.get(&(segment, address)) == Some(&host) {
            self.hosts_at.remove(&(segment, address));
        }
        self.segments[segment].hosts.remove(&host);
        let mut at = segment;
        while let Some(uplink) = self.uplink(at, address.is_ipv4())
            && !self.routers[uplink.router].way.is_nat()
        {
            self.routers_at.remove(&(uplink.parent, address.ip()));
            at = uplink.parent;
        }
    }

    /// Who is at an address of a segment.
    pub(crate) fn host_at(&self, segment: SegmentId, address: SocketAddr) -> Option<HostId> {
        self.hosts_at.get(&(segment, address)).copied()
    }

    /// The way of a datagram out of `segment`. All NATs on it have a mapping afterwards, even if it is lost further on.
    pub(crate) fn ascend(
        &mut self,
        now: Instant,
        mut segment: SegmentId,
        mut source: SocketAddr,
        destination: SocketAddr,
        mut hops: Option<u8>,
    ) -> Ascent {
        let mut crossed = None;
        loop {
            let router = self.routers_at.get(&(segment, destination.ip())).copied();
            if router.is_some() && router == crossed.map(|uplink: Uplink| uplink.router) {
                return self.turn_back(segment, source, hops, crossed);
            }
            if router.is_some() || self.hosts_at.contains_key(&(segment, destination)) {
                break;
            }
            let Some(uplink) = self.uplink(segment, destination.is_ipv4()) else {
                return if segment == INTERNET { Ascent::Stray { source } } else { Ascent::Dropped };
            };
            if hops == Some(0) {
                return Ascent::Dropped;
            }
            let Some(outer) = self.routers[uplink.router].gateway.outbound(now, source, destination) else {
                return Ascent::Dropped;
            };
            hops = hops.map(|hops| hops - 1);
            (source, crossed, segment) = (outer, Some(uplink), uplink.parent);
        }
        if segment != INTERNET {
            return Ascent::Seen { segment, source, hops, line: Some(self.segments[segment].line) };
        }
        match hops.map(|hops| hops.checked_sub(CORE_HOPS)) {
            None => Ascent::Seen { segment, source, hops: None, line: None },
            Some(Some(left)) => Ascent::Seen { segment, source, hops: Some(left), line: None },
            Some(None) => Ascent::Dropped,
        }
    }

    /// A datagram for the outer address of the router that it has just passed (RFC 4787 section 6).
    fn turn_back(&self, segment: SegmentId, source: SocketAddr, hops: Option<u8>, crossed: Option<Uplink>) -> Ascent {
        let router = crossed.map(|uplink| &self.routers[uplink.router]);
        match router {
            Some(Router { way: Way::Nat(Behaviour { hairpin: true, .. }), inner, .. }) => {
                // The descent passes the same router again, which is one hop, not two.
                let hops = hops.map(|hops| hops.saturating_add(1));
                Ascent::Seen { segment, source, hops, line: Some(self.segments[*inner].line) }
            }
            _ => Ascent::Dropped,
        }
    }

    /// The way of a datagram from `segment` to a host: who gets it, and at which of its addresses.
    pub(crate) fn descend(
        &mut self,
        now: Instant,
        mut segment: SegmentId,
        from: SocketAddr,
        mut destination: SocketAddr,
        mut hops: Option<u8>,
    ) -> Option<(HostId, SocketAddr)> {
        loop {
            if let Some(host) = self.host_at(segment, destination) {
                return Some((host, destination));
            }
            let router = *self.routers_at.get(&(segment, destination.ip()))?;
            if let Some(hops) = &mut hops {
                *hops = hops.checked_sub(1)?;
            }
            let router = &mut self.routers[router];
            destination = router.gateway.inbound(now, destination, from)?;
            segment = router.inner;
        }
    }

    /// Whom a datagram in `segment` concerns, whether or not the routers would let it pass.
    pub(crate) fn owner(&self, now: Instant, mut segment: SegmentId, mut destination: SocketAddr) -> Option<HostId> {
        loop {
            if let Some(host) = self.host_at(segment, destination) {
                return Some(host);
            }
            let router = &self.routers[*self.routers_at.get(&(segment, destination.ip()))?];
            destination = router.gateway.inside_of(now, destination)?;
            segment = router.inner;
        }
    }

    /// The others of a host's LAN, and the line between them; nobody on the Internet.
    pub(crate) fn neighbours(&self, host: HostId, segment: SegmentId) -> (Vec<HostId>, Line) {
        let Segment { hosts, line, .. } = &self.segments[segment];
        let others = hosts.iter().copied().filter(|&other| other != host && segment != INTERNET);
        (others.collect(), *line)
    }

    /// What stands between a segment and its parent, for IPv4 or IPv6.
    pub(crate) fn way(&self, segment: SegmentId, is_v4: bool) -> Option<(RouterId, Way)> {
        let uplink = self.uplink(segment, is_v4)?;
        Some((uplink.router, self.routers[uplink.router].way))
    }

    /// All that stands between a segment and the Internet, the nearest first.
    pub(crate) fn ways(&self, mut segment: SegmentId, is_v4: bool) -> Vec<(RouterId, Way)> {
        let mut ways = Vec::new();
        while let Some(uplink) = self.uplink(segment, is_v4) {
            ways.push((uplink.router, self.routers[uplink.router].way));
            segment = uplink.parent;
        }
        ways
    }

    /// The routers of a segment are switched off and on again.
    pub(crate) fn reboot(&mut self, segment: SegmentId) {
        let Segment { v4, v6, .. } = self.segments[segment];
        for uplink in v4.into_iter().chain(v6) {
            self.routers[uplink.router].gateway.forget();
        }
    }

    fn uplink(&self, segment: SegmentId, is_v4: bool) -> Option<Uplink> {
        let segment = &self.segments[segment];
        if is_v4 { segment.v4 } else { segment.v6 }
    }
}
