//! Relayed hops as addresses (PROTOCOL §12.6).
//!
//! What goes through a relay has an address like everything else, so that handshake, paths and cookies need no second kind: `0100:0000 | relay 4 | tag 8`, in a prefix that no router
//! forwards (RFC 6666). It never leaves this process, and no datagram that claims to come from there is taken.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::command::Hop;
use crate::base::PeerIndex;

const PREFIX: [u8; 4] = [0x01, 0, 0, 0];
/// Any will do.
const PORT: u16 = 1;

/// The address of the member with `tag`, through `relay`.
pub(crate) fn relayed(relay: PeerIndex, tag: u64) -> SocketAddr {
    let [a, b, c, d] = PREFIX;
    let [e, f, g, h] = relay.0.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = tag.to_be_bytes();
    SocketAddr::new(Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into(), PORT)
}

/// The relay, and the tag of the member behind it, if `address` is such an address.
pub(crate) fn through(address: SocketAddr) -> Option<(PeerIndex, u64)> {
    let IpAddr::V6(ip) = address.ip() else { return None };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip.octets();
    if [a, b, c, d] != PREFIX {
        return None;
    }
    Some((PeerIndex(u32::from_be_bytes([e, f, g, h])), u64::from_be_bytes([i, j, k, l, m, n, o, p])))
}

/// Whether packets to `address` go through a relay.
pub(crate) fn is_relayed(address: SocketAddr) -> bool {
    through(address).is_some()
}

/// The same for people.
pub(crate) fn hop(address: SocketAddr) -> Hop {
    through(address).map_or(Hop::Direct(address), |(relay, _)| Hop::Relay(relay))
}

/// Whether somebody may be reached there who is not on the own link: nothing is sent to any other address that a member names (PROTOCOL §12.3).
pub(crate) fn is_public(address: SocketAddr) -> bool {
    if address.port() == 0 {
        return false;
    }
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 224 || (a, b, c) == (192, 0, 0);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || reserved)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

/// Whether `address` means something on the own network, and there to everybody: a link-local one does not, since it needs the name of an interface.
pub(crate) fn is_private(address: SocketAddr) -> bool {
    let link_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_near(address) && !link_local
}

/// Whether `address` means something on the own network only.
pub(crate) fn is_near(address: SocketAddr) -> bool {
    if address.port() == 0 {
        return false;
    }
    match address.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_address_says_who_and_through_whom_and_is_nobody_elses() {
        let address = relayed(PeerIndex(7), 0x0123_4567_89ab_cdef);
        assert_eq!(through(address), Some((PeerIndex(7), 0x0123_4567_89ab_cdef)));
        assert!(!is_public(address) && !is_near(address));
        for other in ["192.0.2.1:1", "[2001:db8::1]:1", "[::1]:1", "[101::1]:1"] {
            assert_eq!(through(other.parse().unwrap()), None);
        }
    }

    #[test]
    fn only_places_that_somebody_can_own_are_public() {
        for public in ["192.0.2.1:1", "198.51.100.7:18502", "[2001:db8::1]:1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let not = [
            "10.1.2.3:1",
            "172.20.0.1:1",
            "192.168.1.1:1",
            "100.64.0.1:1",
            "127.0.0.1:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
        ];
        for address in
            not.into_iter().chain(["0.0.0.0:1", "192.0.2.1:0", "[::1]:1", "[fe80::1]:1", "[fd00::1]:1", "[ff02::1]:1"])
        {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
