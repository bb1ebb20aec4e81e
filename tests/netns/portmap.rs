//! A node behind a router that forwards its port when it is asked to: miniupnpd, which is on millions of them.

use std::fs::File;
use std::process::Child;

use tempfile::TempDir;

use crate::support::lab::{Lab, Setup};
use crate::support::namespace::Namespace;
use crate::support::{eventually, seconds};

/// Anybody's address, but not one that is reserved for examples: the daemon of the router thinks nothing of those.
const OUTSIDE: &str = "44.0.0";

/// What miniupnpd expects to find.
const CHAINS: &str = "
table inet filter {
  chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname lan accept; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname wan masquerade; }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}";

/// PCP (version 2) has replaced NAT-PMP (version 0) on the same port: a router that has never heard of it.
const NO_PCP: &str = "
table inet older {
  chain input { type filter hook input priority -10; udp dport 5351 @th,64,8 2 counter drop; }
}";

/// A router between node a and node b. Fields are dropped in this order.
struct Router {
    daemon: Child,
    host: Namespace,
    directory: TempDir,
}

impl Router {
    /// Puts a router between the two nodes of `lab`, whose daemons do not run yet, and starts its port mapping with these options.
    fn between(lab: &Lab, options: &str) -> Self {
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
        host.rules(CHAINS);
        a.host.run("ip addr add 192.168.7.2/24 dev eth0");
        a.host.run("ip route add default via 192.168.7.1");
        b.host.run(&format!("ip addr add {OUTSIDE}.2/24 dev eth0"));

        let directory = TempDir::new().unwrap();
        let configuration = directory.path().join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nport=5000\nsystem_uptime=yes\nsecure_mode=yes\nmin_lifetime=120\nmax_lifetime=86400\n\
             upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\nupnp_nat_chain=prerouting_miniupnpd\n\
             upnp_nat_postrouting_chain=postrouting_miniupnpd\nuuid=a94fd110-fedb-4293-9fb2-bd694a3c62b4\n\
             allow 1024-65535 192.168.7.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n{options}\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = host.command("miniupnpd");
        command.arg("-d").arg("-f").arg(&configuration).arg("-P").arg(directory.path().join("pid"));
        let daemon = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let router = Self { daemon, host, directory };
        eventually(seconds(10), "the router listens", || {
            !router.host.run("ss -Hlun sport = :1900 or sport = :5351").is_empty()
        });
        router
    }

    /// Rules that forward to a node.
    fn forwards(&self) -> bool {
        self.host.run("nft list chain inet filter prerouting_miniupnpd").contains("18502")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the router ---\n{}", self.log());
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Node b calls first, at the address of the router, and reaches node a behind it as long as a runs.
fn a_node_is_reached_through_its_router(options: &str, rules: &str) {
    let Some(lab) = (Setup { programs: &["miniupnpd"], ..Setup::default() }).build() else { return };
    let (a, b) = lab.pair();
    let router = Router::between(&lab, options);
    router.host.rules(rules);
    a.forget_endpoints();
    b.change_configuration(|text| text.replace("192.0.2.1", &format!("{OUTSIDE}.1")));
    a.change_configuration(|text| text + "[nat]\nport_mapping = true\n");
    a.start();
    eventually(seconds(20), "the router forwards the port", || router.forwards());
    assert!(!router.host.run("nft list ruleset").contains("packets 0 "), "every rule that counts was met");
    // Not before: the kernel of the router remembers for half a minute that packets of this flow went nowhere.
    b.start();
    eventually(seconds(20), "b reaches a", || b.reaches(a.v4()));
    assert_eq!(b.status().peer("a").endpoint().unwrap().ip().to_string(), format!("{OUTSIDE}.1"));

    a.stop();
    assert!(!router.forwards(), "the mapping is taken back");
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
