//! Kinds of NAT in the words of RFC 4787, as rules for the kernel; and who can reach whom through them.

use std::net::Ipv4Addr;

/// What a router does with the packets of those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Routes public addresses.
    Public,
    /// Routes public addresses, and lets in only what belongs to a flow that began inside.
    Firewall,
    /// Once a port has sent anything, everybody may send to it.
    FullCone,
    /// Once a port has sent to an address, that address may send to it.
    AddressRestricted,
    /// Once a port has sent to an address and port, these may send to it: a Linux router that drops what is for itself.
    PortRestricted,
    /// The same without a firewall: a packet that nobody asked for occupies the port, and the answer to it leaves by another.
    PortOpen,
    /// As [`Self::PortRestricted`], but outside the port is another.
    PortTranslated,
    /// Another port for each destination, at random.
    Symmetric,
    /// Another port for each destination, the next one each time.
    Sequential,
    /// No UDP at all.
    Blocked,
}

/// Whether packets of one port to different destinations come from the same port outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    EndpointIndependent,
    AddressAndPortDependent,
}

/// Whose packets get in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
    Everything,
}

impl Nat {
    /// Those of the whole matrix.
    pub const MATRIX: [Self; 8] = [
        Self::Public,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PortOpen,
        Self::PortTranslated,
        Self::Symmetric,
    ];

    /// A short name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Firewall => "fw",
            Self::FullCone => "fullcone",
            Self::AddressRestricted => "addr",
            Self::PortRestricted => "port",
            Self::PortOpen => "port-open",
            Self::PortTranslated => "portx",
            Self::Symmetric => "sym",
            Self::Sequential => "symseq",
            Self::Blocked => "blocked",
        }
    }

    /// Whether those behind it have public addresses.
    pub fn keeps_addresses(self) -> bool {
        matches!(self, Self::Public | Self::Firewall)
    }

    pub fn mapping(self) -> Mapping {
        match self {
            Self::Symmetric | Self::Sequential => Mapping::AddressAndPortDependent,
            Self::Public
            | Self::Firewall
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortOpen
            | Self::PortTranslated
            | Self::Blocked => Mapping::EndpointIndependent,
        }
    }

    pub fn filtering(self) -> Filtering {
        match self {
            Self::Public | Self::FullCone => Filtering::EndpointIndependent,
            Self::AddressRestricted => Filtering::AddressDependent,
            Self::Firewall
            | Self::PortRestricted
            | Self::PortOpen
            | Self::PortTranslated
            | Self::Symmetric
            | Self::Sequential => Filtering::AddressAndPortDependent,
            Self::Blocked => Filtering::Everything,
        }
    }

    /// Whether two hosts behind such routers can send to each other without a third.
    pub fn can_reach(self, other: Self) -> bool {
        let blocked = self == Self::Blocked || other == Self::Blocked;
        let nobody_keeps_a_port = self.has_many_ports() && other.has_many_ports();
        !blocked && !nobody_keeps_a_port
    }

    /// The port that sends to the other is known to nobody. It can be found by trying, if the other always sends from the same.
    pub fn has_many_ports(self) -> bool {
        self.mapping() == Mapping::AddressAndPortDependent
    }

    /// The rules of a router with interfaces `wan` and `lan`, of which the former has the address `outside`. With `hairpin`, what those inside send to an outer
    /// port of their neighbour gets there.
    pub fn rules(self, outside: Ipv4Addr, lan: &str, hairpin: bool) -> String {
        assert!(!hairpin || !self.keeps_addresses(), "a hairpin needs a translation");
        let is_cone = matches!(self, Self::FullCone | Self::AddressRestricted);
        let mut before = String::new();
        if hairpin {
            before += &format!("iifname \"lan\" ip daddr {outside} dnat to udp dport map @outer; ");
        }
        if self == Self::AddressRestricted {
            before += "iifname \"wan\" udp dport . ip saddr != @seen drop; ";
        }
        if is_cone {
            before += "iifname \"wan\" dnat to udp dport map @outer; ";
        }
        let mut after = String::new();
        if hairpin {
            after += &format!("oifname \"lan\" ip saddr {lan} meta l4proto udp snat to {outside}; ");
        }
        after += &match self {
            Self::Public | Self::Firewall => String::new(),
            Self::FullCone | Self::AddressRestricted => format!("oifname \"wan\" snat to {outside};"),
            Self::PortRestricted | Self::PortOpen | Self::Blocked => "oifname \"wan\" masquerade;".to_owned(),
            Self::PortTranslated => translated(outside, "jhash ip saddr . udp sport mod 256 seed 0x5eed", 30000),
            Self::Symmetric => "oifname \"wan\" masquerade random,fully-random;".to_owned(),
            Self::Sequential => translated(outside, "numgen inc mod 256", 40000),
        };
        let forward = match self {
            Self::Firewall => "iifname \"wan\" ct state established,related accept; iifname \"wan\" drop;",
            Self::Blocked => "meta l4proto udp drop;",
            Self::Public
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortOpen
            | Self::PortTranslated
            | Self::Symmetric
            | Self::Sequential => "",
        };
        let input = if self == Self::PortOpen { "" } else { "iifname \"wan\" meta l4proto udp drop;" };
        // What leaves has its outer port by then; the kernel remembers the inner one.
        let learn = if hairpin || is_cone {
            "oifname \"wan\" update @outer { udp sport : ct original ip saddr . ct original proto-src }; \
             oifname \"wan\" update @seen { udp sport . ip daddr };"
        } else {
            ""
        };
        format!(
            "table ip home {{
                map outer {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 300s; size 65535; }}
                set seen {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout 300s; size 65535; }}
                chain before {{ type nat hook prerouting priority dstnat; {before} }}
                chain forward {{ type filter hook forward priority filter; {forward} }}
                chain input {{ type filter hook input priority filter; {input} }}
                chain after {{ type nat hook postrouting priority srcnat; {after} }}
                chain learn {{ type filter hook postrouting priority srcnat + 10; {learn} }}
            }}\n"
        )
    }
}

/// To ports from `first` on, of which `number` chooses one. By a map: what `number` gives is in the order of bytes of the host, and ports are not.
fn translated(outside: Ipv4Addr, number: &str, first: u16) -> String {
    let ports: Vec<_> = (0..256).map(|it| format!("{it} : {}", first + it)).collect();
    let port = format!("{number} map {{ {} }}", ports.join(", "));
    format!("oifname \"wan\" meta l4proto udp snat to {outside} : {port}; oifname \"wan\" masquerade;")
}
