//! What stands between a network and the Internet: NATs (RFC 4787: mapping, filtering, expiry), stateful firewalls, and routers that let no UDP through.
//!
//! Nothing here knows of hosts or delays. `now` comes in as the first argument, all randomness out of the seed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use handfast::base::Rng;

/// RFC 4787 section 4.3 asks for at least two minutes.
pub(crate) const LIFETIME: Duration = Duration::from_secs(120);
/// Linux forgets a connection that was not answered.
const TRIED: Duration = Duration::from_secs(30);
/// The ports that a NAT gives out.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

/// When an inside port keeps its outer port (RFC 4787 section 4.1); ordered from friendly to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mapping {
    /// Always.
    EndpointIndependent,
    /// Towards one address.
    AddressDependent,
    /// Towards one address and port.
    AddressAndPortDependent,
}

impl Mapping {
    pub(crate) const ALL: [Self; 3] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];
}

/// From whom an outer port takes packets (RFC 4787 section 5); ordered from friendly to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filtering {
    /// From everyone.
    EndpointIndependent,
    /// From addresses that were written to.
    AddressDependent,
    /// From addresses and ports that were written to.
    AddressAndPortDependent,
}

impl Filtering {
    pub(crate) const ALL: [Self; 3] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];
}

/// Which outer port a new mapping gets (RFC 4787 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// The inside port, or the next free one above it.
    Preserving,
    /// One after the other.
    Sequential,
    /// Any.
    Random,
}

impl Ports {
    pub(crate) const ALL: [Self; 3] = [Self::Preserving, Self::Sequential, Self::Random];
}

/// What a NAT is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) ports: Ports,
    /// Packets from inside for its outer address come back in (RFC 4787 section 6).
    pub(crate) hairpin: bool,
    /// A mapping that was not used for so long is forgotten.
    pub(crate) lifetime: Duration,
    /// Packets from outside count as use, too.
    pub(crate) inbound_refreshes: bool,
    /// An unexpected packet from outside takes the outer port for that sender, as if the router were its goal: later packets from inside to him get another port.
    pub(crate) clashes: bool,
}

impl Behaviour {
    pub(crate) const fn new(mapping: Mapping, filtering: Filtering, ports: Ports) -> Self {
        Self { mapping, filtering, ports, hairpin: false, lifetime: LIFETIME, inbound_refreshes: false, clashes: false }
    }

    /// The usual home router: Linux without other connections from the same port.
    pub(crate) const fn home() -> Self {
        Self::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, Ports::Preserving)
    }

    /// The worst: another random port for every destination.
    pub(crate) const fn symmetric() -> Self {
        Self::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, Ports::Random)
    }
}

/// Who was written to, and when last: what a filter looks at. Each entry lives on its own.
#[derive(Debug, Default)]
struct Written(BTreeMap<SocketAddr, Instant>);

impl Written {
    fn note(&mut self, now: Instant, to: SocketAddr) {
        self.0.insert(to, now);
    }

    /// Whether a packet from `from` passes, and if so, when what lets it through was used last.
    fn lets(
        &mut self,
        now: Instant,
        filtering: Filtering,
        lifetime: Duration,
        from: SocketAddr,
    ) -> Option<&mut Instant> {
        let is_alive = |used: &Instant| now < *used + lifetime;
        match filtering {
            Filtering::EndpointIndependent => self.0.values_mut().find(|used| is_alive(used)),
            Filtering::AddressDependent => {
                let (low, high) = (SocketAddr::new(from.ip(), 0), SocketAddr::new(from.ip(), u16::MAX));
                self.0.range_mut(low..=high).map(|(_, used)| used).find(|used| is_alive(used))
            }
            Filtering::AddressAndPortDependent => self.0.get_mut(&from).filter(|used| is_alive(used)),
        }
    }
}

/// The part of a destination that a mapping depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Towards {
    Anyone,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

