//! What the kernel hands over in one read, cut into pieces that are IP packets.
//!
//! The pieces are those that the kernel itself would make (`tcp_gso_segment`, `__udp_gso_segment`), so that the hosts at both ends cannot tell the difference;
//! TCP may be cut finer, for it is a stream.

use thiserror::Error;

use super::header::{Headers, read_u16, tcp};
use super::vnet::{Gso, VnetHeader};
use crate::base::Ecn;
use crate::ip::checksum::{Sum, Transport};
use crate::ip::{IpError, IpPacket};

/// How one read is cut into pieces; [`plan`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    packet: IpPacket<'a>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Complete, and copied as it is.
    Verbatim,
    /// In one piece, with a checksum from `start` on that we do not understand, to be written at `field`.
    Summed {
        start: usize,
        field: usize,
    },
    Cut(Cut),
}

/// Looks at one packet that was read from the TUN device, with its header, and decides how to cut it into pieces of at most `limit` bytes.
///
/// What cannot be cut that small is left in larger pieces: datagrams, and packets that the host did not leave to us to finish.
///
/// # Errors
/// See [`SplitError`].
pub fn plan<'a>(header: &VnetHeader, packet: IpPacket<'a>, limit: usize) -> Result<Plan<'a>, SplitError> {
    let shape = match header.gso().ok_or(SplitError::GsoType)? {
        Gso::None if !header.needs_checksum() => Shape::Verbatim,
        Gso::None => unfinished(header, &packet, limit)?,
        gso => Shape::Cut(Cut::super_packet(header, gso, &packet, limit)?),
    };
    Ok(Plan { packet, shape })
}

impl<'a> Plan<'a> {
    /// How many pieces there are: at least one.
    pub const fn len(&self) -> usize {
        match &self.shape {
            Shape::Verbatim | Shape::Summed { .. } => 1,
            Shape::Cut(cut) => cut.count,
        }
    }

    /// Never: there is always a piece.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Length of piece `index` in bytes. It may be more than the limit, see [`plan`].
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_len(&self, index: usize) -> usize {
        match &self.shape {
            Shape::Verbatim | Shape::Summed { .. } => {
                assert_eq!(index, 0, "there is one piece");
                self.packet.bytes().len()
            }
            Shape::Cut(cut) => cut.headers.end + cut.payload(self.packet.bytes(), index).len(),
        }
    }

    /// Writes piece `index` to `out`.
    ///
    /// # Panics
    /// If there is no such piece, or `out` is not of its length.
    pub fn write(&self, index: usize, out: &mut [u8], checksum: Checksum) {
        let bytes = self.packet.bytes();
        match &self.shape {
            Shape::Verbatim => out.copy_from_slice(bytes),
            Shape::Summed { start, field } => {
                out.copy_from_slice(bytes);
                // The field has the sum of the pseudo-header. Zero may mean that there is no checksum.
                let sum = Sum::of(&bytes[*start..]).checksum();
                let sum = if sum == 0 { 0xffff } else { sum };
                out[*field..*field + 2].copy_from_slice(&sum.to_be_bytes());
            }
            Shape::Cut(cut) => cut.write(bytes, index, out, checksum),
        }
    }

    /// Whether the checksum of the pieces can be left to a receiver that completes it; otherwise [`Plan::write`] never leaves it out.
    pub const fn is_partial(&self) -> bool {
        match &self.shape {
            Shape::Verbatim | Shape::Summed { .. } => false,
            Shape::Cut(cut) => cut.is_partial,
        }
    }

    /// The mark on all pieces.
    pub const fn ecn(&self) -> Ecn {
        self.packet.ecn()
    }

    /// What was read, uncut: its addresses, protocol and ports are those of all pieces.
    pub const fn packet(&self) -> &IpPacket<'a> {
        &self.packet
    }
}

/// What becomes of a TCP or UDP checksum that the host has not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is left to the receiver: the field is zero.
    Partial,
    /// It is computed.
    Complete,
}

/// A TCP or UDP packet that the host left to us to finish.
#[derive(Clone, Copy, Debug)]
struct Cut {
    headers: Headers,
    /// Payload of each piece but the last.
    segment: usize,
    count: usize,
    /// Sum of the pseudo-header without the length.
    seed: Sum,
    /// Whether it is the sum of the addresses in the packet, so that it can be found again. With a source route, it is not.
    is_partial: bool,
}

