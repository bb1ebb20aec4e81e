//! Congestion marks between the outer and the inner header (RFC 6040).
//!
//! A datagram carries the mark of the packet inside, so a router that is congested can mark it instead of dropping it, and what the router says reaches the
//! receiver of the inner packet.

use super::mss::updated;
use crate::base::Ecn;

/// What the inner packet says after its datagram arrived with `outer` (RFC 6040 §4.2). `None` if it must be dropped: a router met congestion, and the
/// sender would not learn of it otherwise.
pub const fn decapsulate(outer: Ecn, inner: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::NotEct, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1) => Some(Ecn::NotEct),
        (Ecn::Ce, _) | (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Some(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) | (Ecn::Ect1, _) => Some(Ecn::Ect1),
        (Ecn::Ect0, Ecn::NotEct | Ecn::Ect0) => Some(Ecn::Ect0),
    }
}

/// Writes `ecn` into the header of an IP packet, and corrects the checksum of an IPv4 header. Bytes that are no IP packet stay as they are.
pub fn mark(packet: &mut [u8], ecn: Ecn) {
    let bits = ecn.bits();
    match packet {
        [first, class, _, _, _, _, _, _, _, _, high, low, ..] if *first >> 4 == 4 => {
            let before = u16::from_be_bytes([*first, *class]);
            *class = (*class & !0b11) | bits;
            let after = u16::from_be_bytes([*first, *class]);
            [*high, *low] = updated(u16::from_be_bytes([*high, *low]), before, after).to_be_bytes();
        }
        [first, second, ..] if *first >> 4 == 6 => *second = (*second & !0b0011_0000) | (bits << 4),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::ip::IpPacket;

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];

    #[test]
    fn the_table_of_rfc_6040_holds() {
        let rows = [
            (Ecn::NotEct, [Some(Ecn::NotEct), Some(Ecn::NotEct), Some(Ecn::NotEct), None]),
            (Ecn::Ect0, [Some(Ecn::Ect0), Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)]),
            (Ecn::Ect1, [Some(Ecn::Ect1), Some(Ecn::Ect1), Some(Ecn::Ect1), Some(Ecn::Ce)]),
            (Ecn::Ce, [Some(Ecn::Ce); 4]),
        ];
        for (inner, expected) in rows {
            assert_eq!(ALL.map(|outer| decapsulate(outer, inner)), expected, "{inner:?}");
        }
    }

    #[test]
    fn a_mark_changes_the_mark_alone_and_the_header_stays_valid() {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2).write(&mut v4, b"data").unwrap();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(1, 2).write(&mut v6, b"data").unwrap();
        // The class of traffic around it, with a checksum to match.
        v4[1] = 0xb8;
        let sum = etherparse::Ipv4HeaderSlice::from_slice(&v4).unwrap().to_header().calc_header_checksum();
        v4[10..12].copy_from_slice(&sum.to_be_bytes());
        v6[0] = 0x6b;
        v6[1] = 0x85;
        for packet in [&mut v4, &mut v6] {
            let before = packet.clone();
            for ecn in ALL {
                mark(packet, ecn);
                let seen = IpPacket::parse(packet).unwrap();
                assert_eq!((seen.ecn(), seen.dscp()), (ecn, 0xb8 >> 2));
                if packet[0] >> 4 == 4 {
                    let header = etherparse::Ipv4HeaderSlice::from_slice(packet).unwrap().to_header();
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                }
            }
            mark(packet, Ecn::NotEct);
            assert_eq!(*packet, before);
        }
        let mut junk = [0x40, 1, 2];
        mark(&mut junk, Ecn::Ce);
        assert_eq!(junk, [0x40, 1, 2]);
    }
}
