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
pub fn plan<'a>(header: &VnetHeader, packet: &'a [u8], limit: usize) -> Result<Plan<'a>, SplitError> {
    Plan::new(header, IpPacket::parse(packet)?, limit)
}

impl<'a> Plan<'a> {
    /// As [`plan`], for a packet that was looked at already.
    ///
    /// # Errors
    /// See [`SplitError`].
    pub fn new(header: &VnetHeader, packet: IpPacket<'a>, limit: usize) -> Result<Self, SplitError> {
        let shape = match header.gso().ok_or(SplitError::GsoType)? {
            Gso::None if !header.needs_checksum() => Shape::Verbatim,
            Gso::None => unfinished(header, &packet, limit)?,
            gso @ (Gso::Tcpv4 | Gso::Tcpv6 | Gso::Udp) => Shape::Cut(Cut::super_packet(header, gso, &packet, limit)?),
        };
        Ok(Self { packet, shape })
    }

    /// How many pieces there are: at least one.
    pub const fn count(&self) -> usize {
        match &self.shape {
            Shape::Verbatim | Shape::Summed { .. } => 1,
            Shape::Cut(cut) => cut.count,
        }
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
                // The field has the sum of the pseudo-header. It may be that of UDP, so the result is never zero.
                let checksum = Transport::Udp.checksum(Sum::of(&bytes[*start..]));
                out[*field..*field + 2].copy_from_slice(&checksum.to_be_bytes());
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
        let can_be_cut = headers.transport == Transport::Tcp
            && flags & (tcp::SYN | tcp::RST | tcp::URG) == 0
            && !headers.is_signed(packet.bytes());
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

#[cfg(test)]
mod tests {
    use super::super::sample::{changed, payload, tcp_v4, tcp_v6, udp_v4, unfinished};
    use super::*;
    use crate::ip::checksum::{complete, is_valid};

    fn pieces(plan: &Plan<'_>, checksum: Checksum) -> Vec<Vec<u8>> {
        let piece = |index| {
            let mut out = vec![0xaa; plan.piece_len(index)];
            plan.write(index, &mut out, checksum);
            out
        };
        (0..plan.count()).map(piece).collect()
    }

    /// A packet with other flags of TCP over IPv4, and with its checksum.
    fn with_flags(packet: &[u8], flags: u8) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[33] = flags;
        complete(&mut packet).unwrap();
        packet
    }

    #[test]
    fn the_pieces_of_tcp_are_those_of_the_kernel() {
        let whole = changed(tcp_v4(1025, u32::MAX - 9, &payload(250)), |bytes| {
            bytes[4..6].copy_from_slice(&[0xff, 0xff]);
            // CWR, ECE, ACK, PSH and FIN.
            bytes[33] = 0xd9;
        });
        let (header, packet) = unfinished(whole, 0x81, 100);
        let plan = plan(&header, &packet, 1200).unwrap();
        assert!(plan.is_partial());
        let expected: Vec<Vec<u8>> =
            [(0xffff_u16, u32::MAX - 9, 0..100, 0xd0), (0, 90, 100..200, 0x50), (1, 190, 200..250, 0x59)]
                .into_iter()
                .map(|(identification, sequence, range, flags)| {
                    let piece = tcp_v4(1025, sequence, &payload(250)[range]);
                    let piece = changed(piece, |bytes| bytes[4..6].copy_from_slice(&identification.to_be_bytes()));
                    with_flags(&piece, flags)
                })
                .collect();
        assert_eq!(pieces(&plan, Checksum::Complete), expected);
        for (mut partial, complete) in pieces(&plan, Checksum::Partial).into_iter().zip(expected) {
            assert_eq!(partial[36..38], [0, 0]);
            partial[36..38].copy_from_slice(&complete[36..38]);
            assert_eq!(partial, complete);
        }
    }

    #[test]
    fn tcp_is_cut_finer_where_less_fits() {
        let (header, packet) = unfinished(tcp_v6(1025, 1, &payload(3000)), 4, 1440);
        for (limit, lengths) in
            [(1500, [1500, 1500, 180].as_slice()), (1300, &[1300, 1300, 580]), (60, &[1500, 1500, 180])]
        {
            let plan = plan(&header, &packet, limit).unwrap();
            assert_eq!(pieces(&plan, Checksum::Complete).iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{limit}");
            assert!(pieces(&plan, Checksum::Complete).iter().all(|piece| is_valid(piece)));
        }
    }

    #[test]
    fn datagrams_keep_their_boundaries_though_they_are_too_long() {
        let (header, packet) = unfinished(udp_v4(1025, &payload(2500)), 5, 1000);
        let plan = plan(&header, &packet, 500).unwrap();
        let expected: Vec<Vec<u8>> = [0..1000, 1000..2000, 2000..2500]
            .into_iter()
            .zip(0_u8..)
            .map(|(range, ahead)| changed(udp_v4(1025, &payload(2500)[range]), |bytes| bytes[5] += ahead))
            .collect();
        assert_eq!(pieces(&plan, Checksum::Complete), expected);
    }

    #[test]
    fn a_finished_packet_is_never_touched() {
        let wrong = changed(tcp_v4(1025, 1, &payload(3000)), |bytes| bytes[36] ^= 1);
        let plan = plan(&VnetHeader::PLAIN, &wrong, 1000).unwrap();
        assert!(!plan.is_partial());
        assert_eq!(pieces(&plan, Checksum::Partial), [wrong]);
    }

    #[test]
    fn an_unfinished_packet_is_cut_if_it_is_of_a_stream() {
        let count = |packet, limit| {
            let (header, packet) = unfinished(packet, 0, 0);
            plan(&header, &packet, limit).unwrap().count()
        };
        let long = tcp_v4(1025, 1, &payload(3000));
        assert_eq!((count(long.clone(), 3040), count(long.clone(), 1540), count(long.clone(), 1539)), (1, 2, 3));
        for flag in [tcp::SYN, tcp::RST, tcp::URG] {
            assert_eq!(count(with_flags(&long, 0x10 | flag), 1000), 1);
        }
        assert_eq!(count(udp_v4(1025, &payload(3000)), 1000), 1);
        assert_eq!(count(tcp_v4(1025, 1, &[]), 10), 1);
    }

    #[test]
    fn a_segment_that_is_signed_is_never_cut() {
        // MD5 and authentication; timestamps, and no operation before an option that is cut off, whose bytes look like MD5.
        for (kind, count) in [(19, 1), (29, 1), (8, 2), (1, 2)] {
            let mut options = [1, 1, kind, 18].to_vec();
            options.resize(20, 19);
            let builder = etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(1, 2, 3, 4).ack(5);
            let mut packet = Vec::new();
            builder.options_raw(&options).unwrap().write(&mut packet, &payload(1500)).unwrap();
            let (header, packet) = unfinished(packet, 0, 0);
            let plan = plan(&header, &packet, 1200).unwrap();
            assert_eq!(plan.count(), count, "{kind}");
            assert!(pieces(&plan, Checksum::Complete).iter().all(|piece| is_valid(piece)));
        }
    }

    #[test]
    fn the_checksum_of_a_tunnel_in_the_tunnel_is_computed_where_the_kernel_says() {
        let inner = udp_v4(1025, b"payload");
        let (mut header, unfinished) = unfinished(inner.clone(), 0, 0);
        let outer = |inner: &[u8]| {
            let mut bytes = Vec::new();
            let builder = etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64);
            builder.write(&mut bytes, etherparse::ip_number::IPV4, inner).unwrap();
            bytes
        };
        header.checksum_start += 40;
        let packet = outer(&unfinished);
        let plan = plan(&header, &packet, 1200).unwrap();
        assert!(!plan.is_partial());
        assert_eq!(pieces(&plan, Checksum::Partial), [outer(&inner)]);
    }

    #[test]
    fn a_checksum_for_other_addresses_is_not_left_to_the_receiver() {
        // A source route goes through the destination in the header, and on to 10.0.0.9.
        let at_last = changed(tcp_v4(1025, 1, &payload(150)), |bytes| bytes[19] = 9);
        let (header, mut packet) = unfinished(at_last, 1, 100);
        packet = changed(packet, |bytes| bytes[19] = 2);
        let plan = plan(&header, &packet, 1200).unwrap();
        assert!(!plan.is_partial());
        for piece in pieces(&plan, Checksum::Partial) {
            assert!(!is_valid(&piece));
            assert!(is_valid(&changed(piece, |bytes| bytes[19] = 9)));
        }
    }

    #[test]
    fn a_super_packet_that_claims_to_be_finished_gets_new_checksums() {
        let (header, packet) = unfinished(tcp_v6(1025, 1, &payload(150)), 4, 100);
        let plan =
            plan(&VnetHeader { flags: 2, checksum_start: 0, checksum_offset: 0, ..header }, &packet, 1200).unwrap();
        assert!(plan.is_partial());
        assert!(pieces(&plan, Checksum::Complete).iter().all(|piece| is_valid(piece)));
    }

    #[test]
    fn a_piece_behind_an_extension_header_is_valid() {
        let mut packet = tcp_v6(1025, 1, &payload(150));
        packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        (packet[5], packet[6]) = (packet[5] + 8, 60);
        let (header, packet) = unfinished(packet, 4, 100);
        let plan = plan(&header, &packet, 1200).unwrap();
        assert_eq!(plan.count(), 2);
        assert!(pieces(&plan, Checksum::Complete).iter().all(|piece| is_valid(piece)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (header, packet) = unfinished(tcp_v4(1025, 1, &payload(150)), 1, 100);
        let error = |change: &dyn Fn(&mut VnetHeader, &mut Vec<u8>)| {
            let (mut header, mut packet) = (header, packet.clone());
            change(&mut header, &mut packet);
            plan(&header, &packet, 1200).err()
        };
        assert_eq!(error(&|_, _| {}), None);
        assert_eq!(error(&|_, packet| packet.push(0)), Some(SplitError::Ip(IpError::TotalLength)));
        assert_eq!(error(&|header, _| header.gso_type = 3), Some(SplitError::GsoType));
        assert_eq!(error(&|header, _| header.gso_size = 0), Some(SplitError::GsoSize));
        for other in [4, 5] {
            assert_eq!(error(&|header, _| header.gso_type = other), Some(SplitError::Headers));
        }
        // A fragment; headers longer than the packet, and shorter than the least; a connection's begin and reset.
        for (at, byte) in [(6, 0x20), (7, 1), (9, 1), (32, 0x40), (33, 0x12), (33, 0x14)] {
            assert_eq!(error(&|_, packet| packet[at] = byte), Some(SplitError::Headers), "{at}");
        }
        for (start, offset) in [(21, 16), (20, 15), (20, 6), (0, 0), (u16::MAX, u16::MAX)] {
            let spoil = |header: &mut VnetHeader| (header.checksum_start, header.checksum_offset) = (start, offset);
            assert_eq!(error(&|header, _| spoil(header)), Some(SplitError::ChecksumField));
        }
        for (start, offset) in [(19, 16), (20, 169), (189, 0), (0, 30), (u16::MAX, u16::MAX)] {
            let spoil = |header: &mut VnetHeader| {
                (header.gso_type, header.checksum_start, header.checksum_offset) = (0, start, offset);
            };
            assert_eq!(error(&|header, _| spoil(header)), Some(SplitError::ChecksumField), "{start} {offset}");
        }
    }
}
