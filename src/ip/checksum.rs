//! The Internet checksum (RFC 1071), and that of TCP and UDP over a whole inner packet.

use std::net::IpAddr;
use std::ops::Add;

use thiserror::Error;

use super::packet::{IpError, IpPacket, protocol};

/// A ones' complement sum of 16-bit words that is not folded yet.
///
/// It is kept in the byte order of this machine, in which the sum comes out the same but for a swap at the end (RFC 1071 §2 B). No more than 4 GiB
/// may be added to one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`, which begin a word; an odd one at the end is the first half of its word.
    pub fn of(bytes: &[u8]) -> Self {
        // Words of 32 bits are congruent to the sum of their halves, and a loop without carries is made of vector instructions.
        let (words, tail) = bytes.as_chunks::<4>();
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// One word.
    pub const fn word(word: u16) -> Self {
        Self(word.to_be() as u64)
    }

    /// The pseudo-header of `packet` for `len` bytes of its upper-layer protocol (RFC 9293 §3.1, RFC 8200 §8.1).
    pub fn pseudo_header(packet: &IpPacket<'_>, len: u16) -> Self {
        let address = |ip| match ip {
            IpAddr::V4(v4) => Self::of(&v4.octets()),
            IpAddr::V6(v6) => Self::of(&v6.octets()),
        };
        address(packet.src()) + address(packet.dst()) + Self::word(packet.protocol().into()) + Self::word(len)
    }

    /// The sum in 16 bits.
    pub const fn fold(self) -> u16 {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the sum.
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// A protocol whose checksum can be left to the receiver, for a packet says all that is needed to compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The protocol of `packet`.
    ///
    /// # Errors
    /// See [`ChecksumError`].
    pub fn of(packet: &IpPacket<'_>) -> Result<Self, ChecksumError> {
        if packet.is_fragment() {
            return Err(ChecksumError::Fragment);
        }
        let upper = packet.upper();
        match packet.protocol() {
            protocol::TCP if upper.len() >= 20 => Ok(Self::Tcp),
            protocol::UDP if upper.len() >= 8 => {
                let len = usize::from(u16::from_be_bytes([upper[4], upper[5]]));
                if len == upper.len() { Ok(Self::Udp) } else { Err(ChecksumError::UdpLength) }
            }
            protocol::TCP | protocol::UDP => Err(ChecksumError::Truncated),
            _ => Err(ChecksumError::Protocol),
        }
    }

    /// Where the checksum stands in the header of the protocol.
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    /// The checksum whose words, without itself, have the sum `sum`: zero says *none* in UDP and is written as its other form (RFC 768).
    pub const fn checksum(self, sum: Sum) -> u16 {
        match (self, sum.checksum()) {
            (Self::Udp, 0) => 0xffff,
            (_, checksum) => checksum,
        }
    }

    /// The checksum that `packet`, which must be of this protocol, should have.
    pub fn checksum_of(self, packet: &IpPacket<'_>) -> u16 {
        let upper = packet.upper();
        let (before, rest) = upper.split_at(self.checksum_offset());
        let pseudo_header = Sum::pseudo_header(packet, upper.len() as u16);
        self.checksum(pseudo_header + Sum::of(before) + Sum::of(&rest[2..]))
    }
}

/// Writes the TCP or UDP checksum of `packet`, whatever stood in its place.
///
/// # Errors
/// See [`ChecksumError`]; the packet is left as it was.
pub fn complete(packet: &mut [u8]) -> Result<(), ChecksumError> {
    let ip = IpPacket::parse(packet)?;
    let transport = Transport::of(&ip)?;
    let checksum = transport.checksum_of(&ip);
    let at = packet.len() - ip.upper().len() + transport.checksum_offset();
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// Whether `packet` is well-formed, and the checksums of its IPv4 header, TCP and UDP, as far as it has them, are right.
pub fn is_valid(packet: &[u8]) -> bool {
    let Ok(ip) = IpPacket::parse(packet) else { return false };
    if ip.src().is_ipv4() && Sum::of(&packet[..usize::from(packet[0] & 0x0f) * 4]).checksum() != 0 {
        return false;
    }
    let Ok(transport) = Transport::of(&ip) else { return true };
    let upper = ip.upper();
    let at = transport.checksum_offset();
    if transport == Transport::Udp && upper[at..at + 2] == [0, 0] {
        return ip.src().is_ipv4();
    }
    (Sum::pseudo_header(&ip, upper.len() as u16) + Sum::of(upper)).checksum() == 0
}

/// Why the checksum of a packet cannot be computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChecksumError {
    /// It is no packet.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// The checksum covers more than this fragment.
    #[error("a fragment has no checksum of its own")]
    Fragment,
    /// Neither TCP nor UDP.
    #[error("the protocol is neither TCP nor UDP")]
    Protocol,
    /// The header does not end within the packet.
    #[error("the header of TCP or UDP is cut short")]
    Truncated,
    /// The length that UDP states is not that of what is there.
    #[error("the UDP length is not the length of the packet")]
    UdpLength,
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader, UdpHeader};
    use proptest::prelude::*;

    use super::*;

    const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 255, 0, 2]);
    const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfe; 16]);

    /// A TCP or UDP packet with the checksums of the reference.
    fn packet(v6: bool, udp: bool, payload: &[u8]) -> Vec<u8> {
        let builder = if v6 { PacketBuilder::ipv6(V6.0, V6.1, 64) } else { PacketBuilder::ipv4(V4.0, V4.1, 64) };
        let mut bytes = Vec::new();
        if udp {
            builder.udp(1025, 53).write(&mut bytes, payload).unwrap();
        } else {
            builder.tcp(1025, 80, 77, 1000).ack(5).write(&mut bytes, payload).unwrap();
        }
        bytes
    }

    fn field(v6: bool, udp: bool) -> usize {
        (if v6 { 40 } else { 20 }) + if udp { 6 } else { 16 }
    }

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
        assert_eq!(Sum::of(&[]).checksum(), 0xffff);
        assert_eq!(Sum::of(&[0x12]).fold(), 0x1200);
        assert_eq!((Sum::of(&[0xff; 70_000]) + Sum::word(1)).fold(), 1);
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_its_words_one_by_one(bytes in prop::collection::vec(any::<u8>(), 0..200), word: u16) {
            let mut slow = u32::from(word);
            for pair in bytes.chunks(2) {
                slow += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            }
            while slow > 0xffff {
                slow = (slow >> 16) + (slow & 0xffff);
            }
            prop_assert_eq!(u32::from((Sum::of(&bytes) + Sum::word(word)).fold()), slow);
        }

        #[test]
        fn a_completed_packet_is_that_of_the_reference(
            v6: bool, udp: bool, payload in prop::collection::vec(any::<u8>(), 0..2000), junk: u16,
        ) {
            let reference = packet(v6, udp, &payload);
            prop_assert!(is_valid(&reference));
            let mut bytes = reference.clone();
            bytes[field(v6, udp)..][..2].copy_from_slice(&junk.to_be_bytes());
            complete(&mut bytes).unwrap();
            prop_assert_eq!(bytes, reference);
        }

        #[test]
        fn a_packet_with_one_bit_wrong_is_not_valid(
            v6: bool, udp: bool, payload in prop::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let mut bytes = packet(v6, udp, &payload);
            let begin = field(v6, udp) + 2;
            let at = begin + at.index(bytes.len() - begin);
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(!is_valid(&bytes));
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_is_written_as_ones() {
        for v6 in [false, true] {
            let mut bytes = packet(v6, true, &[0, 0]);
            let at = field(v6, true);
            // The payload that brings the sum to zero is the checksum of the packet without it.
            let checksum = [bytes[at], bytes[at + 1]];
            bytes[at + 2..].copy_from_slice(&checksum);
            complete(&mut bytes).unwrap();
            assert_eq!(bytes[at..at + 2], [0xff, 0xff]);
            assert!(is_valid(&bytes));
        }
    }

    #[test]
    fn udp_without_checksum_is_valid_in_ipv4_only() {
        for v6 in [false, true] {
            let mut bytes = packet(v6, true, b"payload");
            bytes[field(v6, true)..][..2].fill(0);
            assert_eq!(is_valid(&bytes), !v6);
        }
    }

    #[test]
    fn the_header_is_found_behind_options_and_extension_headers() {
        let udp = UdpHeader { source_port: 1, destination_port: 2, length: 11, checksum: 0 };
        let mut ipv4 = Ipv4Header::new(0, 64, etherparse::ip_number::UDP, V4.0, V4.1).unwrap();
        ipv4.options = [1; 8].into();
        ipv4.set_payload_len(11).unwrap();
        ipv4.header_checksum = ipv4.calc_header_checksum();
        let mut v4 = Vec::new();
        ipv4.write(&mut v4).unwrap();
        v4.extend([&udp.to_bytes()[..], b"abc"].concat());
        complete(&mut v4).unwrap();
        let expected = udp.calc_checksum_ipv4_raw(V4.0, V4.1, b"abc").unwrap();
        assert_eq!(v4[34..36], expected.to_be_bytes());
        assert!(is_valid(&v4));

        let tcp = TcpHeader::new(1, 2, 3, 4);
        let (len, next) = (8 + tcp.header_len_u16() + 3, etherparse::ip_number::IPV6_DESTINATION_OPTIONS);
        let ipv6 = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: len,
            next_header: next,
            hop_limit: 64,
            source: V6.0,
            destination: V6.1,
        };
        let mut v6 = Vec::new();
        ipv6.write(&mut v6).unwrap();
        v6.extend([&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp.to_bytes(), b"abc"].concat());
        complete(&mut v6).unwrap();
        let expected = tcp.calc_checksum_ipv6_raw(V6.0, V6.1, b"abc").unwrap();
        assert_eq!(v6[64..66], expected.to_be_bytes());
        assert!(is_valid(&v6));
    }

    #[test]
    fn a_packet_without_such_a_checksum_is_left_as_it_is() {
        let whole = packet(false, true, b"payload");
        let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = whole.clone();
            change(&mut bytes);
            let before = bytes.clone();
            let error = complete(&mut bytes).unwrap_err();
            assert_eq!(bytes, before);
            error
        };
        let fragment = IpFragOffset::try_new(1).unwrap().value().to_be_bytes();
        assert_eq!(spoil(&|bytes| bytes[6..8].copy_from_slice(&fragment)), ChecksumError::Fragment);
        assert_eq!(spoil(&|bytes| bytes[6] = 0x20), ChecksumError::Fragment);
        assert_eq!(spoil(&|bytes| bytes[9] = protocol::ICMPV4), ChecksumError::Protocol);
        assert_eq!(spoil(&|bytes| bytes[9] = protocol::TCP), ChecksumError::Truncated);
        assert_eq!(spoil(&|bytes| bytes[25] -= 1), ChecksumError::UdpLength);
        assert_eq!(spoil(&|bytes| bytes.push(0)), ChecksumError::Ip(IpError::TotalLength));
    }
}
