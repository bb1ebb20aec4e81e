//! Where the fields stand that differ between a super packet and its pieces.

use crate::ip::IpPacket;
use crate::ip::checksum::{Sum, Transport};

/// Flags of TCP, in byte 13 of its header.
pub(super) mod tcp {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const SYN: u8 = 0x02;
    pub(in super::super) const RST: u8 = 0x04;
    pub(in super::super) const PSH: u8 = 0x08;
    pub(in super::super) const URG: u8 = 0x20;
    pub(in super::super) const CWR: u8 = 0x80;

    /// Where the sequence number begins, and where the flags stand.
    pub(in super::super) const SEQUENCE: usize = 4;
    pub(in super::super) const FLAGS: usize = 13;

    /// Kinds of options.
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MD5: u8 = 19;
    pub(super) const AUTHENTICATION: u8 = 29;
}

/// Lengths of the IP headers without options and extension headers.
pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Where IPv4 has its identification.
const IDENTIFICATION: usize = 4;

/// The headers of a TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) is_v4: bool,
    pub(super) transport: Transport,
    /// Where the TCP or UDP header begins.
    pub(super) start: usize,
    /// Where it ends, and the payload begins.
    pub(super) end: usize,
}

impl Headers {
    /// `None` if the headers are not those of a whole TCP or UDP packet.
    pub(super) fn of(packet: &IpPacket<'_>) -> Option<Self> {
        let transport = Transport::of(packet).ok()?;
        let upper = packet.upper();
        let (len, least) = match transport {
            Transport::Tcp => (usize::from(upper[12] >> 4) * 4, TCP_HEADER),
            Transport::Udp => (UDP_HEADER, UDP_HEADER),
        };
        if len < least || len > upper.len() {
            return None;
        }
        let start = packet.bytes().len() - upper.len();
        Some(Self { is_v4: packet.src().is_ipv4(), transport, start, end: start + len })
    }

    /// Where the checksum of TCP or UDP stands.
    pub(super) const fn checksum(&self) -> usize {
        self.start + self.transport.checksum_offset()
    }

    /// Whether there are neither IPv4 options nor IPv6 extension headers.
    pub(super) const fn is_simple(&self) -> bool {
        self.start == if self.is_v4 { IPV4_HEADER } else { IPV6_HEADER }
    }

    /// Makes `headers` those of a packet of `total` bytes whose IPv4 identification is `ahead` of theirs.
    pub(super) fn adapt(&self, headers: &mut [u8], total: usize, ahead: u16) {
        if self.is_v4 {
            headers[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            let identification = read_u16(headers, IDENTIFICATION).wrapping_add(ahead);
            headers[IDENTIFICATION..][..2].copy_from_slice(&identification.to_be_bytes());
            headers[10..12].fill(0);
            let checksum = Sum::of(&headers[..self.start]).checksum();
            headers[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            headers[4..6].copy_from_slice(&((total - IPV6_HEADER) as u16).to_be_bytes());
        }
        if self.transport == Transport::Udp {
            headers[self.start + 4..][..2].copy_from_slice(&((total - self.start) as u16).to_be_bytes());
        }
    }

    /// The IPv4 identification of a packet with these headers, if it means anything: one that must not be fragmented is identified by nothing
    /// (RFC 6864 §4.1).
    pub(super) fn identification(&self, packet: &[u8]) -> Option<u16> {
        let must_not_be_fragmented = !self.is_v4 || packet[6] & 0x40 != 0;
        (!must_not_be_fragmented).then(|| read_u16(packet, IDENTIFICATION))
    }

    /// The flags of TCP; none for UDP.
    pub(super) fn flags(&self, packet: &[u8]) -> u8 {
        match self.transport {
            Transport::Tcp => packet[self.start + tcp::FLAGS],
            Transport::Udp => 0,
        }
    }

    /// Whether the segment is signed as a whole (RFC 2385, RFC 5925).
    pub(super) fn is_signed(&self, packet: &[u8]) -> bool {
        let mut options = match self.transport {
            Transport::Tcp => &packet[self.start + TCP_HEADER..self.end],
            Transport::Udp => &[],
        };
        loop {
            options = match options {
                [] | [tcp::END, ..] => return false,
                [tcp::MD5 | tcp::AUTHENTICATION, ..] => return true,
                [tcp::NO_OPERATION, rest @ ..] => rest,
                // Shorter than its own header, it would never end.
                [_, rest @ ..] => {
                    options.get(rest.first().map_or(1, |&length| length.max(2).into())..).unwrap_or_default()
                }
            };
        }
    }

    /// The sequence number of TCP; 0 for UDP.
    pub(super) fn sequence(&self, packet: &[u8]) -> u32 {
        match (self.transport, packet[self.start + tcp::SEQUENCE..].first_chunk()) {
            (Transport::Tcp, Some(bytes)) => u32::from_be_bytes(*bytes),
            (_, _) => 0,
        }
    }
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
