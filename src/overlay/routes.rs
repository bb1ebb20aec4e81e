//! Which peer an address belongs to.

use std::net::IpAddr;

use ipnet::IpNet;

use super::lpm::Lpm;
use crate::base::PeerIndex;

/// The prefixes of all peers: where packets are sent, and from whom they are taken.
///
/// Both questions are one table on purpose: a peer that may send from an address is the peer that packets to this address go to.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    peers: Lpm<PeerIndex>,
}

impl RouteTable {
    /// A table without routes.
    pub const fn new() -> Self {
        Self { peers: Lpm::new() }
    }

    /// Gives `prefix` to `peer` and returns the peer that had it.
    pub fn insert(&mut self, prefix: IpNet, peer: PeerIndex) -> Option<PeerIndex> {
        self.peers.insert(prefix, peer)
    }

    /// Takes `prefix` from the peer that has it, and returns that peer.
    pub fn remove(&mut self, prefix: IpNet) -> Option<PeerIndex> {
        self.peers.remove(prefix)
    }

    /// The peer to which packets for `destination` go.
    pub fn route(&self, destination: IpAddr) -> Option<PeerIndex> {
        self.peers.longest(destination).copied()
    }

    /// Whether `peer` may send packets from `source`: only if the longest prefix around it, over all peers, is its own (PROTOCOL §11.3).
    pub fn permits(&self, peer: PeerIndex, source: IpAddr) -> bool {
        self.route(source) == Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_peer_may_not_speak_from_a_longer_prefix_of_another() {
        let (wide, narrow) = (PeerIndex(1), PeerIndex(2));
        let mut routes = RouteTable::new();
        routes.insert("10.0.0.0/8".parse().unwrap(), wide);
        routes.insert("10.1.0.0/16".parse().unwrap(), narrow);
        let (outer, inner, outside) =
            ("10.2.0.1".parse().unwrap(), "10.1.0.1".parse().unwrap(), "11.0.0.1".parse().unwrap());
        assert!(routes.permits(wide, outer) && !routes.permits(narrow, outer));
        assert!(routes.permits(narrow, inner) && !routes.permits(wide, inner));
        assert!(!routes.permits(wide, outside) && routes.route(outside).is_none());
        assert_eq!(routes.remove("10.1.0.0/16".parse().unwrap()), Some(narrow));
        assert!(routes.permits(wide, inner));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn exactly_the_peer_with_the_longest_prefix_is_permitted(
            prefixes in prop::collection::vec((0..16_u32, 24..=32_u8, 0..4_u32), 0..30),
            sources in prop::collection::vec(0..20_u32, 20),
        ) {
            let address = |low: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + low * 13));
            let mut routes = RouteTable::new();
            let mut list: Vec<(IpNet, PeerIndex)> = Vec::new();
            for (low, len, peer) in prefixes {
                let prefix = IpNet::new(address(low), len).unwrap().trunc();
                let former = list.iter().position(|(known, _)| *known == prefix).map(|at| list.remove(at).1);
                prop_assert_eq!(routes.insert(prefix, PeerIndex(peer)), former);
                list.push((prefix, PeerIndex(peer)));
            }
            for source in sources.into_iter().map(address) {
                for peer in (0..5).map(PeerIndex) {
                    // Naively: it has a prefix around the source, and nobody has a longer one.
                    let around: Vec<_> = list.iter().filter(|(prefix, _)| prefix.contains(&source)).collect();
                    let naive = around.iter().any(|(own, owner)| {
                        *owner == peer && around.iter().all(|(other, _)| other.prefix_len() <= own.prefix_len())
                    });
                    prop_assert_eq!(routes.permits(peer, source), naive);
                }
            }
        }
    }
}
