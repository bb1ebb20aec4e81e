//! Random worlds: a few hosts that everyone knows, and others behind all kinds of routers. One seed makes one topology.

use std::fmt;
use std::time::Duration;

use handfast::base::Rng;
use handfast::proto::RelayLimits;

use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::INTERNET;
use crate::theory::{Party, Reach, Side, reach};
use crate::world::{Families, HostId, Line, SegmentId, World, ms};

/// What a relay of a topology forwards.
const RELAY: RelayLimits = RelayLimits { bytes_per_second: 10_000_000, members: 64 };

/// The seeds of as many topologies as the environment variable `SIM_TOPOLOGIES` says, else 40, from `SIM_FIRST` on; or the one in `SIM_SEED`.
pub(crate) fn topologies() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    if number("SIM_SEED").is_some() {
        return crate::world::seeds(1);
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    first..first + number("SIM_TOPOLOGIES").unwrap_or(40)
}

/// A world, not yet started, and what is true of it.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) world: World,
    /// By host.
    pub(crate) parties: Vec<Party>,
}

impl Topology {
    /// Of 3 to 50 hosts, each of which has all others in its configuration, but the endpoints only of those that are public.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, |delay| Line { jitter: delay / 4, ..Line::clean(delay) })
    }

    /// The same hosts and routers on lines that lose so many of a thousand datagrams, and repeat and reorder others.
    pub(crate) fn lossy(seed: u64, loss: u32) -> Self {
        Self::with(seed, |delay| Line::rough(delay, loss))
    }

    fn with(seed: u64, line: impl FnOnce(Duration) -> Line) -> Self {
        // Its own source of randomness: the world draws while it runs.
        let mut rng = Rng::from_number(seed ^ 0x746f_706f_6c6f_6779);
        let delay = ms(5 + u64::from(rng.below(55)));
        let world = World::empty(seed, line(delay));
        let mut builder = Builder { world, rng, carriers: Vec::new() };
        let count = 3 + builder.rng.below(48) as usize;
        let public: Vec<HostId> = (0..1 + builder.rng.below(4)).map(|_| builder.add_public()).collect();
        while builder.world.hosts.len() < count.max(public.len() + 2) {
            builder.add_site();
        }
        let mut world = builder.world;
        world.publish(&public);
        let parties = (0..world.hosts.len()).map(|host| party(&world, host, public.contains(&host))).collect();
        Self { world, parties }
    }

    /// What the theory says of two hosts.
    pub(crate) fn reach(&self, one: HostId, other: HostId) -> Reach {
        let others = (0..self.parties.len()).filter(|&host| host != one && host != other);
        let others: Vec<Party> = others.map(|host| self.parties[host].clone()).collect();
        reach(&self.parties[one], &self.parties[other], &others)
    }

    /// At most `count` pairs of hosts.
    pub(crate) fn sample(&mut self, count: usize) -> Vec<(HostId, HostId)> {
        let hosts = self.world.hosts.len();
        let mut pairs: Vec<_> = (0..hosts).flat_map(|one| (0..one).map(move |other| (other, one))).collect();
        // The first of a shuffled deck.
        for place in 0..count.min(pairs.len()) {
            let left = (pairs.len() - place) as u32;
            pairs.swap(place, place + self.world.rng.below(left) as usize);
        }
        pairs.truncate(count);
        pairs
    }

    /// What stands before a host, for a message.
    pub(crate) fn describe(&self, host: HostId) -> impl fmt::Display {
        let Party { v4, v6, is_known, relays } = &self.parties[host];
        let side = |side: &Option<Side>| match side {
            Some(Side { segment, ways }) => format!("in segment {segment} behind {ways:?}"),
            None => "none".to_owned(),
        };
        let role = match (is_known, relays) {
            (true, true) => "an introducer and relay",
            (true, false) => "an introducer",
            (false, _) => "a member",
        };
        format!(
            "host {host} at {:?}, {role}: IPv4 {}; IPv6 {}",
            self.world.hosts[host].addresses().collect::<Vec<_>>(),
            side(v4),
            side(v6)
        )
    }
}

/// What the theory must know of a host.
fn party(world: &World, host: HostId, is_known: bool) -> Party {
    let own = &world.hosts[host];
    let side = |is_v4| {
        let ways = || Side { segment: own.segment, ways: world.network().ways(own.segment, is_v4) };
        own.addresses().any(|address| address.is_ipv4() == is_v4).then(ways)
    };
    Party { v4: side(true), v6: side(false), is_known, relays: own.relay.is_some() }
}

struct Builder {
    world: World,
    rng: Rng,
    carriers: Vec<SegmentId>,
}

