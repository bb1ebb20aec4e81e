//! Meshes of the usual kind: a few hubs that everyone knows, and members behind routers of their own.

use std::time::Duration;

use handfast::proto::{Event, Hop, RelayLimits};

use crate::nat::{Behaviour, Way};
use crate::network::INTERNET;
use crate::world::{Families, HostId, Line, SegmentId, World, secs};

/// More than any scenario needs.
pub(crate) const AMPLE: RelayLimits = RelayLimits { bytes_per_second: 100_000_000, members: 1000 };

#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) world: World,
    pub(crate) hubs: Vec<HostId>,
    pub(crate) homes: Vec<HostId>,
    pub(crate) lans: Vec<SegmentId>,
}

impl Mesh {
    /// `hubs` public hosts whose addresses are configured everywhere, and one member behind each of `nats`. Nobody is running.
    pub(crate) fn new(seed: u64, line: Line, hubs: usize, relay: Option<RelayLimits>, nats: &[Behaviour]) -> Self {
        let mut mesh = Self::strangers(seed, line, hubs, relay, nats);
        mesh.world.publish(&mesh.hubs);
        mesh
    }

    /// The same hosts, of which nobody knows anybody.
    pub(crate) fn strangers(
        seed: u64,
        line: Line,
        hubs: usize,
        relay: Option<RelayLimits>,
        nats: &[Behaviour],
    ) -> Self {
        let mut world = World::empty(seed, line);
        let hubs: Vec<HostId> = (0..hubs).map(|_| world.add_host(INTERNET, Families::V4)).collect();
        for &hub in &hubs {
            world.hosts[hub].relay = relay;
        }
        let mut mesh = Self { world, hubs, homes: Vec::new(), lans: Vec::new() };
        for &nat in nats {
            mesh.add_home(nat);
        }
        mesh
    }

    fn add_home(&mut self, nat: Behaviour) {
        let lan = self.world.add_lan(INTERNET, Some(Way::Nat(nat)), None);
        self.lans.push(lan);
        let home = self.world.add_host(lan, Families::V4);
        self.homes.push(home);
    }

    /// As [`Self::new`], with everyone running and connected to the hubs.
    pub(crate) fn running(seed: u64, line: Line, hubs: usize, relay: Option<RelayLimits>, nats: &[Behaviour]) -> Self {
        let mut mesh = Self::new(seed, line, hubs, relay, nats);
        mesh.start();
        mesh.world.run_for(secs(5));
        mesh
    }

    pub(crate) fn start(&mut self) {
        for host in 0..self.world.hosts.len() {
            self.world.start(host);
        }
    }
}

/// Sends one packet and says how long it took.
pub(crate) fn reach(world: &mut World, from: HostId, to: HostId, limit: Duration) -> Option<Duration> {
    let packet = world.send(from, to);
    world.run_until(limit, |world| world.is_delivered(packet))
}

/// The primary path of a session.
pub(crate) fn primary(world: &World, host: HostId, other: HostId) -> Option<Hop> {
    world.status(host, other).paths.into_iter().find(|path| path.is_primary).map(|path| path.hop)
}

pub(crate) fn is_direct(world: &World, one: HostId, other: HostId) -> bool {
    [(one, other), (other, one)]
        .iter()
        .all(|&(host, other)| matches!(primary(world, host, other), Some(Hop::Direct(_))))
}

pub(crate) fn is_relayed(world: &World, one: HostId, other: HostId) -> bool {
    [(one, other), (other, one)].iter().all(|&(host, other)| matches!(primary(world, host, other), Some(Hop::Relay(_))))
}

/// How many sessions a host has.
pub(crate) fn sessions(world: &World, host: HostId) -> usize {
    let status = world.hosts[host].node.as_ref().expect("running").status(world.clock(host));
    status.peers.iter().filter(|peer| peer.session.is_some()).count()
}

/// How often traffic of a host went over to another path.
pub(crate) fn moves(world: &World, host: HostId) -> usize {
    world.hosts[host].events.iter().filter(|(_, event)| matches!(event, Event::Moved { .. })).count()
}
