//! A lab with routers between the nodes: NAT by the kernel, and an Internet of two hops.
//!
//! ```text
//!  a (and b) -- home 0 -- [carrier 0] -- inet 0 ---- inet 1 -- [carrier 1] -- home 1 -- b
//!               (home 2 -- [carrier 2] --) |            |
//!                                          p            q
//! ```
//!
//! `p` is public, introduces and relays; `q` is public and introduces. `a` and `b` know each other's keys and no addresses. Each router takes one from the hop
//! limit: a packet of `a` with a limit of 3 has passed its own home, and its carrier if there is one, and has ended before it can reach the home of `b`. With one
//! router fewer it would get there, and occupy a port of a router that is [`Nat::PortOpen`].
//!
//! Home n has 198.51.100.(11 + n), and 10.0.(51 + n).0/24 inside, or the public 203.0.113.(16 n)/28 where it translates nothing. Behind a carrier it has an address
//! of 100.64.(51 + n).0/24 instead. With IPv6, 2001:db8:(51 + n)::/64 is inside, behind a firewall that lets in answers only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tempfile::TempDir;

use super::namespace::Namespace;
use super::nat::Nat;
use super::node::Node;
use super::status::Path;
use super::{PORT, becomes_true, eventually, lab, seconds};

/// The number of the home to which a node may move.
const SPARE: u8 = 2;

/// What the Internet begins to drop when direct ways are to be closed.
const ONLY_BY_RELAYS: &str = "
table ip direct {
  chain forward {
    type filter hook forward priority 0
    ip saddr { 198.51.100.1, 198.51.100.2 } accept
    ip daddr { 198.51.100.1, 198.51.100.2 } accept
    meta l4proto udp counter drop
  }
}";

/// How a home is joined to the Internet.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub nat: Nat,
    /// A NAT of the provider in front of it.
    pub carrier: Option<Nat>,
    /// Neighbours reach each other at their outer addresses.
    pub hairpin: bool,
    /// Whether there is IPv6 beside IPv4.
    pub ipv6: bool,
}

impl From<Nat> for Access {
    fn from(nat: Nat) -> Self {
        Self { nat, carrier: None, hairpin: false, ipv6: false }
    }
}

impl Access {
    /// The same behind a NAT of the provider.
    pub fn behind(self, carrier: Nat) -> Self {
        Self { carrier: Some(carrier), ..self }
    }

    pub fn with_hairpin(self) -> Self {
        Self { hairpin: true, ..self }
    }

    pub fn with_ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }
}

/// How a lab is to be built.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The home of `a`.
    pub a: Access,
    /// The home of `b`; without one it is at home with `a`.
    pub b: Option<Access>,
    /// Another home, to which a node may move.
    pub spare: Option<Access>,
    /// Whether `q` relays as well.
    pub two_relays: bool,
    /// The UDP port of `b`.
    pub port_of_b: u16,
    /// Home 1 has the same addresses inside as home 0.
    pub same_addresses: bool,
}

impl Setup {
    /// Two homes.
    pub fn between(a: impl Into<Access>, b: impl Into<Access>) -> Self {
        Self { b: Some(b.into()), ..Self::at_home(a) }
    }

    /// One home for both.
    pub fn at_home(a: impl Into<Access>) -> Self {
        Self { a: a.into(), b: None, spare: None, two_relays: false, port_of_b: PORT, same_addresses: false }
    }

    /// Builds the lab; its daemons do not run yet. `None`, with the reason on standard error, where this machine does not let us.
    pub fn build(&self) -> Option<NatLab> {
        lab::may_build(&[]).then(|| NatLab::build(self))
    }

    /// Builds the lab, starts its daemons, and waits until the public ones have sessions with the others.
    #[track_caller]
    pub fn up(&self) -> Option<NatLab> {
        let lab = self.build()?;
        lab.start();
        Some(lab)
    }
}

/// A router and those behind it.
#[derive(Debug)]
pub struct Home {
    pub router: Namespace,
    /// The NAT in front of it.
    pub carrier: Option<Namespace>,
    /// Where the Internet sees those behind it, if not at their own addresses.
    pub outside: Ipv4Addr,
    access: Access,
    number: u8,
    /// The network inside has the addresses of this home.
    like: u8,
}

impl Home {
    /// Address `host` of the network inside: the router's is 1.
    pub fn inside(&self, host: u8) -> Ipv4Addr {
        if self.access.nat.keeps_addresses() {
            Ipv4Addr::new(203, 0, 113, 16 * self.like + host)
        } else {
            Ipv4Addr::new(10, 0, 51 + self.like, host)
        }
    }

