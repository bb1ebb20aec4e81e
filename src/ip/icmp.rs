//! What a router says about a packet that it cannot forward: ICMP destination unreachable, no route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};

use super::packet::{IpPacket, protocol};

/// The longest ICMP error for IPv4, IP header included (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;

/// The longest ICMP error for IPv6, IP header included: the least MTU (RFC 4443 §2.4 c).
const MAX_V6: usize = 1280;

/// Bytes of an ICMP header of either version, before the quoted packet.
const ICMP_HEADER: usize = 8;

const HOP_LIMIT: u8 = 64;

/// The answer to `packet`, for which there is no route: ICMPv4 type 3 code 0 or ICMPv6 type 1 code 0, from the address `from`.
///
/// `None` for a packet that must not be answered (RFC 1122 §3.2.2, RFC 4443 §2.4 e): an ICMP error, a fragment other than the first, one to a group, one
/// from an address that is not that of a single host; and if `from` is of the other IP version.
pub fn unreachable(packet: &IpPacket<'_>, from: IpAddr) -> Option<Vec<u8>> {
    if packet.is_later_fragment() || is_icmp_error(packet) {
        return None;
    }
    match (from, packet.src(), packet.dst()) {
        (IpAddr::V4(from), IpAddr::V4(src), IpAddr::V4(dst)) if is_single_v4(src) && !is_group_v4(dst) => {
            let quoted = quote(packet, MAX_V4 - 20 - ICMP_HEADER);
            let reason = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Network);
            let builder = PacketBuilder::ipv4(from.octets(), src.octets(), HOP_LIMIT).icmpv4(reason);
            let mut answer = Vec::with_capacity(builder.size(quoted.len()));
            builder.write(&mut answer, quoted).ok()?;
            Some(answer)
        }
        (IpAddr::V6(from), IpAddr::V6(src), IpAddr::V6(dst)) if is_single_v6(src) && !dst.is_multicast() => {
            let quoted = quote(packet, MAX_V6 - 40 - ICMP_HEADER);
            let reason = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::NoRoute);
            let builder = PacketBuilder::ipv6(from.octets(), src.octets(), HOP_LIMIT).icmpv6(reason);
            let mut answer = Vec::with_capacity(builder.size(quoted.len()));
            builder.write(&mut answer, quoted).ok()?;
            Some(answer)
        }
        (_, _, _) => None,
    }
}

/// As much of `packet` as may be quoted.
fn quote<'a>(packet: &IpPacket<'a>, limit: usize) -> &'a [u8] {
    let bytes = packet.bytes();
    bytes.get(..limit).unwrap_or(bytes)
}

/// Whether `packet` is, or may be, an ICMP error: one whose type cannot be seen is taken for one, for errors about errors can go on for ever.
fn is_icmp_error(packet: &IpPacket<'_>) -> bool {
    let kind = packet.upper().first();
    match (packet.src(), packet.protocol()) {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        (IpAddr::V4(_), protocol::ICMPV4) => kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        // Errors have the top bit clear (RFC 4443 §2.1); 137 is redirect, to be treated alike.
        (IpAddr::V6(_), protocol::ICMPV6) => kind.is_none_or(|&kind| kind < 128 || kind == 137),
        (_, _) => false,
    }
}

fn is_single_v4(src: Ipv4Addr) -> bool {
    let [first, ..] = src.octets();
    // 0/8 is "this network", 127/8 loopback, 224/4 groups, and 240/4 reserved, broadcast included.
    first != 0 && first != 127 && first < 224
}

fn is_group_v4(dst: Ipv4Addr) -> bool {
    dst.is_multicast() || dst.is_broadcast()
}

fn is_single_v6(src: Ipv6Addr) -> bool {
    !src.is_unspecified() && !src.is_loopback() && !src.is_multicast()
}