impl Builder {
    /// True in `of_hundred` of a hundred cases.
    fn chance(&mut self, of_hundred: u32) -> bool {
        self.rng.below(100) < of_hundred
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.below(choices.len() as u32) as usize]
    }

    fn add_public(&mut self) -> HostId {
        let families = self.one_of(&[Families::V4, Families::BOTH]);
        let host = self.world.add_host(INTERNET, families);
        self.world.hosts[host].relay = self.chance(60).then_some(RELAY);
        host
    }

    /// A place with one to three hosts.
    fn add_site(&mut self) {
        match self.rng.below(100) {
            // Public, but nobody has its address.
            0..5 => {
                self.world.add_host(INTERNET, Families::V4);
            }
            5..10 => {
                let firewall = Way::Firewall(self.filtering());
                self.add_lan(INTERNET, firewall, None, 2);
            }
            10..15 => self.add_lan(INTERNET, Way::Blocked, None, 2),
            15..30 => {
                let carrier = self.carrier();
                let home = self.nat();
                let v6 = self.chance(30).then(|| self.v6());
                self.add_lan(carrier, home, v6, 2);
            }
            30..50 => {
                let (home, v6) = (self.nat(), self.v6());
                self.add_lan(INTERNET, home, Some(v6), 2);
            }
            _ => {
                let home = self.nat();
                self.add_lan(INTERNET, home, None, 3);
            }
        }
    }

    fn add_lan(&mut self, parent: SegmentId, v4: Way, v6: Option<Way>, most: u32) {
        let lan = self.world.add_lan(parent, Some(v4), v6);
        for _ in 0..1 + self.rng.below(most) {
            // Not every device speaks IPv6 where it could.
            let families = self.one_of(&[Families::V4, Families::BOTH, Families::BOTH, Families::BOTH]);
            self.world.add_host(lan, families);
        }
    }

    /// A carrier, perhaps one that has customers.
    fn carrier(&mut self) -> SegmentId {
        if self.carriers.is_empty() || self.chance(40) {
            let behaviour = self.behaviour();
            let carrier = self.world.add_carrier(behaviour);
            self.carriers.push(carrier);
        }
        let carriers = self.carriers.clone();
        self.one_of(&carriers)
    }

    fn nat(&mut self) -> Way {
        Way::Nat(self.behaviour())
    }

    fn behaviour(&mut self) -> Behaviour {
        let mapping = if self.chance(50) { Mapping::EndpointIndependent } else { self.one_of(&Mapping::ALL) };
        let ports = self.one_of(&Ports::ALL);
        Behaviour {
            hairpin: self.chance(50),
            lifetime: Duration::from_secs(30 + u64::from(self.rng.below(150))),
            inbound_refreshes: self.chance(50),
            ..Behaviour::new(mapping, self.filtering(), ports)
        }
    }

    fn filtering(&mut self) -> Filtering {
        self.one_of(&Filtering::ALL)
    }

    fn v6(&mut self) -> Way {
        let firewall = Way::Firewall(self.filtering());
        self.one_of(&[Way::Open, Way::Blocked, firewall, firewall, firewall])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(seed: u64) -> String {
        let topology = Topology::new(seed);
        (0..topology.parties.len()).map(|host| format!("{}\n", topology.describe(host))).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_topology() {
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn topologies_are_of_every_size_and_ask_every_question() {
        let mut reaches = BTreeSet::new();
        let mut sizes = BTreeSet::new();
        for seed in 0..40 {
            let mut topology = Topology::new(seed);
            let hosts = topology.parties.len();
            assert!((3..=52).contains(&hosts), "{hosts}");
            sizes.insert(hosts / 10);
            for (one, other) in topology.sample(60) {
                assert!(one < other && other < hosts);
                assert_eq!(topology.reach(one, other), topology.reach(other, one));
                reaches.insert(topology.reach(one, other));
            }
        }
        assert!(sizes.len() >= 5, "{sizes:?}");
        let all = [Reach::Direct, Reach::DirectOrRelayed, Reach::Relayed, Reach::DirectOrNone, Reach::None];
        assert_eq!(reaches, all.into());
    }

    #[test]
    fn every_configuration_names_all_others_and_endpoints_only_of_known_ones() {
        for seed in 0..10 {
            let Topology { world, parties } = Topology::new(seed);
            for (host, own) in world.hosts.iter().enumerate() {
                assert_eq!(own.known.len(), world.hosts.len() - 1);
                assert!(!own.known.contains_key(&host));
                assert!(own.known.iter().all(|(&other, known)| known.endpoints.is_empty() != parties[other].is_known));
            }
        }
    }
}
