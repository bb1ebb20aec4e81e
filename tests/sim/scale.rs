//! Large meshes: what a member costs that nobody talks to, in memory and in traffic.
//!
//! `SIM_NODES=n cargo test --test sim scale::growth -- --ignored --nocapture` measures a mesh of that size; `scripts/mesh-scale` makes a table of several.

use handfast::base::{PeerId, Rng};
use handfast::crypto::keys::IdentitySecret;
use handfast::proto::{Node, NodeConfig, PeerConfig};

use crate::memory::held_by;
use crate::mesh_of::{AMPLE, Mesh, reach, sessions};
use crate::nat::{Behaviour, Filtering, Mapping, Ports};
use crate::world::{HostId, Known, Line, World, ms, overlay_prefixes, secs};

/// Hubs of a large mesh.
const HUBS: usize = 4;
/// Members that have all others in their configuration; the others know the hubs, these, and their neighbours, which keeps the simulation in the memory of a laptop.
const COMPLETE: usize = 16;
const NEIGHBOURS: usize = 100;
/// Bytes of headers of a datagram.
const HEADERS: u64 = 28;

/// Budgets.
const IDLE_BYTES_PER_SECOND: f64 = 50.0;
const MEMBER: f64 = 512.0;
const SESSION: f64 = 6.0 * 1024.0;
/// Sessions that an idle member holds, to be found.
const STANDING: usize = 3;

/// What a mesh costs.
#[derive(Debug)]
struct Cost {
    /// Bytes a second that an idle member sends and receives, headers included; and those that a hub sends.
    idle: f64,
    hub: f64,
    /// Bytes of a member that is known and not connected: of a new node, and of one that has heard of it for a while.
    member: f64,
    heard_of: f64,
    /// Bytes of an idle session, with all that is remembered of the member besides, at a hub and at a member.
    ends: [f64; 2],
    /// Bytes of a whole node that knows everyone.
    node: f64,
    /// From the last start until all have a standing session.
    connected: std::time::Duration,
    reached: usize,
    /// The most that an idle member holds.
    sessions: usize,
}

fn mixture(number: usize) -> Behaviour {
    let mapping = [Mapping::EndpointIndependent, Mapping::EndpointIndependent, Mapping::AddressAndPortDependent];
    let ports = [Ports::Preserving, Ports::Random];
    Behaviour::new(mapping[number % 3], Filtering::ALL[number / 3 % 3], ports[number / 9 % 2])
}

/// Bytes of a node without any peer, and what each configured one adds.
fn cost_of_members() -> (f64, f64) {
    let mut rng = Rng::from_number(1);
    let ids: Vec<PeerId> = (0..2000).map(|_| IdentitySecret::generate(&mut rng).id()).collect();
    let now = World::empty(1, Line::clean(ms(1))).now;
    let mut node = |count: usize| {
        let own = IdentitySecret::generate(&mut rng);
        let make = || {
            let peers = ids[..count].iter().enumerate().map(|(host, &id)| PeerConfig {
                id,
                endpoints: Vec::new(),
                prefixes: overlay_prefixes(host),
                keepalive: None,
            });
            let config = NodeConfig { peers: peers.collect(), ..NodeConfig::default() };
            Node::new(config, own, Rng::from_number(2), now)
        };
        held_by(make)
    };
    let [(none, no_bytes), (few, few_bytes), (many, many_bytes)] = [0, 1000, 2000].map(&mut node);
    drop((none, few, many));
    (no_bytes as f64, (many_bytes - few_bytes) as f64 / 1000.0)
}

/// A mesh of `count`, in which the members with everyone in their configuration come first.
fn mesh(count: usize) -> Mesh {
    let nats: Vec<Behaviour> = (0..count - HUBS).map(mixture).collect();
    let mut mesh = Mesh::strangers(1, Line::clean(ms(20)), HUBS, Some(AMPLE), &nats);
    let complete = HUBS + COMPLETE;
    let are_acquainted = |one: HostId, other: HostId| {
        let distance = one.abs_diff(other);
        one < complete || other < complete || distance.min(count - distance) <= NEIGHBOURS / 2
    };
    let addresses: Vec<_> = mesh.hubs.iter().map(|&hub| mesh.world.hosts[hub].address).collect();
    for host in 0..count {
        let others = (0..count).filter(|&other| other != host && are_acquainted(host, other));
        let endpoints = |other: HostId| addresses.get(other).copied().into_iter().collect();
        mesh.world.hosts[host].known =
            others.map(|other| (other, Known { endpoints: endpoints(other), keepalive: None })).collect();
    }
    mesh
}

