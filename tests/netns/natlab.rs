//! The lab of `support::natlab` is what it says it is: every kind of NAT maps and filters by its name. Without a daemon.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::support::PORT;
use crate::support::namespace::Namespace;
use crate::support::nat::{Filtering, Mapping, Nat};
use crate::support::natlab::{Access, NatLab, Setup};
use crate::support::node::Node;

/// Long enough for a packet that crosses five routers of one machine.
const MOMENT: Duration = Duration::from_millis(400);

fn public(lab: &NatLab, number: u8, port: u16) -> UdpSocket {
    let node = if number == 1 { &lab.p } else { &lab.q };
    node.host.udp(([198, 51, 100, number], port))
}

fn any(node: &Node, port: u16) -> UdpSocket {
    node.host.udp((Ipv4Addr::UNSPECIFIED, port))
}

/// Sends from one to the other, and gives where it came from if it arrived.
fn arrives(from: &UdpSocket, to: &UdpSocket, address: impl Into<SocketAddr>, word: &[u8]) -> Option<SocketAddr> {
    from.send_to(word, address.into()).ok()?;
    to.set_read_timeout(Some(MOMENT)).unwrap();
    let mut buffer = [0; 100];
    loop {
        let (length, source) = to.recv_from(&mut buffer).ok()?;
        if &buffer[..length] == word {
            return Some(source);
        }
    }
}

fn behaves_by_its_name(nat: Nat) {
    let Some(lab) = Setup::between(nat, Nat::Public).build() else { return };
    let inside = any(&lab.a, PORT);
    let [p, other_port_of_p] = [7001, 7002].map(|port| public(&lab, 1, port));
    let [q, fresh, uninvited] = [7001, 7002, 7003].map(|port| public(&lab, 2, port));
    let Some(outer) = arrives(&inside, &p, p.local_addr().unwrap(), b"out") else {
        assert_eq!(nat, Nat::Blocked, "nothing comes out");
        return;
    };
    assert_ne!(nat, Nat::Blocked);
    let expected = if nat.keeps_addresses() { lab.homes[0].inside(2) } else { lab.homes[0].outside };
    assert_eq!(outer.ip(), expected);
    let same_port = !matches!(nat, Nat::PortTranslated | Nat::Symmetric | Nat::Sequential);
    assert_eq!(outer.port() == PORT, same_port, "{outer}");

    assert!(arrives(&p, &inside, outer, b"answer").is_some(), "an answer does not come in");
    let by_port = arrives(&other_port_of_p, &inside, outer, b"another port").is_some();
    let by_address = arrives(&q, &inside, outer, b"another address").is_some();
    let filtering = match (by_port, by_address) {
        (true, true) => Filtering::EndpointIndependent,
        (true, false) => Filtering::AddressDependent,
        (false, false) => Filtering::AddressAndPortDependent,
        (false, true) => panic!("a filter by port alone"),
    };
    assert_eq!(filtering, nat.filtering());

    let again = arrives(&inside, &p, p.local_addr().unwrap(), b"again");
    assert_eq!(again, Some(outer), "a mapping lasts");
    let elsewhere = arrives(&inside, &fresh, fresh.local_addr().unwrap(), b"elsewhere").unwrap();
    let mapping = if elsewhere == outer { Mapping::EndpointIndependent } else { Mapping::AddressAndPortDependent };
    assert_eq!(mapping, nat.mapping(), "{outer}, then {elsewhere}");
    if nat == Nat::Sequential {
        assert_eq!(elsewhere.port(), outer.port() + 1);
    }

    // Whoever knocks at a router that does not drop it takes the port for himself.
    arrives(&uninvited, &inside, outer, b"knock");
    let to_uninvited = arrives(&inside, &uninvited, uninvited.local_addr().unwrap(), b"who is it").unwrap();
    let moved = nat == Nat::PortOpen || nat.mapping() == Mapping::AddressAndPortDependent;
    assert_eq!(to_uninvited != outer, moved, "{outer}, then {to_uninvited}");
}

macro_rules! kinds {
    ($($name:ident: $nat:ident;)*) => {
        $(#[test]
        fn $name() {
            behaves_by_its_name(Nat::$nat);
        })*
    };
}

