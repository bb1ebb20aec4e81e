//! Members measure the NAT in front of them, and find what it is.

use std::time::Duration;

use handfast::proto::command::NatStatus;
use handfast::proto::{CandidateKind, Command};

use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::INTERNET;
use crate::world::{Families, HostId, Line, World, ms, secs, seeds};

/// Introducers, and a member that nobody writes to.
const PUBLIC: usize = 4;
/// The silences that are tried (PROTOCOL §12.9).
const STEPS: [u64; 6] = [25, 40, 60, 90, 120, 180];
/// Long enough for all of them, for those that traffic makes void, and for a minute of patience now and then.
const LONG: Duration = secs(2 * 3600);

/// Three introducers and a member on the Internet, and a host behind `way`.
fn behind(seed: u64, way: Way) -> (World, HostId) {
    let mut world = World::empty(seed, Line::clean(ms(20)));
    for _ in 0..PUBLIC {
        world.add_host(INTERNET, Families::V4);
    }
    let lan = world.add_lan(INTERNET, Some(way), None);
    let host = world.add_host(lan, Families::V4);
    world.publish(&[0, 1, 2]);
    for host in 0..world.hosts.len() {
        world.start(host);
        let addresses = world.hosts[host].addresses().map(|address| (address, CandidateKind::Local)).collect();
        world.command(host, Command::SetLocal { addresses });
    }
    (world, host)
}

fn nat(world: &World, host: HostId) -> NatStatus {
    world.hosts[host].node.as_ref().unwrap().status(world.clock(host)).nat
}

/// What is to be found behind a NAT like this one.
fn truth(nat: &Behaviour) -> (Option<bool>, Option<bool>, Option<bool>, Option<Duration>) {
    let same_mapping = nat.mapping == Mapping::EndpointIndependent;
    let open_filter = nat.filtering == Filtering::EndpointIndependent;
    // Else the ping may have met the filter of another port.
    let hairpin = (same_mapping || open_filter).then_some(nat.hairpin);
    let lifetime = STEPS.into_iter().map(secs).filter(|step| *step < nat.lifetime).max();
    (Some(same_mapping), Some(open_filter), hairpin, lifetime)
}

fn found(status: &NatStatus) -> (Option<bool>, Option<bool>, Option<bool>, Option<Duration>) {
    (status.same_mapping, status.open_filter, status.hairpin, status.lifetime)
}

fn every_nat() -> impl Iterator<Item = Behaviour> {
    let lifetimes = [30, 50, 75, 110, 150, 200, 300];
    let kinds = Mapping::ALL
        .into_iter()
        .flat_map(|mapping| Filtering::ALL.into_iter().map(move |filtering| (mapping, filtering)));
    let kinds = kinds.flat_map(|kind| [false, true].map(|hairpin| (kind, hairpin)));
    kinds.enumerate().flat_map(move |(place, ((mapping, filtering), hairpin))| {
        // Every kind with a short and with a long life, all lifetimes with several kinds.
        [lifetimes[place % 7], lifetimes[(place + 3) % 7]].map(|lifetime| Behaviour {
            hairpin,
            lifetime: secs(lifetime),
            inbound_refreshes: place % 2 == 0,
            ..Behaviour::new(mapping, filtering, Ports::ALL[place % 3])
        })
    })
}

