//! A node behind a router that forwards its port when it is asked to: miniupnpd, which is on millions of them.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;

use tempfile::TempDir;

use crate::support::lab::{Lab, Setup, may_build};
use crate::support::namespace::Namespace;
use crate::support::nat::Nat;
use crate::support::natlab;
use crate::support::{PORT, becomes_true, eventually, seconds};

const PROGRAMS: &[&str] = &["miniupnpd"];

/// Anybody's address, but not one that is reserved for examples: the daemon of the router thinks nothing of those.
const OUTSIDE: &str = "44.0.0";

/// What miniupnpd expects to find.
const CHAINS: &str = "
table inet filter {
  chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname lan accept; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}";

const MASQUERADE: &str = "
table inet outgoing {
  chain postrouting { type nat hook postrouting priority 110; oifname wan masquerade; }
}";

/// PCP (version 2) has replaced NAT-PMP (version 0) on the same port: a router that has never heard of it.
const NO_PCP: &str = "
table inet older {
  chain input { type filter hook input priority -10; udp dport 5351 @th,64,8 2 counter drop; }
}";

/// A router forwards ports to those behind its interface `lan` who ask it to, until this value ends.
struct Forwarder {
    daemon: Child,
    directory: TempDir,
}

impl Forwarder {
    /// Begins on a router that has the address 1 in `network`, with these options besides.
    fn start(host: &Namespace, network: &str, options: &str) -> Self {
        host.rules(CHAINS);
        let directory = TempDir::new().unwrap();
        let configuration = directory.path().join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nport=5000\nsystem_uptime=yes\nsecure_mode=yes\nmin_lifetime=120\nmax_lifetime=86400\n\
             upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\nupnp_nat_chain=prerouting_miniupnpd\n\
             upnp_nat_postrouting_chain=postrouting_miniupnpd\nuuid=a94fd110-fedb-4293-9fb2-bd694a3c62b4\n\
             allow 1024-65535 {network} 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n{options}\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = host.command("miniupnpd");
        command.arg("-d").arg("-f").arg(&configuration).arg("-P").arg(directory.path().join("pid"));
        let daemon = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let forwarder = Self { daemon, directory };
        eventually(seconds(10), "the router listens", || {
            !host.run("ss -Hlun sport = :1900 or sport = :5351").is_empty()
        });
        forwarder
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the router ---\n{}", self.log());
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Whether a router forwards a port to a node.
fn forwards(router: &Namespace) -> bool {
    router.run("nft list chain inet filter prerouting_miniupnpd").contains("18502")
}

/// Puts a router between the two nodes of `lab`, whose daemons do not run yet.
fn router_between(lab: &Lab) -> Namespace {
    let (a, b) = lab.pair();
    let host = Namespace::new(a.host.name().replace("-a", "-router"));
    for (node, port) in [(a, "lan"), (b, "wan")] {
        node.host.run("ip link del eth0");
        host.run(&format!("ip link add {port} type veth peer name eth0 netns {}", node.host.name()));
        host.run(&format!("ip link set {port} up"));
        node.host.run("ip link set eth0 up");
    }
    host.run("ip addr add 192.168.7.1/24 dev lan");
    host.run(&format!("ip addr add {OUTSIDE}.1/24 dev wan"));
    host.set("ipv4/ip_forward", "1");
    host.rules(MASQUERADE);
    a.host.run("ip addr add 192.168.7.2/24 dev eth0");
    a.host.run("ip route add default via 192.168.7.1");
    b.host.run(&format!("ip addr add {OUTSIDE}.2/24 dev eth0"));
    host
}

/// Node b calls first, at the address of the router, and reaches node a behind it as long as a runs.
fn a_node_is_reached_through_its_router(options: &str, rules: &str) {
    let Some(lab) = (Setup { programs: PROGRAMS, ..Setup::default() }).build() else { return };
    let (a, b) = lab.pair();
    let router = router_between(&lab);
    let _forwarder = Forwarder::start(&router, "192.168.7.0/24", options);
    router.rules(rules);
    a.forget_endpoints();
    b.change_configuration(|text| text.replace("192.0.2.1", &format!("{OUTSIDE}.1")));
    a.change_configuration(|text| text + "[nat]\nport_mapping = true\n");
    a.start();
    eventually(seconds(20), "the router forwards the port", || forwards(&router));
    assert!(!router.run("nft list ruleset").contains("packets 0 "), "every rule that counts was met");
    // Not before: the kernel of the router remembers for half a minute that packets of this flow went nowhere.
    b.start();
    eventually(seconds(20), "b reaches a", || b.reaches(a.v4()));
    assert_eq!(b.status().peer("a").endpoint().unwrap().ip().to_string(), format!("{OUTSIDE}.1"));

    a.stop();
    assert!(!forwards(&router), "the mapping is taken back");
}

#[test]
fn a_port_is_mapped_by_pcp_and_taken_back() {
    a_node_is_reached_through_its_router("enable_upnp=no\nenable_natpmp=yes", "");
}

#[test]
fn a_port_is_mapped_by_nat_pmp_and_taken_back() {
    a_node_is_reached_through_its_router("enable_upnp=no\nenable_natpmp=yes", NO_PCP);
}

#[test]
fn a_port_is_mapped_by_upnp_and_taken_back() {
    a_node_is_reached_through_its_router("enable_upnp=yes\nenable_natpmp=no", "");
}

/// Two that would talk by a relay: where the router of one forwards a port is the only direct way, no packet of its own leaves from there, and no configuration names it.
#[test]
fn a_mapped_port_is_told_and_used_where_there_is_no_other_way() {
    if !may_build(PROGRAMS) {
        return;
    }
    let Some(lab) = natlab::Setup::between(Nat::Symmetric, Nat::Symmetric).build() else { return };
    let outside = format!("{OUTSIDE}.1");
    let router = &lab.homes[0].router;
    router.run(&format!("ip addr add {outside}/32 dev wan"));
    lab.inet[0].run(&format!("ip route add {outside}/32 via {} dev to-home0 onlink", lab.homes[0].outside));
    lab.inet[1].run(&format!("ip route add {outside}/32 via 198.51.100.250 dev inet"));
    let options = format!("ext_ip={outside}\nenable_upnp=no\nenable_natpmp=yes");
    let _forwarder = Forwarder::start(router, "10.0.51.0/24", &options);
    lab.a.change_configuration(|text| text + "[nat]\nport_mapping = true\n");
    lab.start();
    eventually(seconds(20), "the router forwards the port", || forwards(router));
    let mapped = SocketAddr::from((Ipv4Addr::new(44, 0, 0, 1), PORT));
    let way = || lab.b.status().peer("a").primary().filter(|way| way.direct().is_some());
    let is_direct = becomes_true(seconds(30), || {
        lab.b.ping_with(lab.a.v4(), "-c 1 -W 1");
        way().is_some_and(|way| way.is_proven) && lab.is_direct()
    });
    assert!(is_direct, "{}\n{}", lab.a.status_text(), lab.b.status_text());
    let way = way().expect("a direct path");
    assert_eq!((way.direct(), &way.kind[..]), (Some(mapped), "mapped"), "{way:?}");
    // Right after a move the relays still hear what belongs to it.
    let all_go_there = || {
        let before = lab.bytes_at_relays();
        let answered = lab.b.ping_patiently(lab.a.v6(), 5, "-s 1000").received;
        answered == 5 && lab.bytes_at_relays() - before < 5 * 1000
    };
    assert!(becomes_true(seconds(10), all_go_there), "{}\n{}", lab.a.status_text(), lab.b.status_text());
}
