//! What a router says about a packet that it cannot forward: ICMP destination unreachable, no route; or too big.

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
            let reason = icmpv4::DestUnreachableHeader::Network;
            answer_v4(packet, from, src, Icmpv4Type::DestinationUnreachable(reason))
        }
        (IpAddr::V6(from), IpAddr::V6(src), IpAddr::V6(dst)) if is_single_v6(src) && !dst.is_multicast() => {
            let reason = icmpv6::DestUnreachableCode::NoRoute;
            answer_v6(packet, from, src, Icmpv6Type::DestinationUnreachable(reason))
        }
        (_, _, _) => None,
    }
}

/// The answer to `packet`, which is longer than the `mtu` of the way ahead: ICMPv4 type 3 code 4 or ICMPv6 type 2, from the address `from`.
///
/// `None` for what [`unreachable()`] does not answer either, for an IPv4 packet that may be fragmented, and for one that is not longer than what is told: IPv6 is
/// never told less than its least MTU.
pub fn too_big(packet: &IpPacket<'_>, from: IpAddr, mtu: usize) -> Option<Vec<u8>> {
    if packet.is_later_fragment() || is_icmp_error(packet) {
        return None;
    }
    let mtu = if from.is_ipv6() { mtu.max(MAX_V6) } else { mtu };
    if packet.bytes().len() <= mtu {
        return None;
    }
    match (from, packet.src(), packet.dst()) {
        (IpAddr::V4(from), IpAddr::V4(src), IpAddr::V4(dst))
            if is_single_v4(src) && !is_group_v4(dst) && forbids_fragments(packet) =>
        {
            let next_hop_mtu = u16::try_from(mtu).ok()?;
            let reason = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
            answer_v4(packet, from, src, Icmpv4Type::DestinationUnreachable(reason))
        }
        (IpAddr::V6(from), IpAddr::V6(src), IpAddr::V6(dst)) if is_single_v6(src) && !dst.is_multicast() => {
            answer_v6(packet, from, src, Icmpv6Type::PacketTooBig { mtu: u32::try_from(mtu).ok()? })
        }
        (_, _, _) => None,
    }
}

fn answer_v4(packet: &IpPacket<'_>, from: Ipv4Addr, to: Ipv4Addr, reason: Icmpv4Type) -> Option<Vec<u8>> {
    let quoted = quote(packet, MAX_V4 - 20 - ICMP_HEADER);
    let builder = PacketBuilder::ipv4(from.octets(), to.octets(), HOP_LIMIT).icmpv4(reason);
    let mut answer = Vec::with_capacity(builder.size(quoted.len()));
    builder.write(&mut answer, quoted).ok()?;
    Some(answer)
}

fn answer_v6(packet: &IpPacket<'_>, from: Ipv6Addr, to: Ipv6Addr, reason: Icmpv6Type) -> Option<Vec<u8>> {
    let quoted = quote(packet, MAX_V6 - 40 - ICMP_HEADER);
    let builder = PacketBuilder::ipv6(from.octets(), to.octets(), HOP_LIMIT).icmpv6(reason);
    let mut answer = Vec::with_capacity(builder.size(quoted.len()));
    builder.write(&mut answer, quoted).ok()?;
    Some(answer)
}