    pub fn inside_v6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x51 + u16::from(self.number), 0, 0, 0, 0, host.into())
    }

    /// Whether `address` is one of those inside, IPv4 or link-local.
    pub fn has_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => (address.to_bits() ^ self.inside(0).to_bits()) >> (32 - self.prefix_length()) == 0,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }

    fn prefix_length(&self) -> u8 {
        if self.access.nat.keeps_addresses() { 28 } else { 24 }
    }

    /// The interface of a host that is joined to it: whoever comes to the spare home has another one before he loses the first.
    fn interface(&self) -> &'static str {
        if self.number == SPARE { "eth1" } else { "eth0" }
    }

    /// Joins a host to the network inside.
    fn plug(&self, node: &Node) {
        let (port, interface) = (format!("port-{}", node.name), self.interface());
        self.router.run(&format!("ip link add {port} type veth peer name {interface} netns {}", node.host.name()));
        self.router.run(&format!("ip link set {port} master lan up"));
        node.host.run(&format!("ip link set {interface} up"));
    }

    /// Waits until packets of a host that is joined get through: the kernel may take a second until a new port of a bridge forwards.
    #[track_caller]
    fn wait_for(&self, node: &Node) {
        eventually(seconds(10), "the port of a host forwards", || {
            let port = self.router.run(&format!("ip -d link show port-{}", node.name));
            let interface = node.host.run(&format!("ip link show {}", self.interface()));
            port.contains("state forwarding") && interface.contains("state UP")
        });
    }

    /// Gives a host that is joined its addresses.
    fn settle(&self, node: &Node, host: u8) {
        self.address(node, host);
        if self.access.ipv6 {
            let interface = self.interface();
            node.host.run(&format!("ip addr add {}/64 dev {interface} nodad", self.inside_v6(host)));
            node.host.run(&format!("ip route add default via fe80::1 dev {interface}"));
        }
    }

    /// Gives a host that is joined this IPv4 address.
    pub fn address(&self, node: &Node, host: u8) {
        let interface = self.interface();
        node.host.run(&format!("ip -4 addr flush dev {interface}"));
        node.host.run(&format!("ip addr add {}/{} dev {interface}", self.inside(host), self.prefix_length()));
        node.host.run(&format!("ip route replace default via {}", self.inside(1)));
    }
}

/// The nodes and what joins them.
#[derive(Debug)]
pub struct NatLab {
    pub a: Node,
    pub b: Node,
    pub p: Node,
    pub q: Node,
    /// Of `a`, of `b` if it has one of its own, and the spare one.
    pub homes: Vec<Home>,
    pub inet: [Namespace; 2],
    _directory: TempDir,
}

impl NatLab {
    fn build(setup: &Setup) -> Self {
        let name = lab::new_name();
        let directory = TempDir::new().expect("a directory");
        let node = |short, number| Node::named(short, number, &name, directory.path());
        let inet = [0, 1].map(|number| router(format!("{name}-inet{number}")));
        join_internet(&inet);
        let [a, b, p, q] = [node("a", 1), node("b", 2), node("p", 3), node("q", 4)];
        let mut lab = Self { a, b, p, q, homes: Vec::new(), inet, _directory: directory };
        for host in [&lab.a, &lab.b, &lab.p, &lab.q] {
            // A link-local address is to be there as soon as its interface.
            host.host.set("ipv6/conf/default/accept_dad", "0");
        }
        lab.attach_public(0, &lab.p, 1);
        lab.attach_public(1, &lab.q, 2);
        for (number, access) in [(0, Some(setup.a)), (1, setup.b), (SPARE, setup.spare)] {
            if let Some(access) = access {
                let like = if setup.same_addresses && number == 1 { 0 } else { number };
                lab.homes.push(lab.build_home(&name, number, like, access));
            }
        }
        let of_b = if setup.b.is_some() { (1, 2) } else { (0, 3) };
        for (node, (home, host)) in [(&lab.a, (0, 2)), (&lab.b, of_b)] {
            lab.homes[home].plug(node);
            lab.homes[home].settle(node, host);
            lab.homes[home].wait_for(node);
        }
        lab.configure(setup);
        lab
    }