#[test]
fn a_node_finds_what_its_nat_is_like() {
    let mut wrong = Vec::new();
    for (seed, behaviour) in (0..).zip(every_nat()) {
        let (mut world, host) = behind(seed, Way::Nat(behaviour));
        world.run_for(LONG);
        let status = nat(&world, host);
        if found(&status) != truth(&behaviour) {
            wrong.push(format!(
                "SIM_SEED={seed}: {behaviour:?}\n  is {:?}\n  found {:?}\n",
                truth(&behaviour),
                found(&status)
            ));
        }
        let keepalive = status.lifetime.map_or(secs(20), |lifetime| (lifetime * 4 / 5).max(secs(20)));
        assert_eq!(status.keepalive, keepalive, "SIM_SEED={seed}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), every_nat().count(), wrong.join(""));
}

#[test]
fn a_public_host_finds_that_nothing_is_in_its_way() {
    let (mut world, _) = behind(1, Way::Nat(Behaviour::home()));
    world.run_for(secs(120));
    let status = nat(&world, PUBLIC - 1);
    assert!(status.has_public_address, "{status:?}");
    assert_eq!((status.open_filter, status.keepalive), (Some(true), secs(120)));
    assert_eq!((status.hairpin, status.lifetime), (None, None));
}

/// It has a public address, and yet it would not be found if it were silent for longer than the firewall remembers.
#[test]
fn behind_a_firewall_the_lifetime_counts_as_behind_a_nat() {
    let (mut world, host) = behind(1, Way::Firewall(Filtering::AddressAndPortDependent));
    world.run_for(LONG);
    let status = nat(&world, host);
    assert!(status.has_public_address);
    assert_eq!((status.open_filter, status.lifetime, status.keepalive), (Some(false), Some(secs(90)), secs(72)));
}

#[test]
fn in_another_network_everything_is_measured_again() {
    let short = Behaviour { lifetime: secs(75), ..Behaviour::home() };
    let open = Behaviour {
        lifetime: secs(200),
        hairpin: true,
        ..Behaviour::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, Ports::Random)
    };
    let (mut world, host) = behind(1, Way::Nat(open));
    let other = world.add_lan(INTERNET, Some(Way::Nat(short)), None);
    world.run_for(LONG);
    assert_eq!(found(&nat(&world, host)), truth(&open));
    world.move_to(host, other);
    world.command(host, Command::NetworkChanged);
    world.run_for(secs(30));
    let status = nat(&world, host);
    assert_eq!((status.lifetime, status.keepalive), (None, secs(25)), "what held there does not hold here");
    world.run_for(LONG);
    assert_eq!(found(&nat(&world, host)), truth(&short));
}

/// While it is silent and afterwards, except during a silence that is too long, packets of the introducers come in.
#[test]
fn a_measured_node_is_reached_at_any_time() {
    for seed in seeds(4) {
        let behaviour = Behaviour { lifetime: secs(75), ..Behaviour::home() };
        let (mut world, host) = behind(seed, Way::Nat(behaviour));
        world.run_for(LONG);
        let mut slow = 0;
        for minute in 0..20 {
            let packet = world.send(PUBLIC - 1, host);
            slow += u32::from(world.run_until(secs(3), |world| world.is_delivered(packet)).is_none());
            world.run_for(secs(400 + 7 * minute));
        }
        assert_eq!(slow, 0, "seed {seed}");
    }
}

#[test]
fn an_idle_node_sends_and_receives_less_than_fifty_bytes_a_second() {
    for (what, lifetime) in [("measuring and after", 150), ("short", 30)] {
        let (mut world, host) = behind(1, Way::Nat(Behaviour { lifetime: secs(lifetime), ..Behaviour::home() }));
        world.run_for(secs(5));
        for hour in 0..2 {
            let before = world.sent[host];
            world.arrivals = Some(Vec::new());
            world.run_for(secs(3600));
            let sent = world.sent[host].1 - before.1 + 28 * (world.sent[host].0 - before.0);
            let arrivals = world.arrivals.take().unwrap();
            let received: usize =
                arrivals.iter().filter(|(to, _)| *to == host).map(|(_, datagram)| datagram.bytes.len() + 28).sum();
            let (out, into) = (sent as f64 / 3600.0, received as f64 / 3600.0);
            println!("{what}, hour {hour}: {out:.1} B/s out, {into:.1} B/s in, IP and UDP headers included");
            assert!(out < 50.0 && into < 50.0);
        }
    }
}
