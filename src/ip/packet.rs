//! One inner IP packet, checked once (PROTOCOL §11.3).
//!
//! A packet is well-formed if its version is known, its header lies within it, and its total length is the number of bytes received. Whatever
//! stands behind the IP header is the business of the two hosts: a chain of extension headers that is cut short makes a packet without ports, not
//! a malformed one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::base::Ecn;

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
    traffic_class: u8,
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
            traffic_class: fixed[1],
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
            traffic_class: (fixed[0] << 4) | (fixed[1] >> 4),
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

    /// Differentiated services codepoint, 0 to 63 (RFC 2474).
    pub const fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// The mark on the inner header.
    pub const fn ecn(&self) -> Ecn {
        match self.traffic_class & 0b11 {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
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