/// One outer port that is in use.
#[derive(Debug)]
struct Mapped {
    inside: SocketAddr,
    towards: Towards,
    used: Instant,
    written: Written,
}

/// A NAT with one outer address.
#[derive(Debug)]
pub(crate) struct Nat {
    pub(crate) behaviour: Behaviour,
    pub(crate) outer: IpAddr,
    ports: BTreeMap<(SocketAddr, Towards), u16>,
    mapped: BTreeMap<u16, Mapped>,
    /// Outer ports that strangers have tried, by whom and when.
    tried: BTreeMap<(u16, SocketAddr), Instant>,
    /// The last port given out.
    last: u16,
    rng: Rng,
}

impl Nat {
    pub(crate) fn new(behaviour: Behaviour, outer: IpAddr, mut rng: Rng) -> Self {
        let last = PORTS.start() + rng.below(u32::from(PORTS.end() - PORTS.start())) as u16;
        Self { behaviour, outer, ports: BTreeMap::new(), mapped: BTreeMap::new(), tried: BTreeMap::new(), last, rng }
    }

    /// A packet from inside: what its source is from now on. `None` if all ports are taken.
    pub(crate) fn outbound(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr) -> Option<SocketAddr> {
        let towards = match self.behaviour.mapping {
            _ if self.is_taken(now, source, destination) => Towards::Endpoint(destination),
            Mapping::EndpointIndependent => Towards::Anyone,
            Mapping::AddressDependent => Towards::Address(destination.ip()),
            Mapping::AddressAndPortDependent => Towards::Endpoint(destination),
        };
        let known = self.ports.get(&(source, towards)).copied().filter(|&port| !self.is_free(now, port));
        let port = match known {
            Some(port) => port,
            None => self.open(now, source, towards)?,
        };
        let mapped = self.mapped.get_mut(&port)?;
        mapped.used = now;
        mapped.written.note(now, destination);
        Some(SocketAddr::new(self.outer, port))
    }

    /// A packet from outside for the outer address: whom it is for, if it may pass.
    pub(crate) fn inbound(&mut self, now: Instant, destination: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        if destination.ip() != self.outer || self.is_free(now, destination.port()) {
            return None;
        }
        let Behaviour { filtering, lifetime, inbound_refreshes, .. } = self.behaviour;
        let mapped = self.mapped.get_mut(&destination.port())?;
        let used = match filtering {
            // The mapping itself lives, which is all that is asked.
            Filtering::EndpointIndependent => None,
            Filtering::AddressDependent | Filtering::AddressAndPortDependent => {
                let lets = mapped.written.lets(now, filtering, lifetime, from);
                if lets.is_none() && self.behaviour.clashes {
                    self.tried.insert((destination.port(), from), now);
                }
                Some(lets?)
            }
        };
        if inbound_refreshes {
            mapped.used = now;
            if let Some(used) = used {
                *used = now;
            }
        }
        Some(mapped.inside)
    }

    /// Who owns an outer port, whether or not a packet would pass.
    pub(crate) fn inside_of(&self, now: Instant, destination: SocketAddr) -> Option<SocketAddr> {
        let port = destination.port();
        self.mapped.get(&port).filter(|_| !self.is_free(now, port)).map(|mapped| mapped.inside)
    }

    /// Whether `destination` has tried the port that `source` would have towards it.
    fn is_taken(&self, now: Instant, source: SocketAddr, destination: SocketAddr) -> bool {
        let tried = |port| self.tried.get(&(port, destination)).is_some_and(|&at| now < at + TRIED);
        self.ports.get(&(source, Towards::Anyone)).is_some_and(|&port| tried(port))
    }

    /// The router was switched off and on again.
    pub(crate) fn forget(&mut self) {
        self.tried.clear();
        self.ports.clear();
        self.mapped.clear();
    }

    fn is_free(&self, now: Instant, port: u16) -> bool {
        self.mapped.get(&port).is_none_or(|mapped| now >= mapped.used + self.behaviour.lifetime)
    }

