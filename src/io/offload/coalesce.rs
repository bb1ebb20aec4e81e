//! Pieces that arrived together, put together again for one write.
//!
//! The rules are those of the kernel's own receive offload (`tcp_gro_receive`, `udp_gro_receive`): what comes out is cut into the same pieces again by whoever
//! needs them. Only packets whose checksum was left to us are merged, for that of the super packet is made anew, and would hide an error in those of its pieces.

use std::io::IoSlice;
use std::net::IpAddr;

use super::header::{Headers, tcp};
use super::vnet::{Gso, VnetHeader};
use crate::ip::IpPacket;
use crate::ip::checksum::{ChecksumError, Sum, Transport};

/// At most so many pieces make a super packet; of UDP, the kernel takes no more (`UDP_MAX_SEGMENTS`).
pub const MAX_PIECES: usize = 64;

/// At most so many flows are put together at a time.
const MAX_FLOWS: usize = 8;

/// Longest super packet.
const MAX_LEN: usize = 65_535;

/// Longest headers of a super packet: IPv6 and TCP with all options.
const MAX_HEADERS: usize = 100;

/// What the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Super packets of TCP, and packets whose checksum is still to be computed.
    pub tso: bool,
    /// Super packets of UDP too.
    pub uso: bool,
}

/// Makes the writes for one batch of packets, given in the order in which they were sent.
///
/// Each write is a list of slices for one `writev` to a device with `IFF_VNET_HDR`: first the [`VnetHeader`], perhaps with headers behind it, then the rest of the
/// packet, which is never copied. A flow keeps its order; different flows may pass each other.
#[derive(Debug)]
pub struct Coalescer<'a> {
    capabilities: Capabilities,
    groups: [Option<Group<'a>>; MAX_FLOWS],
    opened: u64,
}

impl<'a> Coalescer<'a> {
    /// An empty batch.
    pub const fn new(capabilities: Capabilities) -> Self {
        Self { capabilities, groups: [const { None }; MAX_FLOWS], opened: 0 }
    }