impl Cut {
    fn super_packet(header: &VnetHeader, gso: Gso, packet: &IpPacket<'_>, limit: usize) -> Result<Self, SplitError> {
        let headers = Headers::of(packet).ok_or(SplitError::Headers)?;
        let is_of_type = match gso {
            Gso::None => false,
            Gso::Tcpv4 => headers.transport == Transport::Tcp && headers.is_v4,
            Gso::Tcpv6 => headers.transport == Transport::Tcp && !headers.is_v4,
            Gso::Udp => headers.transport == Transport::Udp,
        };
        if !is_of_type || headers.flags(packet.bytes()) & (tcp::SYN | tcp::RST) != 0 {
            return Err(SplitError::Headers);
        }
        let segment = match (usize::from(header.gso_size), headers.transport) {
            (0, _) => return Err(SplitError::GsoSize),
            (size, Transport::Tcp) => match limit.saturating_sub(headers.end) {
                0 => size,
                room => size.min(room),
            },
            (size, Transport::Udp) => size,
        };
        if header.needs_checksum() {
            if !points_at(header, &headers) {
                return Err(SplitError::ChecksumField);
            }
            return Ok(Self::new(headers, packet, segment));
        }
        // The kernel, too, takes the checksum of a forwarded super packet for checked and makes new ones.
        let seed = Sum::pseudo_header(packet, 0);
        Ok(Self { seed, is_partial: true, ..Self::new(headers, packet, segment) })
    }

    fn new(headers: Headers, packet: &IpPacket<'_>, segment: usize) -> Self {
        let bytes = packet.bytes();
        let len = packet.upper().len() as u16;
        let seed = read_u16(bytes, headers.checksum());
        Self {
            headers,
            segment,
            count: (bytes.len() - headers.end).div_ceil(segment).max(1),
            // To subtract is to add the complement.
            seed: Sum::word(seed) + Sum::word(!len),
            is_partial: seed % 0xffff == Sum::pseudo_header(packet, len).fold() % 0xffff,
        }
    }

    fn payload<'p>(&self, packet: &'p [u8], index: usize) -> &'p [u8] {
        assert!(index < self.count, "there are {} pieces", self.count);
        let rest = &packet[self.headers.end + index * self.segment..];
        &rest[..rest.len().min(self.segment)]
    }

    fn write(&self, packet: &[u8], index: usize, out: &mut [u8], checksum: Checksum) {
        let Headers { start, end, transport, .. } = self.headers;
        let total = out.len();
        let (headers, body) = out.split_at_mut(end);
        headers.copy_from_slice(&packet[..end]);
        body.copy_from_slice(self.payload(packet, index));
        if self.count > 1 {
            self.headers.adapt(headers, total, index as u16);
            if transport == Transport::Tcp {
                let ahead = (index * self.segment) as u32;
                let sequence = self.headers.sequence(packet).wrapping_add(ahead);
                headers[start + tcp::SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
                let first = if index == 0 { tcp::CWR } else { 0 };
                let last = if index + 1 == self.count { tcp::FIN | tcp::PSH } else { 0 };
                headers[start + tcp::FLAGS] &= !(tcp::CWR | tcp::FIN | tcp::PSH) | first | last;
            }
        }
        let field = self.headers.checksum();
        out[field..field + 2].fill(0);
        if checksum == Checksum::Complete || !self.is_partial {
            let sum = self.seed + Sum::word((total - start) as u16) + Sum::of(&out[start..]);
            out[field..field + 2].copy_from_slice(&transport.checksum(sum).to_be_bytes());
        }
    }
}

/// A packet that is none of a series but for which the checksum is still to be computed.
fn unfinished(header: &VnetHeader, packet: &IpPacket<'_>, limit: usize) -> Result<Shape, SplitError> {
    let len = packet.bytes().len();
    if let Some(headers) = Headers::of(packet).filter(|headers| points_at(header, headers)) {
        let flags = headers.flags(packet.bytes());
        let can_be_cut = headers.transport == Transport::Tcp && flags & (tcp::SYN | tcp::RST | tcp::URG) == 0;
        let segment = match limit.saturating_sub(headers.end) {
            1.. if can_be_cut => limit - headers.end,
            _ => len,
        };
        return Ok(Shape::Cut(Cut::new(headers, packet, segment)));
    }
    // Of a tunnel in the tunnel, for example, it is the checksum of the innermost packet.
    let start = usize::from(header.checksum_start);
    let field = start + usize::from(header.checksum_offset);
    if start < len - packet.upper().len() || field + 2 > len {
        return Err(SplitError::ChecksumField);
    }
    Ok(Shape::Summed { start, field })
}

/// Whether the checksum that is still to be computed is the one of TCP or UDP right behind the IP headers.
fn points_at(header: &VnetHeader, headers: &Headers) -> bool {
    usize::from(header.checksum_start) == headers.start
        && usize::from(header.checksum_offset) == headers.transport.checksum_offset()
}

/// Why nothing can be made of what was read. The kernel hands over no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// It is no packet.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// A kind of super packet that was not asked for.
    #[error("a super packet of unknown type")]
    GsoType,
    /// The pieces would be empty.
    #[error("the pieces of the super packet have no length")]
    GsoSize,
    /// The super packet is not of the protocol it claims, or opens or resets a connection.
    #[error("the headers are not those of such a super packet")]
    Headers,
    /// The checksum would be written outside of the packet, or into the wrong field of a super packet.
    #[error("the checksum stands nowhere in the packet")]
    ChecksumField,
}
