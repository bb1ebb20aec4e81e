//! A lab: nodes in namespaces of their own, joined by an underlay.
//!
//! Node n (1, 2, ..) has 192.0.2.n and 2001:db8::n on the underlay, 10.77.0.n and fd77::n in the tunnel. The underlay is a switch (a bridge in a namespace where
//! [`Capture`] listens and an [`Intruder`] sits), or, for two nodes, a wire with delay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::unistd::Uid;
use tempfile::TempDir;

use super::capture::Capture;
use super::delay::DelayLine;
use super::intruder::Intruder;
use super::namespace::Namespace;
use super::node::{self, Node};
use super::{PORT, say};

const REQUIRED: &str = "HANDFAST_NETNS";
const LOST_ON_THE_WAY_IN: &str = "
table inet loss {
  chain in {
    type filter hook input priority 0
    udp dport 18502 numgen random mod 100 < 5 counter drop
  }
}";

/// The IP version of the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The underlay address of node `number`.
    pub fn address(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

/// How a lab is to be built.
#[derive(Debug)]
pub struct Setup {
    pub family: Family,
    pub nodes: u8,
    /// MTU of the tunnel.
    pub mtu: u16,
    /// MTU of the underlay; of a wire it is always 1500.
    pub underlay_mtu: u16,
    /// UDP port whose packets travel reliably.
    pub reliable_port: Option<u16>,
    /// Delay each way; then the underlay is a wire.
    pub delay: Option<Duration>,
    /// Programs that this test runs and others do not.
    pub programs: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            family: Family::V4,
            nodes: 2,
            mtu: 1280,
            underlay_mtu: 1500,
            reliable_port: None,
            delay: None,
            programs: &[],
        }
    }
}

impl Setup {
    /// Builds the lab; its daemons do not run yet. `None`, with the reason on standard error, where this machine does not let us.
    pub fn build(self) -> Option<Lab> {
        may_build(self.programs).then(|| Lab::build(&self))
    }

    /// Builds the lab and starts its daemons.
    pub fn up(self) -> Option<Lab> {
        let lab = self.build()?;
        for node in &lab.nodes {
            node.start();
        }
        Some(lab)
    }
}

/// Whether this machine lets us build labs and has these programs; says why not, or fails where that is not allowed.
pub fn may_build(programs: &[&str]) -> bool {
    let reason = missing(programs);
    if let Some(reason) = &reason {
        assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set: {reason}");
        say(&format!("skipped: {reason}"));
    }
    reason.is_none()
}

/// What the names of the namespaces of a new lab begin with.
pub fn new_name() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    format!("hf{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed))
}

fn missing(more: &[&str]) -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let programs = ["ip", "nft", "nsenter", "ping", "iperf3"];
    let exists = |program: &&str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|path| path.join(program).exists())
    };
    programs.iter().chain(more).find(|program| !exists(program)).map(|program| format!("there is no program {program}"))
}

/// Nodes and what joins them. Fields are dropped in this order.
#[derive(Debug)]
pub struct Lab {
    pub nodes: Vec<Node>,
    wire: Option<DelayLine>,
    switch: Option<Namespace>,
    family: Family,
    _directory: TempDir,
}

impl Lab {
    fn build(setup: &Setup) -> Self {
        let lab = new_name();
        let directory = TempDir::new().expect("a directory");
        let nodes = node::enrol(setup, &lab, directory.path());
        let mut lab = Self { nodes, wire: None, switch: None, family: setup.family, _directory: directory };
        match setup.delay {
            Some(delay) => lab.join_by_wire(delay),
            None => lab.join_by_switch(setup.underlay_mtu),
        }
        lab
    }

    fn join_by_wire(&mut self, delay: Duration) {
        let [a, b] = self.nodes.as_slice() else { panic!("a wire has two ends") };
        self.wire = Some(DelayLine::between(&a.host, &b.host, delay));
        for node in &self.nodes {
            node.address_underlay();
        }
    }

    fn join_by_switch(&mut self, mtu: u16) {
        let name = self.nodes[0].host.name().replace("-a", "-switch");
        let switch = Namespace::new(name);
        switch.run("ip link add switch type bridge");
        switch.run("ip addr add 192.0.2.254/24 dev switch");
        switch.run("ip addr add 2001:db8::fe/64 dev switch nodad");
        switch.run("ip link set switch up");
        for node in &self.nodes {
            let host = node.host.name();
            let port = format!("port-{}", node.name);
            switch.run(&format!("ip link add {port} type veth peer name eth0 netns {host}"));
            switch.run(&format!("ip link set {port} mtu {mtu} master switch up"));
            node.host.run(&format!("ip link set eth0 mtu {mtu}"));
            // A capture is to see datagrams, not the batches that the kernel would cut only at the far end.
            node.host.run("ip link set eth0 gso_max_segs 1");
            node.address_underlay();
        }
        self.switch = Some(switch);
    }

    /// The two nodes of a lab of two.
    pub fn pair(&self) -> (&Node, &Node) {
        let [a, b] = self.nodes.as_slice() else { panic!("this lab has {} nodes", self.nodes.len()) };
        (a, b)
    }

    /// The wire between two nodes.
    pub fn wire(&self) -> &DelayLine {
        self.wire.as_ref().expect("a lab with a wire")
    }

    fn switch(&self) -> &Namespace {
        self.switch.as_ref().expect("a lab with a switch")
    }

    /// Where `node` is reached on the underlay.
    pub fn endpoint(&self, node: &Node) -> SocketAddr {
        SocketAddr::new(self.family.address(node.number), PORT)
    }

    /// Begins to record the datagrams of the underlay.
    pub fn capture(&self) -> Capture {
        Capture::begin(self.switch())
    }

    /// Somebody else on the underlay.
    pub fn intruder(&self) -> Intruder {
        Intruder::new(self.switch())
    }

    /// From now on the underlay swallows datagrams of more than `most` bytes, and tells nobody.
    pub fn swallow_larger_than(&self, most: u16) {
        // What nftables calls the length of a datagram includes its header.
        self.switch().rules(&format!(
            "table bridge narrow {{ chain road {{ type filter hook forward priority 0; udp length > {} counter drop; }}; }}",
            most + 8
        ));
    }

    /// How many datagrams the underlay has swallowed so.
    pub fn swallowed(&self) -> u64 {
        let rules = self.switch().run("nft list table bridge narrow");
        let count = rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("nft said: {rules}"))
    }

    /// From now on every node loses 5 % of what is sent to it.
    pub fn lose_five_percent_each_way(&self) {
        for node in &self.nodes {
            node.host.rules(LOST_ON_THE_WAY_IN);
        }
    }
}
