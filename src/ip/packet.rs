//! One inner IP packet, checked once (PROTOCOL §11.3).
//!
//! A packet is well-formed if its version is known, its header lies within it, and its total length is the number of bytes received. Whatever
//! stands behind the IP header is the business of the two hosts: a chain of extension headers that is cut short makes a packet without ports, not
//! a malformed one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::base::{Ecn, TrafficClass};

/// IP protocol numbers (IANA) that are looked at here.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMPV4: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;

    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// Length of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// Why bytes are not a well-formed IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IpError {
    /// Neither IPv4 nor IPv6, or no bytes at all.
    #[error("the IP version is neither 4 nor 6")]
    Version,
    /// The header is shorter than it may be, or longer than the packet.
    #[error("the IP header does not fit the packet")]
    HeaderLength,
    /// The length in the header is not the number of bytes.
    #[error("the IP length is not the length of the packet")]
    TotalLength,
}

/// A well-formed IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    src: IpAddr,
    dst: IpAddr,
    class: TrafficClass,
    fragment: Fragment,
    protocol: u8,
    upper: &'a [u8],
}

impl<'a> IpPacket<'a> {
    /// Checks `bytes` for being one whole packet.
    ///
    /// # Errors
    /// Which of the checks of PROTOCOL §11.3 failed first.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IpError> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(_) | None => Err(IpError::Version),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, IpError> {
        let (fixed, rest) = bytes.split_first_chunk::<12>().ok_or(IpError::HeaderLength)?;
        let (src, rest) = rest.split_first_chunk::<4>().ok_or(IpError::HeaderLength)?;
        let (dst, rest) = rest.split_first_chunk::<4>().ok_or(IpError::HeaderLength)?;
        let options_len = (usize::from(fixed[0] & 0x0f) * 4).checked_sub(IPV4_HEADER).ok_or(IpError::HeaderLength)?;
        let payload = rest.get(options_len..).ok_or(IpError::HeaderLength)?;
        if usize::from(u16::from_be_bytes([fixed[2], fixed[3]])) != bytes.len() {
            return Err(IpError::TotalLength);
        }
        let flags_and_offset = u16::from_be_bytes([fixed[6], fixed[7]]);
        let fragment = Fragment::new(flags_and_offset & 0x1fff, flags_and_offset & 0x2000 != 0);
        Ok(Self {
            bytes,
            src: IpAddr::V4(Ipv4Addr::from(*src)),
            dst: IpAddr::V4(Ipv4Addr::from(*dst)),
            class: TrafficClass::from_byte(fixed[1]),
            fragment,
            protocol: fixed[9],
            upper: if fragment == Fragment::Later { &[] } else { payload },
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, IpError> {
        let (fixed, rest) = bytes.split_first_chunk::<8>().ok_or(IpError::HeaderLength)?;
        let (src, rest) = rest.split_first_chunk::<16>().ok_or(IpError::HeaderLength)?;
        let (dst, payload) = rest.split_first_chunk::<16>().ok_or(IpError::HeaderLength)?;
        // A jumbogram (RFC 2675) writes 0 here and is refused: no path of the overlay carries one.
        if usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) != payload.len() {
            return Err(IpError::TotalLength);
        }
        let (protocol, fragment, upper) = walk_extensions(fixed[6], payload);
        Ok(Self {
            bytes,
            src: IpAddr::V6(Ipv6Addr::from(*src)),
            dst: IpAddr::V6(Ipv6Addr::from(*dst)),
            class: TrafficClass::from_byte((fixed[0] << 4) | (fixed[1] >> 4)),
            fragment,
            protocol,
            upper,
        })
    }

    /// Source address, as written in the packet: a v4-mapped one stays IPv6.
    pub const fn src(&self) -> IpAddr {
        self.src
    }

    /// Destination address, as written in the packet.
    pub const fn dst(&self) -> IpAddr {
        self.dst
    }

    /// The upper-layer protocol: in IPv6, the one behind the extension headers. If they are cut short, the number of the header at which the walk
    /// had to stop.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Source and destination port, where the protocol has them and the packet contains them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE => {
                let &[s1, s2, d1, d2] = self.upper.first_chunk()?;
                Some((u16::from_be_bytes([s1, s2]), u16::from_be_bytes([d1, d2])))
            }
            _ => None,
        }
    }

    /// Codepoint and mark together.
    pub const fn class(&self) -> TrafficClass {
        self.class
    }

    /// Differentiated services codepoint, 0 to 63 (RFC 2474).
    pub const fn dscp(&self) -> u8 {
        self.class.dscp()
    }

    /// The mark on the inner header.
    pub const fn ecn(&self) -> Ecn {
        self.class.ecn()
    }

    /// Whether the packet is a piece of a larger one. An IPv6 packet with a fragment header that is alone (RFC 6946) is not.
    pub fn is_fragment(&self) -> bool {
        self.fragment != Fragment::Whole
    }

    /// Whether the packet is a fragment other than the first: without upper-layer header, thus without ports.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment == Fragment::Later
    }

    /// From the upper-layer header on; empty where there is none in this packet.
    pub const fn upper(&self) -> &'a [u8] {
        self.upper
    }

    /// The whole packet.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Which piece of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fragment {
    Whole,
    First,
    Later,
}