fn measure(count: usize) -> Cost {
    let (empty, member) = cost_of_members();
    let Mesh { mut world, hubs, homes, .. } = mesh(count);
    for &hub in &hubs {
        world.start(hub);
    }
    world.run_for(secs(1));
    for &home in &homes {
        world.start(home);
        world.run_for(ms(5));
    }
    let has_introducer = |world: &World| homes.iter().all(|&home| world.hosts[home].events.iter().any(is_connected));
    let connected = world.run_until(secs(30), has_introducer).expect("everyone has a standing session");
    world.run_for(secs(60));
    // Some talk, and find each other; then all is silent again.
    let mut reached = 0;
    for number in 0..20 {
        let (from, to) = (homes[number % COMPLETE], homes[(number * 37 + 11) % homes.len()]);
        if from != to {
            reached += usize::from(reach(&mut world, from, to, secs(5)).is_some());
        }
    }
    world.run_for(secs(400));
    let before = world.sent.clone();
    let time = 600;
    world.run_for(secs(time));
    let rate = |host: HostId| {
        let (datagrams, bytes) = (world.sent[host].0 - before[host].0, world.sent[host].1 - before[host].1);
        (bytes + datagrams * HEADERS) as f64 / time as f64
    };
    let mean = |hosts: &[HostId]| hosts.iter().map(|&host| rate(host)).sum::<f64>() / hosts.len() as f64;
    // What hubs send, idle members receive.
    let hub = mean(&hubs);
    let idle = mean(&homes) + hub * HUBS as f64 / homes.len() as f64;
    let most = homes.iter().map(|&home| sessions(&world, home)).max().unwrap_or_default();
    // What a node holds besides what any does, and besides what it would if it were connected to nobody.
    let mut besides = |host: HostId| {
        let (known, connected) = (world.hosts[host].known.len() as f64, sessions(&world, host) as f64);
        let ((), bytes) = held_by(|| drop(world.hosts[host].node.take()));
        (known, connected, -bytes as f64 - empty - member * known)
    };
    // One end of the sessions is that of hubs, the other that of those who keep them.
    let ends = [&hubs[1..], &homes[COMPLETE..COMPLETE + 30]].map(|hosts| {
        let all = hosts.iter().map(|&host| besides(host));
        let (connected, bytes) = all.fold((0.0, 0.0), |sum, (_, connected, bytes)| (sum.0 + connected, sum.1 + bytes));
        bytes / connected
    });
    let (known, connected_to, bytes) = besides(homes[0]);
    let heard_of = member + (bytes - ends[1] * connected_to) / known;
    let node = bytes + empty + member * known;
    Cost { idle, hub, member, heard_of, ends, node, connected, reached, sessions: most }
}

fn is_connected((_, event): &(std::time::Duration, handfast::proto::Event)) -> bool {
    matches!(event, handfast::proto::Event::Connected { .. })
}

fn row(count: usize, cost: &Cost) -> String {
    let Cost { idle, hub, member, heard_of, ends: [one, other], node, connected, reached, sessions: _ } = cost;
    format!(
        "{count:>6} {idle:>12.1} {hub:>12.1} {member:>10.0} {heard_of:>10.0} {one:>10.0} {other:>10.0} {:>10.0} {:>12.2} {reached:>10}",
        node / 1024.0,
        connected.as_secs_f64(),
    )
}

impl Cost {
    fn assert_budgets(&self) {
        assert!(self.reached >= 18, "{} of 20 pairs met", self.reached);
        assert!(self.idle <= IDLE_BYTES_PER_SECOND, "{:.1} bytes a second of an idle member", self.idle);
        assert!(self.heard_of <= MEMBER, "{:.0} bytes of a member that this node has heard of", self.heard_of);
        assert!(self.sessions <= STANDING, "{} sessions of an idle member", self.sessions);
        self.assert_memory();
    }

    fn assert_memory(&self) {
        assert!(self.member <= MEMBER, "{:.0} bytes of a known member", self.member);
        for (end, bytes) in ["a hub", "a member"].into_iter().zip(self.ends) {
            assert!(bytes <= SESSION, "{bytes:.0} bytes of an idle session at {end}");
        }
    }
}

#[test]
fn a_mesh_of_a_thousand_stays_within_its_budget() {
    let cost = measure(1000);
    println!("{}", row(1000, &cost));
    cost.assert_budgets();
}

#[test]
fn a_member_and_a_session_stay_within_their_memory() {
    let cost = measure(200);
    println!("{}", row(200, &cost));
    cost.assert_memory();
}

#[test]
#[ignore = "measures; scripts/mesh-scale runs it"]
fn growth() {
    let count = std::env::var("SIM_NODES").ok().and_then(|count| count.parse().ok()).unwrap_or(100);
    let cost = measure(count);
    println!("row {}", row(count, &cost));
    // The traffic has a budget in a mesh of this size, memory in every one that is large enough for averages.
    if count == 1000 {
        cost.assert_budgets();
    } else if count > 1000 {
        cost.assert_memory();
    }
}