    /// Joins `end` to router `which` by its interface, and leads these addresses there.
    fn attach(&self, which: usize, end: &Namespace, interface: &str, addresses: &[String]) {
        let (here, other) = (&self.inet[which], &self.inet[1 - which]);
        let short = end.name().rsplit('-').next().expect("a name");
        let port = format!("to-{short}");
        here.run(&format!("ip link add {port} type veth peer name {interface} netns {}", end.name()));
        here.run(&format!("ip addr add 198.51.100.254/32 dev {port}"));
        here.run(&format!("ip addr add fe80::1/64 dev {port} nodad"));
        here.run(&format!("ip link set {port} up"));
        end.run(&format!("ip link set {interface} up"));
        end.run(&format!("ip addr add {}/32 dev {interface}", addresses[0]));
        end.run(&format!("ip addr add fe80::2/64 dev {interface} nodad"));
        end.run(&format!("ip route add 198.51.100.254/32 dev {interface}"));
        end.run(&format!("ip route add default via 198.51.100.254 dev {interface}"));
        end.run(&format!("ip route add default via fe80::1 dev {interface}"));
        here.run(&format!("ip route add {}/32 dev {port}", addresses[0]));
        other.run(&format!("ip route add {}/32 via 198.51.100.{} dev inet", addresses[0], 250 + which));
        for network in &addresses[1..] {
            let via = if network.contains(':') { "fe80::2".to_owned() } else { addresses[0].clone() };
            let across = if network.contains(':') {
                format!("fe80::{:x}", 0x250 + which)
            } else {
                format!("198.51.100.{}", 250 + which)
            };
            here.run(&format!("ip route add {network} via {via} dev {port} onlink"));
            other.run(&format!("ip route add {network} via {across} dev inet"));
        }
    }

    fn attach_public(&self, which: usize, node: &Node, number: u8) {
        let v6 = format!("2001:db8:{number}::1");
        self.attach(which, &node.host, "eth0", &[format!("198.51.100.{number}"), format!("{v6}/128")]);
        node.host.run(&format!("ip addr add {v6}/128 dev eth0 nodad"));
    }

    fn build_home(&self, name: &str, number: u8, like: u8, access: Access) -> Home {
        let outside = Ipv4Addr::new(198, 51, 100, 11 + number);
        let home = router(format!("{name}-home{number}"));
        let carrier = access.carrier.map(|_| router(format!("{name}-carrier{number}")));
        let home = Home { router: home, carrier, outside, access, number, like };
        self.join_home(&home);
        home.router.run("ip link add lan type bridge");
        home.router.run(&format!("ip addr add {}/{} dev lan", home.inside(1), home.prefix_length()));
        home.router.run("ip addr add fe80::1/64 dev lan nodad");
        home.router.run("ip link set lan up");
        if access.ipv6 {
            home.router.run(&format!("ip addr add {}/64 dev lan nodad", home.inside_v6(1)));
            home.router.rules(
                "table ip6 home { chain forward { type filter hook forward priority filter; \
                 iifname \"wan\" ct state established,related accept; iifname \"wan\" drop; }; }",
            );
        }
        home
    }

    /// Joins a home to the Internet, by its carrier if it has one, with all its NAT.
    fn join_home(&self, home: &Home) {
        let Access { nat, carrier, hairpin, ipv6 } = home.access;
        let which = usize::from(home.number % 2);
        let inside = format!("{}/{}", home.inside(0), home.prefix_length());
        let mut addresses = vec![home.outside.to_string()];
        if nat.keeps_addresses() {
            addresses.push(inside.clone());
        }
        if ipv6 {
            addresses.push(format!("{}/64", home.inside_v6(0)));
        }
        let mut own = home.outside;
        if let (Some(router), Some(nat_of_carrier)) = (&home.carrier, carrier) {
            assert!(addresses.len() == 1, "a carrier here has neither IPv6 nor public customers");
            self.attach(which, router, "wan", &addresses);
            let network = |host| Ipv4Addr::new(100, 64, 51 + home.number, host);
            router.run(&format!("ip link add lan type veth peer name wan netns {}", home.router.name()));
            router.run(&format!("ip addr add {}/24 dev lan", network(1)));
            router.run("ip link set lan up");
            own = network(11);
            home.router.run(&format!("ip addr add {own}/24 dev wan"));
            home.router.run("ip link set wan up");
            home.router.run(&format!("ip route add default via {}", network(1)));
            router.rules(&nat_of_carrier.rules(home.outside, &format!("{}/24", network(0)), false));
        } else {
            self.attach(which, &home.router, "wan", &addresses);
        }
        home.router.rules(&nat.rules(own, &inside, hairpin));
    }