kinds! {
    public_hosts_have_no_nat: Public;
    a_firewall_lets_in_answers_only: Firewall;
    a_full_cone_lets_in_everybody: FullCone;
    an_address_restricted_cone_lets_in_addresses: AddressRestricted;
    a_port_restricted_cone_lets_in_ports: PortRestricted;
    a_router_without_a_firewall_loses_its_port: PortOpen;
    a_cone_may_translate_ports: PortTranslated;
    a_symmetric_nat_has_a_port_for_each_destination: Symmetric;
    a_sequential_nat_counts: Sequential;
    a_blocked_host_sends_no_udp: Blocked;
}

/// With a low hop limit, and answers to where a ping was seen to come from.
#[test]
fn theory_knows_which_pairs_need_a_relay() {
    let relayed = |a: Nat| Nat::MATRIX.into_iter().filter(|b| !a.can_reach(*b)).map(Nat::label).collect::<Vec<_>>();
    for a in Nat::MATRIX {
        let expected: &[&str] = match a.label() {
            "sym" => &["sym"],
            _ => &[],
        };
        assert_eq!(relayed(a), expected, "{a:?}");
    }
    assert!(Nat::Sequential.can_reach(Nat::PortRestricted) && !Nat::Sequential.can_reach(Nat::Symmetric));
    assert!(!Nat::Blocked.can_reach(Nat::Public));
}

/// The router of home `number` that the Internet sees.
fn outermost(lab: &NatLab, number: usize) -> &Namespace {
    let home = &lab.homes[number];
    home.carrier.as_ref().unwrap_or(&home.router)
}

/// Begins to count the packets for this port at a hook of a router.
fn count<'a>(router: &'a Namespace, hook: &str, priority: i32, which: &str) -> impl Fn() -> u64 + use<'a> {
    let table = format!("count_{hook}");
    router.rules(&format!(
        "table ip {table} {{ chain packets {{ type filter hook {hook} priority {priority}; {which} \"wan\" udp dport 4242 counter; }}; }}"
    ));
    move || {
        let text = router.run(&format!("nft list table ip {table}"));
        text.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap()
    }
}

fn a_hop_limit_of_three_ends_between(a: Access, b: Access) {
    let Some(lab) = Setup::between(a, b).build() else { return };
    for (node, own, far) in [(&lab.a, 0, 1), (&lab.b, 1, 0)] {
        let come = count(outermost(&lab, far), "prerouting", -300, "iifname");
        let left = count(outermost(&lab, own), "postrouting", 200, "oifname");
        let socket = any(node, PORT);
        let least = 4 + u32::from(lab.homes[own].carrier.is_some());
        for (limit, expected) in [(3, 0), (least - 1, 0), (least, 1)] {
            let before = left();
            socket.set_ttl(limit).unwrap();
            // An error is what a router has said of the packet before.
            while socket.send_to(b"ping", (lab.homes[far].outside, 4242)).is_err() {}
            thread::sleep(MOMENT);
            assert_eq!(left(), before + 1, "of {}, with a limit of {limit}", node.name);
            assert_eq!(come(), expected, "from {}, with a limit of {limit}", node.name);
        }
    }
}

/// Otherwise the first packets of a hole punch would occupy the port of a router that is open.
#[test]
fn a_hop_limit_of_three_leaves_the_own_side_and_does_not_reach_the_other() {
    a_hop_limit_of_three_ends_between(Nat::PortOpen.into(), Nat::PortOpen.into());
}

#[test]
fn a_hop_limit_of_three_passes_a_carrier() {
    a_hop_limit_of_three_ends_between(Access::from(Nat::PortOpen).behind(Nat::PortOpen), Nat::PortOpen.into());
}

