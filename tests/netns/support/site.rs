//! A network behind a node: a third host, to which the node forwards what comes through the tunnel.
//!
//! The gateway's interface to it is `lan`. Then comes a card: a bridge that, as a card does, finishes the checksums that were left to it and cuts what was left
//! whole, so that the far host sees what a wire would carry, whatever the gateway has done itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::namespace::Namespace;
use super::node::Node;
use super::recording::Recording;

/// Programs that a test with a site runs.
pub const PROGRAMS: &[&str] = &["ethtool", "tshark"];

/// What a peer's prefixes must hold to reach the site.
pub const PREFIXES: &str = "\"192.168.50.0/24\", \"fd50::/64\"";

/// A third host and what joins it to its gateway.
#[derive(Debug)]
pub struct Site {
    pub host: Namespace,
    _card: Namespace,
}

impl Site {
    /// Makes a site behind `gateway`, which begins to forward.
    pub fn behind(gateway: &Node) -> Self {
        let name = |part| format!("{}-{part}", gateway.host.name());
        let (host, card) = (Namespace::new(name("site")), Namespace::new(name("card")));
        card.run("ip link add card type bridge");
        // A router asks for neighbours of others from its link-local address, and not before it is sure that it is the only one.
        gateway.host.set("ipv6/conf/default/accept_dad", "0");
        for (port, far, namespace) in [("in", "lan", &gateway.host), ("out", "eth0", &host)] {
            card.run(&format!("ip link add {port} type veth peer name {far} netns {}", namespace.name()));
            card.run(&format!("ip link set {port} master card up"));
        }
        card.run("ip link set card up");
        card.run("ethtool -K out tx off tso off gso off");
        for (namespace, interface, number) in [(&gateway.host, "lan", 1), (&host, "eth0", 2)] {
            namespace.run(&format!("ip addr add 192.168.50.{number}/24 dev {interface}"));
            namespace.run(&format!("ip addr add fd50::{number}/64 dev {interface} nodad"));
            namespace.run(&format!("ip link set {interface} up"));
        }
        host.run("ip route add default via 192.168.50.1");
        host.run("ip route add default via fd50::1");
        gateway.host.set("ipv4/ip_forward", "1");
        gateway.host.set("ipv6/conf/all/forwarding", "1");
        Self { host, _card: card }
    }

    /// Whether the gateway's interface leaves checksums and cutting to the card.
    pub fn set_offload(&self, gateway: &Node, on: bool) {
        let state = if on { "on" } else { "off" };
        gateway.host.run(&format!("ethtool -K lan tx {state} tso {state} gso {state}"));
    }

    pub fn v4(&self) -> IpAddr {
        Ipv4Addr::new(192, 168, 50, 2).into()
    }

    pub fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, 2).into()
    }

    /// Begins to record what comes to the host.
    pub fn record(&self) -> Recording {
        Recording::begin(&self.host, "eth0")
    }
}