    fn open(&mut self, now: Instant, inside: SocketAddr, towards: Towards) -> Option<u16> {
        let first = match self.behaviour.ports {
            Ports::Preserving => inside.port().max(*PORTS.start()),
            Ports::Sequential => next(self.last),
            Ports::Random => PORTS.start() + self.rng.below(u32::from(PORTS.end() - PORTS.start())) as u16,
        };
        let mut port = first;
        while !self.is_free(now, port) {
            port = match self.behaviour.ports {
                Ports::Preserving | Ports::Sequential => next(port),
                // Far from predictable, and yet every port is tried once: the step has no divisor in common with the number of ports.
                Ports::Random => {
                    let count = u32::from(PORTS.end() - PORTS.start()) + 1;
                    let place = (u32::from(port - PORTS.start()) + 24_593) % count;
                    PORTS.start() + place as u16
                }
            };
            if port == first {
                return None;
            }
        }
        self.last = port;
        let mapped = Mapped { inside, towards, used: now, written: Written::default() };
        if let Some(expired) = self.mapped.insert(port, mapped)
            && self.ports.get(&(expired.inside, expired.towards)) == Some(&port)
        {
            self.ports.remove(&(expired.inside, expired.towards));
        }
        self.ports.insert((inside, towards), port);
        Some(port)
    }
}

/// The port after `port`.
const fn next(port: u16) -> u16 {
    if port == *PORTS.end() { *PORTS.start() } else { port + 1 }
}

/// A stateful firewall: lets in what was asked for, and translates nothing.
#[derive(Debug)]
pub(crate) struct Firewall {
    pub(crate) filtering: Filtering,
    pub(crate) lifetime: Duration,
    flows: BTreeMap<SocketAddr, Written>,
}

impl Firewall {
    pub(crate) const fn new(filtering: Filtering) -> Self {
        Self { filtering, lifetime: LIFETIME, flows: BTreeMap::new() }
    }

    /// A packet from inside: its source stays what it was.
    pub(crate) fn outbound(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr) -> SocketAddr {
        self.flows.entry(source).or_default().note(now, destination);
        source
    }

    /// A packet from outside: passes if the destination wrote to where it comes from, within the lifetime; an answer is use of the flow, as in Linux.
    pub(crate) fn inbound(&mut self, now: Instant, destination: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        let used = self.flows.get_mut(&destination)?.lets(now, self.filtering, self.lifetime, from)?;
        *used = now;
        Some(destination)
    }

    pub(crate) fn forget(&mut self) {
        self.flows.clear();
    }
}

/// What stands between a network and the one outside, for one family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Nat(Behaviour),
    /// A stateful firewall, without translation.
    Firewall(Filtering),
    /// A router that forwards everything.
    Open,
    /// No UDP passes, in or out.
    Blocked,
}

impl Way {
    pub(crate) const fn is_nat(self) -> bool {
        matches!(self, Self::Nat(_))
    }
}

/// The state of a [`Way`].
#[derive(Debug)]
pub(crate) enum Gateway {
    Nat(Nat),
    Firewall(Firewall),
    Open,
    Blocked,
}

impl Gateway {
    /// `outer` is the address of a NAT outside.
    pub(crate) fn new(way: Way, outer: IpAddr, rng: Rng) -> Self {
        match way {
            Way::Nat(behaviour) => Self::Nat(Nat::new(behaviour, outer, rng)),
            Way::Firewall(filtering) => Self::Firewall(Firewall::new(filtering)),
            Way::Open => Self::Open,
            Way::Blocked => Self::Blocked,
        }
    }

