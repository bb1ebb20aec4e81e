//! Pieces that arrived together, put together again for one write.
//!
//! The rules are those of the kernel's own receive offload (`tcp_gro_receive`, `udp_gro_receive`): what comes out is cut into the same pieces again by whoever
//! needs them. Only packets whose checksum was left to us are merged, for that of the super packet is made anew, and would hide an error in those of its pieces.

use std::io::IoSlice;

use super::header::{Headers, tcp};
use super::vnet::{Gso, VnetHeader};
use crate::ip::IpPacket;
use crate::ip::checksum::{ChecksumError, Sum, Transport};

/// At most so many pieces make a super packet: for UDP, the kernel takes no more (`UDP_MAX_SEGMENTS`).
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
            self.close(write, |group| group.flow.may_be_overtaken_by(&flow));
            self.write_alone(&packet, transport, write);
            return Ok(());
        };
        if let Some(group) = self.groups.iter_mut().flatten().find(|group| group.flow == flow)
            && group.accepts(&piece)
        {
            group.add(&piece);
        } else {
            self.close(write, |group| group.flow == flow);
            let slot = self.vacant(write);
            self.opened += 1;
            self.groups[slot] = Some(Group::open(flow, &piece, self.opened));
        }
        self.close(write, |group| group.flow == flow && group.is_full);
        Ok(())
    }

    /// Ends the batch: writes what is left, in the order in which it began.
    pub fn finish(&mut self, write: &mut impl FnMut(&[IoSlice<'_>])) {
        while let Some(slot) = self.oldest() {
            self.close_slot(slot, write);
        }
    }

    /// The packet as a piece of a super packet, if it can be one.
    fn piece(&self, packet: IpPacket<'a>, transport: Transport) -> Option<Piece<'a>> {
        let is_wanted = match transport {
            Transport::Tcp => self.capabilities.tso,
            Transport::Udp => self.capabilities.tso && self.capabilities.uso,
        };
        if !is_wanted { None } else { Piece::of(packet) }
    }

    /// Writes and forgets the groups that are chosen, which are all of different flows.
    fn close(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]), is_chosen: impl Fn(&Group<'a>) -> bool) {
        for slot in 0..MAX_FLOWS {
            if self.groups[slot].as_ref().is_some_and(&is_chosen) {
                self.close_slot(slot, write);
            }
        }
    }

    fn close_slot(&mut self, slot: usize, write: &mut impl FnMut(&[IoSlice<'_>])) {
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
        self.close_slot(slot, write);
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
    addresses: (std::net::IpAddr, std::net::IpAddr),
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

    /// Whether `other` could belong to this flow.
    fn may_be_overtaken_by(&self, other: &Self) -> bool {
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
        (!payload.is_empty() && piece.flags() & (tcp::SYN | tcp::RST | tcp::URG) == 0).then_some(piece)
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
            is_full: piece.is_end(),
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

    fn add(&mut self, piece: &Piece<'a>) {
        self.count += 1;
        self.slices[self.count] = IoSlice::new(piece.payload);
        self.len += piece.payload.len();
        self.end_flags = piece.flags() & (tcp::FIN | tcp::PSH);
        self.is_full = piece.is_end() || piece.payload.len() < self.segment || self.count == MAX_PIECES;
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