    fn configure(&self, setup: &Setup) {
        let endpoints = |number: u8, ipv6: bool| {
            let mut all = vec![SocketAddr::from(([198, 51, 100, number], PORT))];
            if ipv6 {
                all.push((Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1), PORT).into());
            }
            all
        };
        let of_b = setup.b.unwrap_or(setup.a);
        for (node, other, ipv6) in [(&self.a, &self.b, setup.a.ipv6), (&self.b, &self.a, of_b.ipv6)] {
            let peers = [(other, Vec::new()), (&self.p, endpoints(1, ipv6)), (&self.q, endpoints(2, ipv6))];
            let sections: String = peers.iter().map(|(peer, endpoints)| peer.peer_section(endpoints)).collect();
            node.configure(&(node.own_sections(1280) + &sections));
        }
        if setup.port_of_b != PORT {
            self.b.change_configuration(|text| format!("{text}[listen]\nport = {}\n", setup.port_of_b));
        }
        for (node, other, relays) in [(&self.p, (&self.q, 2), true), (&self.q, (&self.p, 1), setup.two_relays)] {
            let known =
                self.a.peer_section(&[]) + &self.b.peer_section(&[]) + &other.0.peer_section(&endpoints(other.1, true));
            let relay = if relays { "[relay]\nenabled = true\n" } else { "" };
            node.configure(&(node.own_sections(1280) + relay + &known));
        }
    }

    /// Starts all daemons, and waits until the public ones have sessions with the others.
    #[track_caller]
    pub fn start(&self) {
        for node in [&self.p, &self.q, &self.a, &self.b] {
            node.start();
        }
        self.wait_for_introducers();
    }

    /// Waits until `a` and `b` have sessions with `p` and `q`.
    #[track_caller]
    pub fn wait_for_introducers(&self) {
        for node in [&self.a, &self.b] {
            for introducer in ["p", "q"] {
                let connected = becomes_true(seconds(20), || node.status().peer(introducer).state() == "connected");
                assert!(connected, "{} has no session with {introducer}:\n{}", node.name, node.log());
            }
        }
    }

    /// Where packets of `a` for `b` go.
    pub fn way_to_b(&self) -> Option<Path> {
        self.a.status().peer("b").primary()
    }

    /// Whether both `a` and `b` send to each other directly.
    pub fn is_direct(&self) -> bool {
        let is_direct =
            |node: &Node, peer| node.status().peer(peer).primary().is_some_and(|path| path.direct().is_some());
        is_direct(&self.a, "b") && is_direct(&self.b, "a")
    }

    /// Bytes that have come to the public nodes: little unless they relay.
    pub fn bytes_at_relays(&self) -> u64 {
        [&self.p, &self.q].map(|node| received_bytes(&node.host)).iter().sum()
    }

    /// Closes all direct ways between homes.
    pub fn block_direct(&self) {
        for router in &self.inet {
            router.rules(ONLY_BY_RELAYS);
        }
    }

    /// Takes `a` off its network, and gives it an address of the spare home, to which it has been joined before.
    #[track_caller]
    pub fn move_a(&self) {
        let home = self.homes.last().expect("a spare home");
        home.plug(&self.a);
        home.wait_for(&self.a);
        self.a.host.run("ip link del eth0");
        home.settle(&self.a, 2);
    }
}

fn received_bytes(host: &Namespace) -> u64 {
    let text = host.run("ip -j -s link show dev eth0");
    let links: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    links[0]["stats64"]["rx"]["bytes"].as_u64().unwrap_or_else(|| panic!("ip said: {text}"))
}

/// A namespace that forwards, and whose interfaces have the addresses that they are given and no others.
fn router(name: String) -> Namespace {
    let router = Namespace::new(name);
    router.set("ipv4/ip_forward", "1");
    router.set("ipv6/conf/all/forwarding", "1");
    router.set("ipv6/conf/default/addr_gen_mode", "1");
    router.set("ipv6/conf/default/accept_dad", "0");
    router.set("ipv4/conf/all/rp_filter", "0");
    router.set("ipv4/conf/default/rp_filter", "0");
    router
}

fn join_internet(inet: &[Namespace; 2]) {
    inet[0].run(&format!("ip link add inet type veth peer name inet netns {}", inet[1].name()));
    for (number, router) in inet.iter().enumerate() {
        router.run(&format!("ip addr add 198.51.100.{}/31 dev inet", 250 + number));
        router.run(&format!("ip addr add fe80::{:x}/64 dev inet nodad", 0x250 + number));
        router.run("ip link set inet up");
    }
}
