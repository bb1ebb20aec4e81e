//! Neighbours on one link find each other by multicast alone: there is no introducer, and no endpoint in any configuration.

use std::net::IpAddr;

use crate::support::lab::{Lab, Setup};
use crate::support::namespace::Namespace;
use crate::support::node::Node;
use crate::support::{becomes_true, eventually, seconds};

/// What leaves a host for the groups of PROTOCOL §12.7, by IPv4 and by IPv6.
const TO_GROUPS: &str = "
table inet groups {
  chain output {
    type filter hook output priority 0
    ip daddr 239.255.72.70 udp dport 18503 counter
    ip6 daddr ff02::4866:4146 udp dport 18503 counter
  }
}";

/// Two nodes that know each other's keys and nothing else, with these addresses on the link.
fn neighbours(setup: Setup) -> Option<Lab> {
    let lab = setup.build()?;
    for node in &lab.nodes {
        node.forget_endpoints();
        node.change_configuration(|text| text.replace("lan = false", "lan = true"));
        node.host.rules(TO_GROUPS);
    }
    Some(lab)
}

/// Datagrams to the groups of IPv4 and IPv6.
fn told(node: &Node) -> [u64; 2] {
    let rules = node.host.run("nft list table inet groups");
    let counts = rules.split("counter packets ").skip(1).map(|rest| rest.split(' ').next().unwrap().parse().unwrap());
    counts.collect::<Vec<_>>().try_into().unwrap_or_else(|counts| panic!("{counts:?}: {rules}"))
}

/// Whether anybody of the host listens to one of the groups.
fn listens(host: &Namespace) -> bool {
    let groups = host.run("ip maddr show dev eth0");
    groups.contains("239.255.72.70") || groups.contains("ff02::4866:4146")
}

#[track_caller]
fn find_each_other(lab: &Lab, is_right: impl Fn(IpAddr) -> bool) {
    let (a, b) = lab.pair();
    a.start();
    b.start();
    eventually(seconds(20), "a reaches b", || a.reaches(b.v4()));
    b.ping(a.v6()).assert_all_answered();
    for (node, peer) in [(a, "b"), (b, "a")] {
        let endpoint = node.status().peer(peer).endpoint().expect("an endpoint");
        assert!(is_right(endpoint.ip()), "{endpoint}");
        assert!(listens(&node.host));
    }
}

#[test]
fn neighbours_find_each_other_by_multicast_of_ipv4() {
    let Some(lab) = neighbours(Setup::default()) else { return };
    for node in &lab.nodes {
        node.host.set("ipv6/conf/eth0/disable_ipv6", "1");
    }
    find_each_other(&lab, |address| address.to_string().starts_with("192.0.2."));
    for node in &lab.nodes {
        let [v4, v6] = told(node);
        assert!(v4 > 0 && v6 == 0, "{v4} by IPv4, {v6} by IPv6");
    }
}

/// By addresses that every interface has.
#[test]
fn neighbours_find_each_other_by_multicast_of_ipv6() {
    let Some(lab) = neighbours(Setup::default()) else { return };
    for node in &lab.nodes {
        node.host.run("ip -4 addr flush dev eth0");
        node.host.run("ip -6 addr flush dev eth0 scope global");
    }
    find_each_other(&lab, |address| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()));
    for node in &lab.nodes {
        let [v4, v6] = told(node);
        assert!(v4 == 0 && v6 > 0, "{v4} by IPv4, {v6} by IPv6");
    }
}

/// What it would tell for: it starts, its addresses change, and somebody wants to be found.
#[test]
fn who_does_not_want_to_be_found_on_the_link_neither_tells_nor_hears() {
    let Some(lab) = neighbours(Setup::default()) else { return };
    let (a, b) = lab.pair();
    a.change_configuration(|text| text.replace("lan = true", "lan = false"));
    a.start();
    b.start();
    eventually(seconds(20), "b tells its neighbours", || told(b).iter().all(|count| *count > 0));
    let before = told(b);
    for node in &lab.nodes {
        node.host.run("ip addr add 192.0.2.77/24 dev eth0".replace("77", &format!("7{}", node.number)).as_str());
    }
    eventually(seconds(20), "b tells them its new address", || told(b) > before);
    let is_found = becomes_true(seconds(5), || a.reaches(b.v4()) || b.reaches(a.v4()));
    assert!(!is_found, "{}\n{}", a.status_text(), b.status_text());
    assert_eq!(told(a), [0, 0], "{}", a.log());
    assert!(!listens(&a.host) && listens(&b.host));
}
