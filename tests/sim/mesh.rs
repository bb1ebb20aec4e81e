//! Random topologies: everyone reaches everyone whom the theory says they must reach, by the kind of path that it says.

use handfast::proto::Hop;

use crate::theory::{Found, Reach};
use crate::topology::{Topology, topologies};
use crate::world::{HostId, PacketId, World, ms, secs};

/// Pairs of each topology that talk.
const PAIRS: usize = 60;
/// One direction goes directly, the other by a relay.
const MIXED: &str = "primary hops";
/// Packets arrive in one direction only.
const ONE_WAY: &str = "packets go one way only";
/// How long they have.
const TIME: u64 = 20;
/// Those that talk at all do so in the last seconds.
const LAST: u64 = 4;

/// What has become of a pair: whether packets of the end went both ways, and by what kind of path.
fn found(world: &World, (one, other): (HostId, HostId), last: &[PacketId]) -> Result<Found, String> {
    let delivered = |to: HostId, from: HostId| {
        let is_between = |&&id: &&PacketId| world.ends(id) == (from, to);
        last.iter().filter(is_between).any(|&id| world.is_delivered(id))
    };
    match (delivered(other, one), delivered(one, other)) {
        (false, false) => return Ok(Found::None),
        (true, true) => {}
        (true, false) | (false, true) => return Err(ONE_WAY.to_owned()),
    }
    let hops = [(one, other), (other, one)].map(|(host, peer)| {
        let paths = world.status(host, peer).paths;
        paths.iter().find(|path| path.is_primary).map(|path| path.hop)
    });
    match hops {
        [Some(Hop::Direct(_)), Some(Hop::Direct(_))] => Ok(Found::Direct),
        [Some(Hop::Relay(_)), Some(Hop::Relay(_))] => Ok(Found::Relayed),
        [None, _] | [_, None] | [Some(Hop::Direct(_) | Hop::Relay(_)), Some(Hop::Direct(_) | Hop::Relay(_))] => {
            Err(format!("{MIXED} {hops:?}"))
        }
    }
}

/// Where a topology behaves otherwise than the theory says, when each of a pair sends so many packets a second.
fn disagreements(seed: u64, mut topology: Topology, packets: usize) -> Vec<String> {
    let pairs = topology.sample(PAIRS);
    for host in 0..topology.world.hosts.len() {
        topology.world.start(host);
        topology.world.run_for(ms(20));
    }
    let mut last = Vec::new();
    for second in 0..TIME {
        for _ in 0..packets {
            for &(one, other) in &pairs {
                for (from, to) in [(one, other), (other, one)] {
                    let id = topology.world.send(from, to);
                    if second >= TIME - LAST {
                        last.push(id);
                    }
                }
            }
            topology.world.run_for(secs(1) / packets as u32);
        }
    }
    // What has found its way just now is under way.
    topology.world.run_for(secs(2));
    let wrong = pairs.iter().filter_map(|&pair| {
        let expected = topology.reach(pair.0, pair.1);
        let what = match found(&topology.world, pair, &last) {
            Ok(found) if expected.allows(found) => return None,
            // Where a guess is needed, it may be right for one direction only.
            Err(what) if expected == Reach::DirectOrRelayed && what.starts_with(MIXED) => return None,
            Err(what) if expected == Reach::DirectOrNone && what == ONE_WAY => return None,
            Ok(found) => format!("{found:?}"),
            Err(what) => what,
        };
        let story = |host, peer| {
            let status = topology.world.status(host, peer);
            let paths: Vec<String> = status
                .paths
                .iter()
                .map(|path| {
                    format!(
                        "{:?} {:?} proven {} rtt {:?} heard {:?} unanswered {}",
                        path.hop, path.kind, path.is_proven, path.rtt, path.heard, path.unanswered
                    )
                })
                .collect();
            format!(
                "  {}\n    tried (time before now): {:?}\n    paths: {paths:?}\n",
                topology.describe(host),
                status.steps
            )
        };
        let (one, other) = (story(pair.0, pair.1), story(pair.1, pair.0));
        let relays: Vec<usize> = (0..topology.parties.len()).filter(|&host| topology.parties[host].relays).collect();
        let known: Vec<usize> = (0..topology.parties.len()).filter(|&host| topology.parties[host].is_known).collect();
        let one = format!("  introducers {known:?}, relays {relays:?}\n{one}");
        Some(format!("SIM_SEED={seed}: {expected:?} was expected, found: {what}\n{one}{other}"))
    });
    wrong.collect()
}

#[test]
fn every_pair_is_reached_in_the_way_that_the_theory_says() {
    let wrong: Vec<String> = topologies().flat_map(|seed| disagreements(seed, Topology::new(seed), 1)).collect();
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

/// Requests, introductions, acknowledgements, tokens, hellos, pings: each of them is lost, comes late and comes twice.
#[test]
fn every_pair_is_reached_in_that_way_on_lines_that_lose_one_of_twenty() {
    let wrong: Vec<String> =
        topologies().take(20).flat_map(|seed| disagreements(seed, Topology::lossy(seed, 50), 5)).collect();
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

/// What works without introductions: hosts that everyone knows are reached by all that can send, and nobody is reached who cannot be.
#[test]
fn hosts_that_everyone_knows_are_reached_from_every_place() {
    let mut asked = 0;
    for seed in topologies().take(10) {
        let mut topology = Topology::new(seed);
        let hosts = topology.world.hosts.len();
        let is_known = |topology: &Topology, host: HostId| topology.parties[host].is_known;
        let to = (0..hosts).find(|&host| is_known(&topology, host)).expect("every topology has one");
        let pairs: Vec<_> = (0..hosts).filter(|&host| host != to).map(|host| (host, to)).collect();
        for host in 0..hosts {
            topology.world.start(host);
        }
        topology.world.run_for(secs(3));
        // The first one may overtake the end of the handshake.
        let mut send = || -> Vec<PacketId> {
            let sent = pairs.iter().map(|&(from, to)| topology.world.send(from, to)).collect();
            topology.world.run_for(secs(3));
            sent
        };
        let sent = [send(), send()];
        for (&(from, to), (&first, &second)) in pairs.iter().zip(sent[0].iter().zip(&sent[1])) {
            let is_direct = topology.reach(from, to) == Reach::Direct;
            let delivered = topology.world.is_delivered(first) || topology.world.is_delivered(second);
            assert_eq!(delivered, is_direct, "SIM_SEED={seed}: {}", topology.describe(from));
            asked += 1;
        }
    }
    assert!(asked > 0);
}
