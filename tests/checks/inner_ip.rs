//! `IpPacket` against etherparse as the reference; used by the fuzz target, by the tests that replay its corpus and by those on made-up packets.

use etherparse::{IpPayloadSlice, IpSlice, TcpSlice, UdpSlice};
use handfast::base::Ecn;
use handfast::ip::IpPacket;
use handfast::ip::packet::protocol::{TCP, UDP};

/// Where both take `bytes` for a packet, they say the same about it.
pub(crate) fn inner_ip(bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else { return };
    assert_eq!(packet.bytes(), bytes);
    assert!(bytes.ends_with(packet.upper()));
    assert!(!packet.is_later_fragment() || (packet.ports().is_none() && packet.upper().is_empty()));

    // Refuses also what is none of our business, such as a chain of extension headers that is cut short.
    let Ok(reference) = IpSlice::from_slice(bytes) else { return };
    assert_eq!(packet.src(), reference.source_addr());
    assert_eq!(packet.dst(), reference.destination_addr());
    assert_eq!(packet.is_fragment(), reference.is_fragmenting_payload());
    match &reference {
        IpSlice::Ipv4(v4) => {
            let header = v4.header();
            assert_eq!((packet.dscp(), codepoint(packet.ecn())), (header.dcp().value(), header.ecn().value()));
            // The reference goes on behind an authentication header also in IPv4.
            assert_eq!(packet.protocol(), header.protocol().0);
            assert_eq!(packet.is_later_fragment(), header.fragments_offset().value() != 0);
            if v4.extensions().is_empty() {
                upper(&packet, v4.payload());
            }
        }
        IpSlice::Ipv6(v6) => {
            let class = v6.header().traffic_class();
            assert_eq!((packet.dscp(), codepoint(packet.ecn())), (class >> 2, class & 3));
            // In a later fragment, the reference reads the middle of something as headers.
            if !packet.is_later_fragment() {
                assert_eq!(packet.protocol(), v6.payload().ip_number.0);
                upper(&packet, v6.payload());
            }
        }
    }
}

fn codepoint(ecn: Ecn) -> u8 {
    match ecn {
        Ecn::NotEct => 0b00,
        Ecn::Ect1 => 0b01,
        Ecn::Ect0 => 0b10,
        Ecn::Ce => 0b11,
    }
}

/// The same bytes behind all IP headers, and the same ports in them.
fn upper(packet: &IpPacket<'_>, reference: &IpPayloadSlice<'_>) {
    if packet.is_later_fragment() {
        return;
    }
    assert_eq!(packet.upper(), reference.payload);
    let ports = match packet.protocol() {
        TCP => TcpSlice::from_slice(reference.payload).map(|tcp| (tcp.source_port(), tcp.destination_port())).ok(),
        UDP => UdpSlice::from_slice(reference.payload).map(|udp| (udp.source_port(), udp.destination_port())).ok(),
        _ => None,
    };
    // The reference wants the whole header, we only the ports.
    if ports.is_some() {
        assert_eq!(packet.ports(), ports);
    }
}