    /// Takes the next packet. If `is_partial`, its TCP or UDP checksum is still to be computed, whatever stands in the field.
    ///
    /// # Errors
    /// If the packet is partial and has no such checksum: then there is nothing to write.
    pub fn push(
        &mut self,
        packet: IpPacket<'a>,
        is_partial: bool,
        write: &mut impl FnMut(&[IoSlice<'_>]),
    ) -> Result<(), ChecksumError> {
        let transport = if is_partial { Some(Transport::of(&packet)?) } else { None };
        let flow = Flow::of(&packet);
        let Some(piece) = transport.and_then(|transport| self.piece(packet, transport)) else {
            for slot in 0..MAX_FLOWS {
                if self.groups[slot].as_ref().is_some_and(|group| group.flow.may_contain(&flow)) {
                    self.close(slot, write);
                }
            }
            self.write_alone(&packet, transport, write);
            return Ok(());
        };
        let same = self.groups.iter().position(|group| group.as_ref().is_some_and(|group| group.flow == flow));
        if let Some(slot) = same {
            if self.groups[slot].as_mut().is_some_and(|group| group.join(&piece)) {
                if self.groups[slot].as_ref().is_some_and(|group| group.is_full) {
                    self.close(slot, write);
                }
                return Ok(());
            }
            self.close(slot, write);
        }
        if piece.is_end() {
            self.write_alone(&packet, transport, write);
        } else {
            let slot = same.unwrap_or_else(|| self.vacant(write));
            self.opened += 1;
            self.groups[slot] = Some(Group::open(flow, &piece, self.opened));
        }
        Ok(())
    }

    /// Ends the batch: writes what is left, in the order in which it began.
    pub fn finish(&mut self, write: &mut impl FnMut(&[IoSlice<'_>])) {
        while let Some(slot) = self.oldest() {
            self.close(slot, write);
        }
    }

    /// The packet as a piece of a super packet, if it can be one.
    fn piece(&self, packet: IpPacket<'a>, transport: Transport) -> Option<Piece<'a>> {
        let is_wanted = match transport {
            Transport::Tcp => self.capabilities.tso,
            Transport::Udp => self.capabilities.tso && self.capabilities.uso,
        };
        if is_wanted { Piece::of(packet) } else { None }
    }

    /// Writes the group in a slot and forgets it.
    fn close(&mut self, slot: usize, write: &mut impl FnMut(&[IoSlice<'_>])) {
        if let Some(group) = &self.groups[slot] {
            if group.count == 1 {
                self.write_alone(&group.first, Some(group.headers.transport), write);
            } else {
                group.write(write);
            }
            self.groups[slot] = None;
        }
    }

    /// A slot for a new group; the oldest has to make room if there is none.
    fn vacant(&mut self, write: &mut impl FnMut(&[IoSlice<'_>])) -> usize {
        if let Some(slot) = self.groups.iter().position(Option::is_none) {
            return slot;
        }
        let slot = self.oldest().unwrap_or(0);
        self.close(slot, write);
        slot
    }

    fn oldest(&self) -> Option<usize> {
        let ages = self.groups.iter().enumerate().filter_map(|(slot, group)| Some((group.as_ref()?.number, slot)));
        ages.min().map(|(_, slot)| slot)
    }

    /// Writes one packet; with `transport`, its checksum is that of a partial one.
    fn write_alone(&self, packet: &IpPacket<'_>, transport: Option<Transport>, write: &mut impl FnMut(&[IoSlice<'_>])) {
        let bytes = packet.bytes();
        let Some(transport) = transport else {
            return write(&[IoSlice::new(&VnetHeader::PLAIN.encode()), IoSlice::new(bytes)]);
        };
        let upper = packet.upper();
        let start = bytes.len() - upper.len();
        let at = start + transport.checksum_offset();
        let (header, checksum) = if self.capabilities.tso {
            let seed = Sum::pseudo_header(packet, upper.len() as u16).fold();
            (unfinished(transport, start), seed)
        } else {
            (VnetHeader::PLAIN, transport.checksum_of(packet))
        };
        write(&[
            IoSlice::new(&header.encode()),
            IoSlice::new(&bytes[..at]),
            IoSlice::new(&checksum.to_be_bytes()),
            IoSlice::new(&bytes[at + 2..]),
        ]);
    }
}

/// The header of a packet whose TCP or UDP header begins at `start`, and whose checksum is still to be computed.
const fn unfinished(transport: Transport, start: usize) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        checksum_start: start as u16,
        checksum_offset: transport.checksum_offset() as u16,
        ..VnetHeader::PLAIN
    }
}

/// Packets among which order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    addresses: (IpAddr, IpAddr),
    protocol: u8,
    /// Unknown in what may be a fragment.
    ports: Option<(u16, u16)>,
}

impl Flow {
    fn of(packet: &IpPacket<'_>) -> Self {
        Self {
            addresses: (packet.src(), packet.dst()),
            protocol: packet.protocol(),
            ports: if packet.is_fragment() { None } else { packet.ports() },
        }
    }

    /// Whether a packet of `other` could belong to this flow, and so must not overtake it.
    fn may_contain(&self, other: &Self) -> bool {
        self.addresses == other.addresses && (other.ports.is_none() || self == other)
    }
}

/// A packet that can be part of a super packet.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    packet: IpPacket<'a>,
    headers: Headers,
    payload: &'a [u8],
}

impl<'a> Piece<'a> {
    fn of(packet: IpPacket<'a>) -> Option<Self> {
        let headers = Headers::of(&packet).filter(Headers::is_simple)?;
        let payload = &packet.bytes()[headers.end..];
        let piece = Self { packet, headers, payload };
        let can_be_merged = !payload.is_empty() && piece.flags() & (tcp::SYN | tcp::RST | tcp::URG) == 0;
        // The header of the super packet is made anew, and would hide an error.
        let is_intact = !headers.is_v4 || Sum::of(&packet.bytes()[..headers.start]).checksum() == 0;
        (can_be_merged && is_intact).then_some(piece)
    }

    fn flags(&self) -> u8 {
        self.headers.flags(self.packet.bytes())
    }

    /// Whether nothing may follow it.
    fn is_end(&self) -> bool {
        self.flags() & (tcp::FIN | tcp::PSH) != 0
    }
}

/// A super packet in the making.
#[derive(Debug)]
struct Group<'a> {
    /// Groups are numbered in the order in which they begin.
    number: u64,
    flow: Flow,
    first: IpPacket<'a>,
    headers: Headers,
    /// Payload of each piece but the last.
    segment: usize,
    /// Length of the super packet so far.
    len: usize,
    /// FIN and PSH of the last piece.
    end_flags: u8,
    is_full: bool,
    /// The payload of each piece behind a place for the headers.
    slices: [IoSlice<'a>; 1 + MAX_PIECES],
    count: usize,
}

impl<'a> Group<'a> {
    fn open(flow: Flow, piece: &Piece<'a>, number: u64) -> Self {
        let mut slices = [IoSlice::new(&[]); 1 + MAX_PIECES];
        slices[1] = IoSlice::new(piece.payload);
        Self {
            number,
            flow,
            first: piece.packet,
            headers: piece.headers,
            segment: piece.payload.len(),
            len: piece.packet.bytes().len(),
            end_flags: 0,
            is_full: false,
            slices,
            count: 1,
        }
    }

    /// Whether `piece`, of the same flow, goes on where the group ends, and cutting the super packet would give it back as it is.
    fn accepts(&self, piece: &Piece<'_>) -> bool {
        let headers = &self.headers;
        let (first, next) = (self.first.bytes(), piece.packet.bytes());
        *headers == piece.headers
            && piece.payload.len() <= self.segment
            && self.len + piece.payload.len() <= MAX_LEN
            && has_same_ip_header(headers, first, next)
            && is_in_order(headers.identification(first), headers.identification(next), self.count)
            && match headers.transport {
                Transport::Tcp => {
                    let sequence = headers.sequence(first).wrapping_add((self.len - headers.end) as u32);
                    headers.sequence(next) == sequence && has_same_tcp_header(headers, first, next)
                }
                Transport::Udp => true,
            }
    }

    /// Takes the piece if it [is accepted](Self::accepts).
    fn join(&mut self, piece: &Piece<'a>) -> bool {
        if !self.accepts(piece) {
            return false;
        }
        self.count += 1;
        self.slices[self.count] = IoSlice::new(piece.payload);
        self.len += piece.payload.len();
        self.end_flags = piece.flags() & (tcp::FIN | tcp::PSH);
        self.is_full = piece.is_end() || piece.payload.len() < self.segment || self.count == MAX_PIECES;
        true
    }

    fn write(&self, write: &mut impl FnMut(&[IoSlice<'_>])) {
        let Headers { is_v4, transport, start, end } = self.headers;
        let mut head = [0; VnetHeader::LEN + MAX_HEADERS];
        let (vnet, headers) = head.split_at_mut(VnetHeader::LEN);
        let headers = &mut headers[..end];
        headers.copy_from_slice(&self.first.bytes()[..end]);
        self.headers.adapt(headers, self.len, 0);
        let gso = match transport {
            Transport::Tcp if is_v4 => Gso::Tcpv4,
            Transport::Tcp => Gso::Tcpv6,
            Transport::Udp => Gso::Udp,
        };
        let mut gso_type = gso.number();
        if transport == Transport::Tcp {
            headers[start + tcp::FLAGS] |= self.end_flags;
            if headers[start + tcp::FLAGS] & tcp::CWR != 0 {
                gso_type |= VnetHeader::ECN;
            }
        }
        let seed = Sum::pseudo_header(&self.first, (self.len - start) as u16).fold();
        headers[self.headers.checksum()..][..2].copy_from_slice(&seed.to_be_bytes());
        let header = VnetHeader {
            gso_type,
            header_len: end as u16,
            gso_size: self.segment as u16,
            ..unfinished(transport, start)
        };
        vnet.copy_from_slice(&header.encode());
        let mut slices: [IoSlice<'_>; 1 + MAX_PIECES] = self.slices;
        slices[0] = IoSlice::new(&head[..VnetHeader::LEN + end]);
        write(&slices[..=self.count]);
    }
}

/// Whether two IP headers of one flow differ in lengths, identification and checksum only.
fn has_same_ip_header(headers: &Headers, first: &[u8], next: &[u8]) -> bool {
    if headers.is_v4 {
        // Traffic class; flags; time to live.
        first[1] == next[1] && first[6..9] == next[6..9]
    } else {
        // Traffic class and flow label; hop limit.
        first[..4] == next[..4] && first[7] == next[7]
    }
}

/// Whether two TCP headers of one flow differ in the sequence number and in flags that a super packet can tell apart.
fn has_same_tcp_header(headers: &Headers, first: &[u8], next: &[u8]) -> bool {
    let (first, next) = (&first[headers.start..headers.end], &next[headers.start..headers.end]);
    let (flags, first_flags) = (next[tcp::FLAGS], first[tcp::FLAGS]);
    // Acknowledgment number and data offset; window; urgent pointer and options.
    first[8..13] == next[8..13]
        && (flags ^ first_flags) & !(tcp::CWR | tcp::FIN | tcp::PSH) == 0
        && flags & tcp::CWR == 0
        && first[14..16] == next[14..16]
        && first[18..] == next[18..]
}

/// Whether the identification of the piece after `count` others is the one that cutting gives it. Where it means nothing, any will do (RFC 6864 §4.1).
fn is_in_order(first: Option<u16>, next: Option<u16>, count: usize) -> bool {
    first.map(|first| first.wrapping_add(count as u16)) == next
}

#[cfg(test)]
mod tests {
    use super::super::sample::{changed, payload, tcp_v4, tcp_v6, udp_v4, unfinished};
    use super::*;

    const ALL: Capabilities = Capabilities { tso: true, uso: true };

    /// What is written for packets of which those marked are partial.
    fn writes(capabilities: Capabilities, packets: &[(Vec<u8>, bool)]) -> Vec<(VnetHeader, Vec<u8>)> {
        let mut writes = Vec::new();
        let mut write = |slices: &[IoSlice<'_>]| {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let (header, packet) = VnetHeader::split(&bytes).unwrap();
            writes.push((header, packet.to_vec()));
        };
        let mut coalescer = Coalescer::new(capabilities);
        for (packet, is_partial) in packets {
            coalescer.push(IpPacket::parse(packet).unwrap(), *is_partial, &mut write).unwrap();
        }
        coalescer.finish(&mut write);
        writes
    }

    /// How long the packets are that are written for partial ones.
    fn lengths(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
        let packets: Vec<_> = packets.into_iter().map(|packet| (packet, true)).collect();
        writes(ALL, &packets).iter().map(|(_, packet)| packet.len()).collect()
    }

    /// Piece `index` of 100 bytes of a stream over IPv4.
    fn segment(port: u16, index: u8) -> Vec<u8> {
        let piece = tcp_v4(port, 100 * u32::from(index), &[index; 100]);
        changed(piece, |bytes| bytes[5] = index)
    }

    fn with_header_len((mut header, packet): (VnetHeader, Vec<u8>), len: u16) -> (VnetHeader, Vec<u8>) {
        header.header_len = len;
        (header, packet)
    }

    #[test]
    fn two_streams_that_come_mixed_are_written_one_by_one() {
        let mixed = [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)].map(|(port, index)| (segment(port, index), true));
        let whole = |port, pieces: &[u8]| {
            let payload: Vec<u8> = pieces.iter().flat_map(|piece| [*piece; 100]).collect();
            with_header_len(unfinished(tcp_v4(port, 0, &payload), 1, 100), 40)
        };
        assert_eq!(writes(ALL, &mixed), [whole(0, &[0, 1, 2]), whole(1, &[0, 1])]);
    }

    #[test]
    fn datagrams_are_merged_if_the_kernel_takes_them() {
        let datagrams: Vec<_> = [0..100, 100..200, 200..250]
            .into_iter()
            .zip(0_u8..)
            .map(|(range, ahead)| (changed(udp_v4(1025, &payload(250)[range]), |bytes| bytes[5] = ahead), true))
            .collect();
        let whole = with_header_len(unfinished(udp_v4(1025, &payload(250)), 5, 100), 28);
        assert_eq!(writes(ALL, &datagrams), [whole]);
        let alone: Vec<_> = datagrams.iter().map(|(packet, _)| unfinished(packet.clone(), 0, 0)).collect();
        assert_eq!(writes(Capabilities { tso: true, uso: false }, &datagrams), alone);
    }

    #[test]
    fn without_offload_every_packet_is_completed() {
        let packets: Vec<_> = (0..3).map(|index| segment(1, index)).chain([udp_v4(1, b"payload")]).collect();
        let expected: Vec<_> = packets.iter().map(|packet| (VnetHeader::PLAIN, packet.clone())).collect();
        let spoilt: Vec<_> = packets
            .into_iter()
            .map(|mut packet| {
                let at = if packet[9] == 6 { 36 } else { 26 };
                packet[at..at + 2].fill(0xaa);
                (packet, true)
            })
            .collect();
        assert_eq!(writes(Capabilities { tso: false, uso: false }, &spoilt), expected);
    }

    #[test]
    fn a_difference_in_any_header_field_that_must_be_kept_separates() {
        assert_eq!(lengths([segment(1, 0), segment(1, 1)]), [240]);
        // Traffic class, identification, flag to not fragment, time to live; acknowledgment, flags, window, urgent pointer.
        for at in [1, 5, 6, 8, 28, 31, 33, 34, 35, 39] {
            let other = changed(segment(1, 1), |bytes| bytes[at] ^= 0x40);
            assert_eq!(lengths([segment(1, 0), other]), [140, 140], "byte {at}");
        }
        let v6 = |index: u8| tcp_v6(1, 100 * u32::from(index), &[index; 100]);
        assert_eq!(lengths([v6(0), v6(1)]), [260]);
        // Traffic class, flow label, hop limit.
        for at in [1, 3, 7] {
            assert_eq!(lengths([v6(0), changed(v6(1), |bytes| bytes[at] ^= 0x10)]), [160, 160], "byte {at}");
        }
    }

    #[test]
    fn options_must_be_equal() {
        let segment = |index: u8, time: u8| {
            let mut bytes = Vec::new();
            etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64)
                .tcp(1, 443, u32::from(index) * 10, 500)
                .ack(1)
                .options_raw(&[1, 1, 8, 10, 0, 0, 0, time, 0, 0, 0, 0])
                .unwrap()
                .write(&mut bytes, &[index; 10])
                .unwrap();
            bytes
        };
        assert_eq!(lengths([segment(0, 1), segment(1, 1)]), [92]);
        assert_eq!(lengths([segment(0, 1), segment(1, 2)]), [82, 82]);
    }

    #[test]
    fn any_identification_will_do_if_the_packet_must_not_be_fragmented() {
        let whole = |index, id| changed(segment(1, index), |bytes| (bytes[5], bytes[6]) = (id, 0x40));
        assert_eq!(lengths([whole(0, 0), whole(1, 0), whole(2, 9)]), [340]);
    }

    #[test]
    fn gaps_and_repetitions_separate() {
        let indexes = [0, 1, 3, 4, 4, 5];
        assert_eq!(lengths(indexes.map(|index| segment(1, index))), [240, 240, 240]);
    }

    #[test]
    fn push_fin_and_a_shorter_piece_end_a_super_packet() {
        for flag in [tcp::PSH, tcp::FIN] {
            let end = changed(segment(1, 1), |bytes| bytes[33] |= flag);
            let whole = writes(ALL, &[(segment(1, 0), true), (end, true), (segment(1, 2), true)]);
            assert_eq!(whole.iter().map(|(_, packet)| packet[33]).collect::<Vec<_>>(), [0x10 | flag, 0x10]);
        }
        let short = changed(tcp_v4(1, 100, &[1; 99]), |bytes| bytes[5] = 1);
        let next = changed(tcp_v4(1, 199, &[1; 99]), |bytes| bytes[5] = 2);
        assert_eq!(lengths([segment(1, 0), short, next]), [239, 139]);
        let longer = changed(tcp_v4(1, 100, &[1; 101]), |bytes| bytes[5] = 1);
        assert_eq!(lengths([segment(1, 0), longer]), [140, 141]);
    }

    #[test]
    fn only_the_first_piece_says_that_the_window_was_reduced() {
        let reduced = |index| changed(segment(1, index), |bytes| bytes[33] |= tcp::CWR);
        let whole = writes(ALL, &[reduced(0), segment(1, 1), reduced(2)].map(|packet| (packet, true)));
        let seen: Vec<_> = whole.iter().map(|(header, packet)| (header.gso_type, packet[33])).collect();
        assert_eq!(seen, [(0x81, 0x90), (0, 0x90)]);
    }

    #[test]
    fn a_packet_that_came_with_a_checksum_is_written_as_it_is_and_in_its_place() {
        let wrong = changed(segment(1, 1), |bytes| bytes[36] ^= 1);
        let whole = writes(ALL, &[(segment(1, 0), true), (wrong.clone(), false), (segment(1, 2), true)]);
        assert_eq!(whole[1], (VnetHeader::PLAIN, wrong));
        assert_eq!((&whole[0], &whole[2]), (&unfinished(segment(1, 0), 0, 0), &unfinished(segment(1, 2), 0, 0)));
    }

    #[test]
    fn what_may_belong_to_a_stream_does_not_overtake_it() {
        let between = |change: &dyn Fn(&mut [u8])| {
            let other = changed(tcp_v4(9, 0, &[]), |bytes| change(bytes));
            let partial = [(segment(1, 0), true), (other, false), (segment(1, 1), true)];
            writes(ALL, &partial).iter().map(|(_, packet)| packet.len()).collect::<Vec<_>>()
        };
        assert_eq!(between(&|_| {}), [40, 240], "another stream");
        assert_eq!(between(&|bytes| bytes[15] = 9), [40, 240], "another host");
        assert_eq!(between(&|bytes| bytes[9] = 1), [140, 40, 140], "between the same hosts, without ports");
        assert_eq!(between(&|bytes| bytes[6] = 0x20), [140, 40, 140], "a fragment");
        assert_eq!(between(&|bytes| bytes[21] = 1), [140, 40, 140], "an acknowledgment of the stream");
    }

    #[test]
    fn an_error_in_the_ip_header_is_not_mended() {
        let mut wrong = segment(1, 1);
        wrong[10] ^= 1;
        let whole = writes(ALL, &[(segment(1, 0), true), (wrong.clone(), true)]);
        assert_eq!(whole[1], unfinished(wrong, 0, 0));
    }

    #[test]
    fn a_super_packet_has_64_pieces_and_65535_bytes_at_most() {
        let many = (0..65).map(|index| segment(1, index));
        assert_eq!(lengths(many), [40 + 64 * 100, 140]);
        let long = (0..4).map(|index: u8| tcp_v6(1, u32::from(index) * 20_000, &[0; 20_000]));
        assert_eq!(lengths(long), [60_060, 20_060]);
    }

    #[test]
    fn the_ninth_stream_ends_the_oldest_group() {
        let streams = (1..=9).map(|port| (port, 0)).chain([(1, 1), (9, 1)]);
        let packets: Vec<_> = streams.map(|(port, index)| (segment(port, index), true)).collect();
        let whole = writes(ALL, &packets);
        let written: Vec<_> = whole.iter().map(|(_, packet)| (packet[21], packet.len())).collect();
        let alone = |port| (port, 140);
        assert_eq!(written[..2], [alone(1), alone(2)], "the two that had to make room");
        assert_eq!(written[2..8], [3, 4, 5, 6, 7, 8].map(alone), "the others, in the order in which they began");
        assert_eq!(written[8..], [(9, 240), alone(1)]);
    }

    #[test]
    fn what_cannot_be_completed_is_refused() {
        let mut coalescer = Coalescer::new(ALL);
        let ping = changed(tcp_v4(1, 0, &[]), |bytes| bytes[9] = 1);
        let taken = coalescer.push(IpPacket::parse(&ping).unwrap(), true, &mut |_| panic!("nothing is written"));
        assert_eq!(taken, Err(ChecksumError::Protocol));
    }
}