/// The DF bit of an IPv4 header.
fn forbids_fragments(packet: &IpPacket<'_>) -> bool {
    packet.bytes().get(6).is_some_and(|flags| flags & 0x40 != 0)
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

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv6Slice, IpNumber, SlicedPacket, TransportSlice};

    use super::*;

    const ROUTER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));
    const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99));

    fn udp_v4(src: [u8; 4], dst: [u8; 4], len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(src, dst, 64).udp(1, 2).write(&mut packet, &vec![7; len]).unwrap();
        packet
    }

    fn udp_v6(src: &str, dst: &str, len: usize) -> Vec<u8> {
        let [src, dst] = [src, dst].map(|address| address.parse::<Ipv6Addr>().unwrap().octets());
        let mut packet = Vec::new();
        PacketBuilder::ipv6(src, dst, 64).udp(1, 2).write(&mut packet, &vec![7; len]).unwrap();
        packet
    }

    fn icmp_v4(kind: u8) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .write(&mut packet, IpNumber(protocol::ICMPV4), &[kind, 0, 0, 0, 0, 0, 0, 0])
            .unwrap();
        packet
    }

    fn icmp_v6(kind: u8) -> Vec<u8> {
        let [src, dst] = ["fd00::1", "fd00::2"].map(|address| address.parse::<Ipv6Addr>().unwrap().octets());
        let mut packet = Vec::new();
        PacketBuilder::ipv6(src, dst, 64)
            .write(&mut packet, IpNumber(protocol::ICMPV6), &[kind, 0, 0, 0, 0, 0, 0, 0])
            .unwrap();
        packet
    }

    fn answer(packet: &[u8], from: IpAddr) -> Option<Vec<u8>> {
        unreachable(&IpPacket::parse(packet).unwrap(), from)
    }

    #[test]
    fn an_ipv4_packet_without_route_is_answered_with_a_quote_of_it() {
        for (len, quoted) in [(10, 38), (2000, 548)] {
            let packet = udp_v4([10, 0, 0, 1], [10, 0, 0, 2], len);
            let answer = answer(&packet, ROUTER_V4).unwrap();
            let outer = IpPacket::parse(&answer).unwrap();
            assert_eq!((outer.src(), outer.dst()), (ROUTER_V4, [10, 0, 0, 1].into()));
            let Some(TransportSlice::Icmpv4(icmp)) = SlicedPacket::from_ip(&answer).unwrap().transport else {
                panic!()
            };
            let header = icmpv4::DestUnreachableHeader::Network;
            assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(header));
            assert_eq!(icmp.payload(), &packet[..quoted]);
            let whole = Icmpv4Slice::from_slice(outer.upper()).unwrap();
            assert_eq!(whole.header().icmp_type.calc_checksum(icmp.payload()), icmp.checksum());
            assert!(answer.len() <= MAX_V4);
        }
    }

    #[test]
    fn an_ipv6_packet_without_route_is_answered_with_a_quote_of_it() {
        for (len, quoted) in [(10, 58), (2000, 1232)] {
            let packet = udp_v6("fd00::1", "fd00::2", len);
            let answer = answer(&packet, ROUTER_V6).unwrap();
            let outer = IpPacket::parse(&answer).unwrap();
            assert_eq!((outer.src(), outer.dst()), (ROUTER_V6, "fd00::1".parse().unwrap()));
            let icmp = Icmpv6Slice::from_slice(outer.upper()).unwrap();
            let code = icmpv6::DestUnreachableCode::NoRoute;
            assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(code));
            assert_eq!(icmp.payload(), &packet[..quoted]);
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (outer.src(), outer.dst()) else { panic!() };
            assert!(icmp.is_checksum_valid(src.octets(), dst.octets()));
            assert!(answer.len() <= MAX_V6);
        }
    }

    #[test]
    fn an_ipv4_packet_that_is_too_big_and_may_not_be_cut_is_answered_with_the_size_that_fits() {
        let mut packet = udp_v4([10, 0, 0, 1], [10, 0, 0, 2], 1472);
        packet[6] = 0x40;
        let answer = too_big(&IpPacket::parse(&packet).unwrap(), ROUTER_V4, 1435).unwrap();
        let outer = IpPacket::parse(&answer).unwrap();
        assert_eq!((outer.src(), outer.dst()), (ROUTER_V4, [10, 0, 0, 1].into()));
        let icmp = Icmpv4Slice::from_slice(outer.upper()).unwrap();
        let header = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1435 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(header));
        assert_eq!(icmp.payload(), &packet[..548]);
        assert_eq!(icmp.header().icmp_type.calc_checksum(icmp.payload()), icmp.checksum());
        for (mtu, answered) in [(1499, true), (1500, false), (1501, false)] {
            assert_eq!(too_big(&IpPacket::parse(&packet).unwrap(), ROUTER_V4, mtu).is_some(), answered, "{mtu}");
        }
        packet[6] = 0;
        assert_eq!(too_big(&IpPacket::parse(&packet).unwrap(), ROUTER_V4, 1435), None, "it may be fragmented");
    }

    #[test]
    fn an_ipv6_packet_that_is_too_big_is_answered_and_never_with_less_than_1280() {
        for (len, mtu, told) in
            [(1452, 1415, Some(1415)), (1452, 1191, Some(1280)), (1233, 1191, Some(1280)), (1232, 1191, None)]
        {
            let packet = udp_v6("fd00::1", "fd00::2", len);
            let answer = too_big(&IpPacket::parse(&packet).unwrap(), ROUTER_V6, mtu);
            assert_eq!(answer.is_some(), told.is_some(), "{len}");
            let (Some(answer), Some(told)) = (answer, told) else { continue };
            let outer = IpPacket::parse(&answer).unwrap();
            let icmp = Icmpv6Slice::from_slice(outer.upper()).unwrap();
            assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: told });
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (outer.src(), outer.dst()) else { panic!() };
            assert!(icmp.is_checksum_valid(src.octets(), dst.octets()));
            assert_eq!(icmp.payload(), &packet[..packet.len().min(1232)]);
        }
    }

    #[test]
    fn an_icmp_error_that_is_too_big_is_not_answered() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .write(&mut packet, IpNumber(protocol::ICMPV4), &[3; 1400])
            .unwrap();
        packet[6] = 0x40;
        assert_eq!(too_big(&IpPacket::parse(&packet).unwrap(), ROUTER_V4, 1280), None);
    }

    #[test]
    fn an_icmp_error_is_never_answered_but_an_echo_is() {
        for kind in 0..=u8::MAX {
            let is_error = [3, 4, 5, 11, 12].contains(&kind);
            assert_eq!(answer(&icmp_v4(kind), ROUTER_V4).is_none(), is_error, "ICMPv4 {kind}");
            let is_error = kind < 128 || kind == 137;
            assert_eq!(answer(&icmp_v6(kind), ROUTER_V6).is_none(), is_error, "ICMPv6 {kind}");
        }
    }

    #[test]
    fn an_answer_is_itself_never_answered() {
        let v4 = answer(&udp_v4([10, 0, 0, 1], [10, 0, 0, 2], 10), ROUTER_V4).unwrap();
        let v6 = answer(&udp_v6("fd00::1", "fd00::2", 10), ROUTER_V6).unwrap();
        assert_eq!((answer(&v4, ROUTER_V4), answer(&v6, ROUTER_V6)), (None, None));
    }

    #[test]
    fn an_icmp_packet_whose_type_is_cut_off_is_not_answered() {
        let mut packet = icmp_v4(8);
        packet.truncate(20);
        packet[2..4].copy_from_slice(&20_u16.to_be_bytes());
        assert_eq!(answer(&packet, ROUTER_V4), None);
    }

    #[test]
    fn only_the_first_fragment_is_answered() {
        let mut packet = udp_v4([10, 0, 0, 1], [10, 0, 0, 2], 10);
        (packet[6], packet[7]) = (0x20, 0);
        assert!(answer(&packet, ROUTER_V4).is_some());
        (packet[6], packet[7]) = (0x20, 1);
        assert_eq!(answer(&packet, ROUTER_V4), None);
    }

    #[test]
    fn groups_and_addresses_of_no_single_host_are_not_answered() {
        let (host, group) = ([10, 0, 0, 1], [224, 0, 0, 251]);
        for src in [[0; 4], [0, 1, 2, 3], [127, 0, 0, 1], group, [240, 0, 0, 1], [255; 4]] {
            assert_eq!(answer(&udp_v4(src, host, 1), ROUTER_V4), None, "{src:?}");
        }
        for dst in [group, [255; 4]] {
            assert_eq!(answer(&udp_v4(host, dst, 1), ROUTER_V4), None, "{dst:?}");
        }
        for (src, dst) in [("::", "fd00::1"), ("::1", "fd00::1"), ("ff02::1", "fd00::1"), ("fd00::1", "ff02::1")] {
            assert_eq!(answer(&udp_v6(src, dst, 1), ROUTER_V6), None, "{src} {dst}");
        }
    }

    #[test]
    fn a_router_address_of_the_other_version_gives_no_answer() {
        assert_eq!(answer(&udp_v4([10, 0, 0, 1], [10, 0, 0, 2], 1), ROUTER_V6), None);
        assert_eq!(answer(&udp_v6("fd00::1", "fd00::2", 1), ROUTER_V4), None);
    }
}