    pub(crate) fn outbound(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Nat(nat) => nat.outbound(now, source, destination),
            Self::Firewall(firewall) => Some(firewall.outbound(now, source, destination)),
            Self::Open => Some(source),
            Self::Blocked => None,
        }
    }

    pub(crate) fn inbound(&mut self, now: Instant, destination: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Nat(nat) => nat.inbound(now, destination, from),
            Self::Firewall(firewall) => firewall.inbound(now, destination, from),
            Self::Open => Some(destination),
            Self::Blocked => None,
        }
    }

    /// Whom a packet for `destination` concerns, whether or not it would pass.
    pub(crate) fn inside_of(&self, now: Instant, destination: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Nat(nat) => nat.inside_of(now, destination),
            Self::Firewall(_) | Self::Open | Self::Blocked => Some(destination),
        }
    }

    /// Loses all state, as a router does that was switched off and on again.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Nat(nat) => nat.forget(),
            Self::Firewall(firewall) => firewall.forget(),
            Self::Open | Self::Blocked => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const INSIDE: &str = "10.0.0.2:18502";
    const OTHER_INSIDE: &str = "10.0.0.3:18502";
    const SERVER: &str = "198.18.0.1:18502";
    const SERVER_OTHER_PORT: &str = "198.18.0.1:18503";
    const OTHER_SERVER: &str = "198.18.0.2:18502";

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test needs one arbitrary moment to start from")]
        Instant::now()
    }

    fn nat_of(behaviour: Behaviour) -> Nat {
        Nat::new(behaviour, "198.19.0.1".parse().unwrap(), Rng::from_number(7))
    }

    fn nat(mapping: Mapping, filtering: Filtering, ports: Ports) -> Nat {
        nat_of(Behaviour::new(mapping, filtering, ports))
    }

    /// Outer ports towards the same server, its other port, and another server.
    fn outer_ports(mapping: Mapping) -> [u16; 3] {
        let now = start();
        let mut nat = nat(mapping, Filtering::EndpointIndependent, Ports::Random);
        [SERVER, SERVER_OTHER_PORT, OTHER_SERVER].map(|to| nat.outbound(now, at(INSIDE), at(to)).unwrap().port())
    }

    #[test]
    fn a_mapping_depends_on_what_its_kind_says() {
        let [same, port, address] = outer_ports(Mapping::EndpointIndependent);
        assert!(same == port && same == address);
        let [same, port, address] = outer_ports(Mapping::AddressDependent);
        assert!(same == port && same != address);
        let [same, port, address] = outer_ports(Mapping::AddressAndPortDependent);
        assert!(same != port && same != address && port != address);
    }

    #[test]
    fn two_inside_ports_never_share_an_outer_one() {
        for ports in Ports::ALL {
            let now = start();
            let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent, ports);
            let one = nat.outbound(now, at(INSIDE), at(SERVER)).unwrap();
            let other = nat.outbound(now, at(OTHER_INSIDE), at(SERVER)).unwrap();
            assert_ne!(one, other);
            assert_eq!(nat.inbound(now, one, at(SERVER)), Some(at(INSIDE)));
            assert_eq!(nat.inbound(now, other, at(SERVER)), Some(at(OTHER_INSIDE)));
        }
    }

    /// Who gets in after a packet to the server: the server, its other port, another server.
    fn lets_in(filtering: Filtering) -> [bool; 3] {
        let now = start();
        let mut nat = nat(Mapping::EndpointIndependent, filtering, Ports::Preserving);
        let outer = nat.outbound(now, at(INSIDE), at(SERVER)).unwrap();
        [SERVER, SERVER_OTHER_PORT, OTHER_SERVER].map(|from| nat.inbound(now, outer, at(from)) == Some(at(INSIDE)))
    }

    #[test]
    fn a_filter_lets_in_whom_its_kind_says() {
        assert_eq!(lets_in(Filtering::EndpointIndependent), [true, true, true]);
        assert_eq!(lets_in(Filtering::AddressDependent), [true, true, false]);
        assert_eq!(lets_in(Filtering::AddressAndPortDependent), [true, false, false]);
    }

    #[test]
    fn a_port_without_a_mapping_and_another_address_let_nobody_in() {
        let now = start();
        let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent, Ports::Preserving);
        assert_eq!(nat.inbound(now, at("198.19.0.1:18502"), at(SERVER)), None);
        nat.outbound(now, at(INSIDE), at(SERVER)).unwrap();
        assert_eq!(nat.inbound(now, at("198.19.0.1:18503"), at(SERVER)), None);
        assert_eq!(nat.inbound(now, at("198.19.0.2:18502"), at(SERVER)), None);
        assert_eq!(nat.inbound(now, at("198.19.0.1:18502"), at(SERVER)), Some(at(INSIDE)));
    }

    #[test]
    fn each_filter_of_a_symmetric_nat_stands_at_its_own_port() {
        let now = start();
        let mut nat = nat(Mapping::AddressAndPortDependent, Filtering::AddressDependent, Ports::Sequential);
        let one = nat.outbound(now, at(INSIDE), at(SERVER)).unwrap();
        let other = nat.outbound(now, at(INSIDE), at(OTHER_SERVER)).unwrap();
        assert!(nat.inbound(now, one, at(SERVER_OTHER_PORT)).is_some());
        assert!(nat.inbound(now, one, at(OTHER_SERVER)).is_none());
        assert!(nat.inbound(now, other, at(OTHER_SERVER)).is_some());
    }

    #[test]
    fn ports_are_preserved_counted_or_random() {
        let now = start();
        let destinations: Vec<SocketAddr> = (1..=4).map(|last| SocketAddr::from(([198, 18, 0, last], 1))).collect();
        let ports = |ports| {
            let mut nat = nat(Mapping::AddressDependent, Filtering::EndpointIndependent, ports);
            destinations.iter().map(|&to| nat.outbound(now, at(INSIDE), to).unwrap().port()).collect::<Vec<_>>()
        };
        assert_eq!(ports(Ports::Preserving), [18502, 18503, 18504, 18505], "the next one where it is taken");
        let counted = ports(Ports::Sequential);
        assert!(counted.windows(2).all(|pair| pair[1] == next(pair[0])));
        let random = ports(Ports::Random);
        assert!(random.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 8), "{random:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_ports() {
        let ports = |seed| {
            let mut nat = Nat::new(Behaviour::symmetric(), "198.19.0.1".parse().unwrap(), Rng::from_number(seed));
            let to = |last| SocketAddr::from(([198, 18, 0, last], 1));
            (1..9).map(|last| nat.outbound(start(), at(INSIDE), to(last)).unwrap().port()).collect::<Vec<_>>()
        };
        assert_eq!(ports(1), ports(1));
        assert_ne!(ports(1), ports(2));
    }

    #[test]
    fn a_mapping_lives_as_long_as_it_is_used_from_inside() {
        let begin = start();
        for ports in Ports::ALL {
            let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent, ports);
            let outer = nat.outbound(begin, at(INSIDE), at(SERVER)).unwrap();
            let kept = begin + LIFETIME - Duration::from_secs(1);
            assert_eq!(nat.outbound(kept, at(INSIDE), at(OTHER_SERVER)), Some(outer));
            let late = kept + LIFETIME - Duration::from_secs(1);
            assert!(nat.inbound(late, outer, at(SERVER)).is_some());
            // What came in has not counted.
            assert!(nat.inbound(kept + LIFETIME, outer, at(SERVER)).is_none());
            let again = nat.outbound(kept + LIFETIME, at(INSIDE), at(SERVER)).unwrap();
            assert_eq!(again == outer, ports == Ports::Preserving, "a forgotten mapping is a new one");
        }
    }

    #[test]
    fn packets_from_outside_keep_a_mapping_only_where_they_count() {
        for inbound_refreshes in [false, true] {
            let begin = start();
            let mut nat = nat_of(Behaviour { inbound_refreshes, ..Behaviour::home() });
            let outer = nat.outbound(begin, at(INSIDE), at(SERVER)).unwrap();
            assert!(nat.inbound(begin + LIFETIME / 2, outer, at(SERVER)).is_some());
            assert_eq!(nat.inbound(begin + LIFETIME, outer, at(SERVER)).is_some(), inbound_refreshes);
        }
    }

    #[test]
    fn a_permission_ends_on_its_own_while_the_mapping_lives_on() {
        let begin = start();
        let mut nat = nat_of(Behaviour::home());
        let outer = nat.outbound(begin, at(INSIDE), at(SERVER)).unwrap();
        let middle = begin + LIFETIME / 2;
        assert_eq!(nat.outbound(middle, at(INSIDE), at(OTHER_SERVER)), Some(outer));
        assert!(nat.inbound(begin + LIFETIME, outer, at(SERVER)).is_none());
        assert!(nat.inbound(begin + LIFETIME, outer, at(OTHER_SERVER)).is_some());
    }

    #[test]
    fn an_expired_port_goes_to_the_next_who_wants_it() {
        let begin = start();
        let mut nat = nat_of(Behaviour::home());
        let outer = nat.outbound(begin, at(INSIDE), at(SERVER)).unwrap();
        let later = begin + LIFETIME;
        assert_eq!(nat.outbound(later, at(OTHER_INSIDE), at(SERVER)), Some(outer));
        assert_eq!(nat.inbound(later, outer, at(SERVER)), Some(at(OTHER_INSIDE)));
        assert_ne!(nat.outbound(later, at(INSIDE), at(SERVER)), Some(outer));
    }

    #[test]
    fn when_all_ports_are_taken_nothing_gets_out_until_some_expire() {
        for ports in Ports::ALL {
            let begin = start();
            let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent, ports);
            for number in 0..=PORTS.end() - PORTS.start() {
                let [high, low] = number.to_be_bytes();
                let inside = SocketAddr::from(([10, 1, high, low], 18502));
                // One port after the other is taken: let every search be short.
                nat.behaviour.ports = Ports::Sequential;
                assert!(nat.outbound(begin, inside, at(SERVER)).is_some());
            }
            nat.behaviour.ports = ports;
            assert_eq!(nat.outbound(begin, at(INSIDE), at(SERVER)), None);
            assert!(nat.outbound(begin + LIFETIME, at(INSIDE), at(SERVER)).is_some());
        }
    }

    #[test]
    fn a_router_that_was_switched_off_has_forgotten_everything() {
        let now = start();
        let mut nat = nat_of(Behaviour::home());
        let outer = nat.outbound(now, at(INSIDE), at(SERVER)).unwrap();
        nat.forget();
        assert_eq!(nat.inbound(now, outer, at(SERVER)), None);
    }

    #[test]
    fn a_firewall_lets_in_what_was_asked_for() {
        let begin = start();
        let cases = [
            (Filtering::EndpointIndependent, [true, true, true]),
            (Filtering::AddressDependent, [true, true, false]),
            (Filtering::AddressAndPortDependent, [true, false, false]),
        ];
        for (filtering, expected) in cases {
            let mut firewall = Firewall::new(filtering);
            let inside = at("[2001:db8::2]:18502");
            let peers = ["[2001:db8:1::1]:1", "[2001:db8:1::1]:2", "[2001:db8:2::1]:1"];
            assert_eq!(peers.map(|from| firewall.inbound(begin, inside, at(from))), [None; 3]);
            assert_eq!(firewall.outbound(begin, inside, at(peers[0])), inside);
            assert_eq!(peers.map(|from| firewall.inbound(begin, inside, at(from)).is_some()), expected);
            assert_eq!(firewall.inbound(begin + LIFETIME, inside, at(peers[0])), None);
        }
    }

    #[test]
    fn a_router_that_blocks_udp_passes_nothing() {
        let now = start();
        assert_eq!(Gateway::Blocked.outbound(now, at(INSIDE), at(SERVER)), None);
        assert_eq!(Gateway::Blocked.inbound(now, at(INSIDE), at(SERVER)), None);
        assert_eq!(Gateway::Open.inbound(now, at(INSIDE), at(SERVER)), Some(at(INSIDE)));
    }
}