impl Fragment {
    const fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            (_, _) => Self::Later,
        }
    }
}

/// From the first next-header number to the upper-layer protocol and its bytes (RFC 8200 §4).
///
/// Every extension header is at least 8 bytes long, so the walk ends within the packet.
fn walk_extensions(first: u8, payload: &[u8]) -> (u8, Fragment, &[u8]) {
    let mut current = first;
    let mut rest = payload;
    let mut fragment = Fragment::Whole;
    loop {
        let len = match current {
            // Only right behind the IPv6 header (RFC 8200 §4.1).
            protocol::HOP_BY_HOP if rest.len() == payload.len() => extension_len(rest, 1, 8),
            protocol::ROUTING | protocol::DESTINATION_OPTIONS => extension_len(rest, 1, 8),
            // Counted in units of four bytes, less two (RFC 4302 §2.2).
            protocol::AUTHENTICATION => extension_len(rest, 2, 4),
            protocol::FRAGMENT => Some(8),
            protocol::HOP_BY_HOP => None,
            _ => return (current, fragment, rest),
        };
        let Some((header, behind)) = len.and_then(|len| rest.split_at_checked(len)) else {
            return (current, fragment, &[]);
        };
        if let (protocol::FRAGMENT, [_, _, offset_high, offset_low, ..]) = (current, header) {
            let field = u16::from_be_bytes([*offset_high, *offset_low]);
            let this = Fragment::new(field >> 3, field & 1 != 0);
            if this == Fragment::Later {
                // What follows is the middle of something; only its first header has a name.
                return (header[0], this, &[]);
            }
            if this == Fragment::First {
                fragment = this;
            }
        }
        current = header[0];
        rest = behind;
    }
}

