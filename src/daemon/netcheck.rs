//! What the network lets this node do, and what would improve it.

use std::net::SocketAddr;

use super::lookup::Names;
use super::status;
use crate::control::message::{LocalAddress, Netcheck, Observed, PathKind, PeerState, RelayStatus, VERSION};
use crate::proto::command::{Hop, NodeStatus};

/// Where NAT lets nobody in by itself, one of these helps.
pub(super) const HELP: &str =
    "enable port mapping (PCP, NAT-PMP or UPnP) on the router, or forward a UDP port to the node";

/// Why it is not known whether a NAT lets strangers in.
const UNKNOWN_FILTER: &str = "whether it lets others in by themselves is not known (that needs a third member that this node has not written to, and is tried every ten minutes); ";

/// As the control socket tells it.
pub(super) fn netcheck(node: &NodeStatus, names: &Names<'_>) -> Netcheck {
    let nat = &node.nat;
    let heard = |path: &crate::proto::command::PathStatus| match path.hop {
        Hop::Direct(address) => path.heard.is_some().then_some(address),
        Hop::Relay(_) => None,
    };
    let direct = node.peers.iter().flat_map(|peer| peer.paths.iter().filter_map(heard));
    let reached: Vec<SocketAddr> = direct.chain(nat.observed.iter().map(|(_, address)| *address)).collect();
    let peers = node.peers.iter().zip((0..).map(crate::base::PeerIndex));
    let relays = peers.filter_map(|(peer, index)| {
        Some(RelayStatus {
            name: names.of(index).to_owned(),
            state: status::state(peer),
            rtt_ms: peer.paths.iter().find(|path| path.is_primary).and_then(|path| path.rtt).map(status::milliseconds),
            mbit: peer.relays? as f64 * 8.0 / 1e6,
        })
    });
    let mut netcheck = Netcheck {
        version: VERSION,
        ipv4: reached.iter().any(SocketAddr::is_ipv4),
        ipv6: reached.iter().any(SocketAddr::is_ipv6),
        observed: nat.observed.iter().map(|&(by, address)| Observed { by: names.of(by).to_owned(), address }).collect(),
        local: nat.local.iter().map(|&(address, kind)| LocalAddress { address, kind: status::kind(kind) }).collect(),
        public_address: nat.has_public_address,
        same_mapping: nat.same_mapping,
        port_step: nat.port_step,
        open_filter: nat.open_filter,
        hairpin: nat.hairpin,
        lifetime_seconds: nat.lifetime.map(|lifetime| lifetime.as_secs_f64()),
        keepalive_seconds: nat.keepalive.as_secs_f64(),
        relays: relays.collect(),
        advice: String::new(),
    };
    netcheck.advice = advice(&netcheck);
    netcheck
}

/// What it means for direct paths, and what would improve it.
fn advice(netcheck: &Netcheck) -> String {
    let relay = match netcheck.relays.iter().find(|relay| relay.state == PeerState::Connected) {
        Some(relay) => format!("all others are reached through relay {}", relay.name),
        None => "for all others the mesh needs a member that relays".to_owned(),
    };
    if netcheck.public_address {
        return "no NAT: direct paths to all members; this node makes a good introducer and relay".to_owned();
    }
    if netcheck.local.iter().any(|local| local.kind == PathKind::Mapped) {
        return "the router forwards a port to this node: direct paths to all members that can send".to_owned();
    }
    if netcheck.observed.is_empty() {
        return "no introducer has said where it sees this node: configure an endpoint of a peer that has a public address".to_owned();
    }
    match (netcheck.same_mapping, netcheck.open_filter, netcheck.port_step) {
        (None, _, _) => {
            "only one introducer has said where it sees this node: a second one on another address shows what kind of NAT this is".to_owned()
        }
        (Some(true), Some(true), _) => "an open NAT: direct paths to all members that can send".to_owned(),
        (Some(true), open, _) => {
            let unknown = if open.is_none() { UNKNOWN_FILTER } else { "" };
            format!(
                "a NAT that keeps its port: direct paths to all members, after some seconds to those behind a symmetric NAT; {unknown}{relay}"
            )
        }
        (Some(false), _, Some(step)) => format!(
            "a symmetric NAT that counts its ports in steps of {step}: direct paths to members without such a NAT; {HELP}; {relay}"
        ),
        (Some(false), _, None) => format!(
            "a symmetric NAT: direct paths to members without such a NAT, to some of them after some seconds; {HELP}; {relay}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::PeerIndex;
    use crate::proto::CandidateKind;
    use crate::proto::command::NatStatus;
    use crate::proto::event::Drops;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn check(nat: NatStatus) -> Netcheck {
        let node = NodeStatus { peers: Vec::new(), drops: Drops::default(), nat };
        netcheck(&node, &Names::of_test(&["c", "d"]))
    }

    #[test]
    fn a_symmetric_nat_is_told_with_what_helps() {
        let observed = vec![(PeerIndex(0), address("198.51.100.7:4001")), (PeerIndex(1), address("198.51.100.7:4003"))];
        let nat = NatStatus {
            observed,
            same_mapping: Some(false),
            keepalive: Duration::from_secs(25),
            ..NatStatus::default()
        };
        let told = check(nat.clone());
        assert_eq!((told.ipv4, told.ipv6, told.keepalive_seconds), (true, false, 25.0));
        assert_eq!(told.observed[1], Observed { by: "d".to_owned(), address: address("198.51.100.7:4003") });
        assert_eq!(
            told.advice,
            "a symmetric NAT: direct paths to members without such a NAT, to some of them after some seconds; \
             enable port mapping (PCP, NAT-PMP or UPnP) on the router, or forward a UDP port to the node; \
             for all others the mesh needs a member that relays"
        );
        let counting = check(NatStatus { port_step: Some(2), ..nat.clone() });
        assert!(counting.advice.contains("in steps of 2"), "{}", counting.advice);
        let keeps = check(NatStatus { same_mapping: Some(true), ..nat.clone() });
        assert!(keeps.advice.contains("needs a third member that this node has not written to"), "{}", keeps.advice);
        let closed = check(NatStatus { same_mapping: Some(true), open_filter: Some(false), ..nat.clone() });
        assert!(!closed.advice.contains("third member"), "{}", closed.advice);
        let mapped = check(NatStatus { local: vec![(address("198.51.100.7:18502"), CandidateKind::Mapped)], ..nat });
        assert!(mapped.advice.starts_with("the router forwards a port"), "{}", mapped.advice);
    }

    #[test]
    fn every_nat_has_one_line_of_advice() {
        let flags = [None, Some(false), Some(true)];
        for (same, open) in flags.iter().flat_map(|same| flags.map(|open| (*same, open))) {
            for (seen, public) in [(false, false), (true, false), (true, true)] {
                let nat = NatStatus {
                    observed: if seen { vec![(PeerIndex(9), address("[2001:db8::1]:1"))] } else { Vec::new() },
                    has_public_address: public,
                    same_mapping: same,
                    open_filter: open,
                    ..NatStatus::default()
                };
                let advice = check(nat).advice;
                assert!(!advice.is_empty() && !advice.contains('\n'));
            }
        }
    }
}