/// Both neighbours have been heard outside; whether one gets to the outer address of the other.
fn neighbour_is_reached_outside(lab: &NatLab) -> bool {
    let (a, b, p) = (any(&lab.a, PORT), any(&lab.b, PORT + 100), public(lab, 1, 7001));
    let to = p.local_addr().unwrap();
    assert!(arrives(&a, &p, to, b"a").is_some());
    let outer = arrives(&b, &p, to, b"b").unwrap();
    let inside = (lab.homes[0].inside(3), PORT + 100);
    assert!(arrives(&a, &b, inside, b"inside").is_some(), "neighbours do not reach each other inside");
    let source = arrives(&a, &b, outer, b"around");
    if let Some(source) = source {
        assert_eq!(source.ip(), lab.homes[0].outside, "of a hairpin, the source is outside as well (RFC 4787 §6)");
        assert!(arrives(&b, &a, source, b"back").is_some(), "no answer gets back");
    }
    source.is_some()
}

#[test]
fn a_hairpin_leads_back_inside() {
    for nat in [Nat::FullCone, Nat::PortRestricted, Nat::PortTranslated] {
        let Some(lab) = Setup::at_home(Access::from(nat).with_hairpin()).build() else { return };
        assert!(neighbour_is_reached_outside(&lab), "{nat:?}");
    }
}

#[test]
fn without_a_hairpin_nothing_leads_back_inside() {
    for nat in [Nat::FullCone, Nat::PortRestricted] {
        let Some(lab) = Setup::at_home(nat).build() else { return };
        assert!(!neighbour_is_reached_outside(&lab), "{nat:?}");
    }
}

#[test]
fn ipv6_is_behind_a_firewall() {
    let access = Access::from(Nat::Symmetric).with_ipv6();
    let Some(lab) = Setup::between(access, access).build() else { return };
    let address = |number: usize| SocketAddr::from((lab.homes[number].inside_v6(2), 4242));
    let (a, b) = (lab.a.host.udp(address(0)), lab.b.host.udp(address(1)));
    assert_eq!(arrives(&a, &b, address(1), b"first"), None);
    assert_eq!(arrives(&b, &a, address(0), b"second"), Some(address(1)), "what a has sent opens its firewall");
    assert_eq!(arrives(&a, &b, address(1), b"third"), Some(address(0)));
    let p = lab.p.host.udp("[2001:db8:1::1]:7001".parse::<SocketAddr>().unwrap());
    assert_eq!(arrives(&a, &p, p.local_addr().unwrap(), b"public"), Some(address(0)));
}

#[test]
fn a_carrier_translates_once_more() {
    let behind = Access::from(Nat::FullCone).behind(Nat::Symmetric);
    let Some(lab) = Setup::between(behind, Nat::Public).build() else { return };
    let (inside, p, q) = (any(&lab.a, PORT), public(&lab, 1, 7001), public(&lab, 2, 7001));
    let outer = arrives(&inside, &p, p.local_addr().unwrap(), b"p").unwrap();
    let other = arrives(&inside, &q, q.local_addr().unwrap(), b"q").unwrap();
    assert_eq!((outer.ip(), other.ip()), (lab.homes[0].outside.into(), lab.homes[0].outside.into()));
    assert_ne!(outer, other, "the stricter of the two decides");
    assert!(arrives(&p, &inside, outer, b"answer").is_some());
    assert!(arrives(&q, &inside, outer, b"stranger").is_none());
}

#[test]
fn a_host_moves_to_another_home_and_direct_ways_are_closed() {
    let setup = Setup { spare: Some(Nat::PortRestricted.into()), ..Setup::between(Nat::Public, Nat::Public) };
    let Some(lab) = setup.build() else { return };
    let (a, b, p) = (any(&lab.a, PORT), any(&lab.b, PORT), public(&lab, 1, 7001));
    let to_b = (lab.homes[1].inside(2), PORT);
    assert!(arrives(&a, &b, to_b, b"direct").is_some());
    lab.block_direct();
    assert!(arrives(&a, &b, to_b, b"closed").is_none());
    assert!(arrives(&a, &p, p.local_addr().unwrap(), b"public").is_some());
    lab.move_a();
    let outer = arrives(&a, &p, p.local_addr().unwrap(), b"moved").unwrap();
    assert_eq!(outer.ip(), lab.homes[2].outside);
    assert!(arrives(&p, &a, outer, b"back").is_some());

    lab.homes[2].address(&lab.a, 77);
    assert!(arrives(&a, &p, p.local_addr().unwrap(), b"another address").is_some());
}