/// Length of an extension header whose second byte counts units of `unit` bytes beyond the first `base` units.
fn extension_len(header: &[u8], base: usize, unit: usize) -> Option<usize> {
    header.get(1).map(|&units| (usize::from(units) + base) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const DST_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// An IPv4 packet from 10.0.0.1 to 10.0.0.2, with `options` behind the header.
    fn v4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + options.len();
        let [high, low] = ((header_len + payload.len()) as u16).to_be_bytes();
        let [f1, f2] = fragment.to_be_bytes();
        let fixed = [0x40 | (header_len / 4) as u8, 0xb9, high, low, 0, 1, f1, f2, 64, protocol, 0, 0];
        [&fixed[..], &[10, 0, 0, 1, 10, 0, 0, 2], options, payload].concat()
    }

    /// An IPv6 packet from fd00::1 to fd00::2.
    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (payload.len() as u16).to_be_bytes();
        [&[0x6b, 0x90, 0, 0, high, low, next, 64][..], &SRC_V6, &DST_V6, payload].concat()
    }

    /// An options or routing header of `8 + 8 * units` bytes.
    fn options(next: u8, units: u8) -> Vec<u8> {
        let mut header = vec![0; 8 + 8 * usize::from(units)];
        (header[0], header[1]) = (next, units);
        header
    }

    fn fragment_header(next: u8, offset: u16, more: bool) -> Vec<u8> {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        vec![next, 0, high, low, 0, 0, 0, 9]
    }

    /// Ports 1025 and 53.
    const PORTS: [u8; 8] = [4, 1, 0, 53, 0, 8, 0, 0];

    fn error(bytes: &[u8]) -> Option<IpError> {
        IpPacket::parse(bytes).err()
    }

    #[test]
    fn an_ipv4_packet_shows_its_fields() {
        let bytes = v4(protocol::UDP, 0, &[], &PORTS);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.src(), packet.dst()), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!((packet.protocol(), packet.ports()), (protocol::UDP, Some((1025, 53))));
        assert_eq!((packet.dscp(), packet.ecn(), packet.is_fragment()), (46, Ecn::Ect1, false));
        assert_eq!((packet.upper(), packet.bytes()), (&PORTS[..], &bytes[..]));
    }

    #[test]
    fn an_ipv6_packet_shows_its_fields() {
        let bytes = v6(protocol::TCP, &PORTS);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.src(), packet.dst()), (SRC_V6.into(), DST_V6.into()));
        assert_eq!((packet.protocol(), packet.ports()), (protocol::TCP, Some((1025, 53))));
        assert_eq!((packet.dscp(), packet.ecn(), packet.is_fragment()), (46, Ecn::Ect1, false));
        assert_eq!(packet.upper(), &PORTS);
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        for (bytes, header_len) in [(v4(protocol::UDP, 0, &[1; 8], &PORTS), 28), (v6(protocol::UDP, &PORTS), 40)] {
            assert_eq!(error(&[]), Some(IpError::Version));
            for len in 1..header_len {
                assert_eq!(error(&bytes[..len]), Some(IpError::HeaderLength), "{len} bytes");
            }
            for len in header_len..bytes.len() {
                assert_eq!(error(&bytes[..len]), Some(IpError::TotalLength), "{len} bytes");
            }
            assert_eq!(error(&bytes), None);
            assert_eq!(error(&[&bytes[..], &[0]].concat()), Some(IpError::TotalLength));
        }
    }

    #[test]
    fn only_versions_four_and_six_are_known() {
        let mut bytes = v4(protocol::UDP, 0, &[], &PORTS);
        for version in (0..16).filter(|version| ![4, 6].contains(version)) {
            bytes[0] = version << 4 | 5;
            assert_eq!(error(&bytes), Some(IpError::Version));
        }
    }

    #[test]
    fn an_ipv4_header_shorter_than_the_least_is_refused() {
        let mut bytes = v4(protocol::UDP, 0, &[], &PORTS);
        for words in 0..5 {
            bytes[0] = 0x40 | words;
            assert_eq!(error(&bytes), Some(IpError::HeaderLength));
        }
    }

    #[test]
    fn ports_stand_behind_ipv4_options() {
        let bytes = v4(protocol::SCTP, 0, &[1; 40], &PORTS);
        assert_eq!(IpPacket::parse(&bytes).unwrap().ports(), Some((1025, 53)));
    }

    #[test]
    fn only_five_protocols_have_ports() {
        for number in 0..=u8::MAX {
            let bytes = v4(number, 0, &[], &PORTS);
            let has_ports = [6, 17, 33, 132, 136].contains(&number);
            assert_eq!(IpPacket::parse(&bytes).unwrap().ports().is_some(), has_ports, "protocol {number}");
        }
    }

    #[test]
    fn ports_that_are_cut_short_are_none() {
        for len in 0..4 {
            let (v4, v6) = (v4(protocol::UDP, 0, &[], &PORTS[..len]), v6(protocol::UDP, &PORTS[..len]));
            assert_eq!(IpPacket::parse(&v4).unwrap().ports(), None);
            assert_eq!(IpPacket::parse(&v6).unwrap().ports(), None);
        }
    }

    #[test]
    fn only_the_first_ipv4_fragment_has_ports() {
        let (dont, more) = (0x4000, 0x2000);
        for (field, is_fragment, is_later) in
            [(0, false, false), (dont, false, false), (more, true, false), (more | 1, true, true), (0x1fff, true, true)]
        {
            let bytes = v4(protocol::UDP, field, &[], &PORTS);
            let packet = IpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.is_fragment(), packet.is_later_fragment()), (is_fragment, is_later), "{field:04x}");
            assert_eq!(packet.ports().is_none(), is_later, "{field:04x}");
        }
    }

    #[test]
    fn extension_headers_are_walked_to_the_upper_layer() {
        // Hop-by-hop, destination options, routing, fragment (alone), authentication, destination options, UDP.
        let mut authentication = vec![0; 24];
        (authentication[0], authentication[1]) = (60, 4);
        let chain = [
            options(60, 0),
            options(43, 2),
            options(44, 1),
            fragment_header(51, 0, false),
            authentication,
            options(17, 255),
            PORTS.to_vec(),
        ]
        .concat();
        let bytes = v6(0, &chain);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.ports()), (protocol::UDP, Some((1025, 53))));
        assert!(!packet.is_fragment());
    }

    #[test]
    fn a_chain_that_is_cut_short_has_no_ports_and_names_the_header() {
        let chain = [options(44, 1), fragment_header(6, 0, true), PORTS.to_vec()].concat();
        for len in 0..chain.len() {
            let bytes = v6(60, &chain[..len]);
            let packet = IpPacket::parse(&bytes).unwrap();
            let expected = if len < 16 {
                60
            } else if len < 24 {
                44
            } else {
                6
            };
            assert_eq!(packet.protocol(), expected, "{len} bytes");
            assert_eq!(packet.ports(), (len >= 28).then_some((1025, 53)), "{len} bytes");
        }
    }

    #[test]
    fn hop_by_hop_options_elsewhere_than_in_front_stop_the_walk() {
        let bytes = v6(60, &[options(0, 0), options(17, 0), PORTS.to_vec()].concat());
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.ports(), packet.upper()), (0, None, &[][..]));
    }

    #[test]
    fn only_the_first_ipv6_fragment_has_ports() {
        for (offset, more, is_fragment, is_later) in
            [(0, false, false, false), (0, true, true, false), (1, true, true, true), (0x1fff, false, true, true)]
        {
            let bytes = v6(44, &[fragment_header(17, offset, more), PORTS.to_vec()].concat());
            let packet = IpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.is_fragment(), packet.is_later_fragment()), (is_fragment, is_later), "{offset}");
            assert_eq!((packet.protocol(), packet.ports().is_none()), (protocol::UDP, is_later), "{offset}");
        }
    }

    #[test]
    fn a_tunnel_in_the_tunnel_is_seen_from_outside() {
        let bytes = v6(4, &v4(protocol::UDP, 0, &[], &PORTS));
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.src(), packet.protocol(), packet.ports()), (SRC_V6.into(), 4, None));
    }

    #[test]
    fn the_longest_chain_of_headers_ends() {
        let chain: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].into_iter().cycle().take(65_528).collect();
        let bytes = v6(60, &chain);
        assert_eq!(IpPacket::parse(&bytes).unwrap().protocol(), 60);
    }
}
