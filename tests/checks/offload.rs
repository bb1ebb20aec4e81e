//! What holds for super packets and their pieces; used by the fuzz target, by the test that replays its corpus and by those on made-up packets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a check that fails panics")]

use std::net::IpAddr;

use etherparse::{IpSlice, TcpSlice, UdpHeader, UdpSlice};
use handfast::base::Rng;
use handfast::io::offload::{Capabilities, Checksum, Coalescer, Gso, Plan, VnetHeader, plan};
use handfast::ip::IpPacket;
use handfast::ip::checksum::{Sum, Transport, complete, is_valid};

/// A packet on its way through the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_partial: bool,
}

/// Bytes are read as a limit, a few choices and what was read from the device. If that can be cut, its pieces, of which some are lost, repeated and spoilt,
/// arrive as they were.
pub(crate) fn offload(bytes: &[u8]) {
    let Some((&[l0, l1, choices, spoilt, at, change], read)) = bytes.split_first_chunk() else { return };
    let limit = usize::from(u16::from_be_bytes([l0, l1]));
    let Some((header, packet)) = VnetHeader::split(read) else { return };
    assert_eq!(header.encode(), read[..VnetHeader::LEN]);
    let (mut header, mut packet) = (header, packet.to_vec());
    if choices & 1 != 0 {
        mend(&mut header, &mut packet);
    }
    let Some(mut pieces) = cut(&header, &packet, limit) else { return };
    pieces.truncate(200);
    let count = pieces.len();
    let spoilt = &mut pieces[usize::from(spoilt) % count].bytes;
    let at = usize::from(at) % spoilt.len();
    spoilt[at] ^= change;
    if choices & 2 != 0 {
        let mut rng = Rng::from_number(u64::from(choices));
        let index = rng.below(count as u32) as usize;
        match choices >> 6 {
            0 => pieces.rotate_left(index),
            1 => pieces.push(pieces[index].clone()),
            2 => drop(pieces.remove(index)),
            _ => pieces[index].is_partial = false,
        }
    }
    arrive_as_sent(&pieces, Capabilities { tso: choices & 4 != 0, uso: choices & 8 != 0 });
}

/// Makes lengths and positions right, so that more than the first check is reached.
fn mend(header: &mut VnetHeader, packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().map(|first| first >> 4) {
        Some(4) if len >= 20 => packet[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
        Some(6) if len >= 40 => packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        Some(_) | None => return,
    }
    let Ok(ip) = IpPacket::parse(packet) else { return };
    let start = len - ip.upper().len();
    if ip.protocol() == 17 && len >= start + 8 {
        packet[start + 4..start + 6].copy_from_slice(&((len - start) as u16).to_be_bytes());
    }
    let Ok(ip) = IpPacket::parse(packet) else { return };
    let Ok(transport) = Transport::of(&ip) else { return };
    let seed = Sum::pseudo_header(&ip, ip.upper().len() as u16).fold();
    header.checksum_start = start as u16;
    header.checksum_offset = transport.checksum_offset() as u16;
    let at = start + transport.checksum_offset();
    packet[at..at + 2].copy_from_slice(&seed.to_be_bytes());
}

/// Cuts what was read, if it can be cut, into pieces as they travel between peers that know partial checksums.
pub(crate) fn cut(header: &VnetHeader, packet: &[u8], limit: usize) -> Option<Vec<Piece>> {
    let pieces = pieces(&plan(header, packet, limit).ok()?, limit);
    if !header.needs_checksum() && header.gso() == Some(Gso::None) {
        assert_eq!(pieces, [Piece { bytes: packet.to_vec(), is_partial: false }], "what is complete is left alone");
    }
    Some(pieces)
}

fn pieces(plan: &Plan<'_>, limit: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut payload = Vec::new();
    for index in 0..plan.count() {
        let mut completed = vec![0xaa; plan.piece_len(index)];
        plan.write(index, &mut completed, Checksum::Complete);
        let mut bytes = vec![0xbb; completed.len()];
        plan.write(index, &mut bytes, Checksum::Partial);

        let ip = IpPacket::parse(&completed).unwrap();
        assert_eq!((ip.src(), ip.dst(), ip.ecn()), (plan.packet().src(), plan.packet().dst(), plan.ecn()));
        if plan.is_partial() {
            let at = checksum_at(&ip).unwrap();
            assert_eq!(bytes[at..at + 2], [0, 0]);
            assert_eq!(ip.ports(), plan.packet().ports());
            let mut finished = bytes.clone();
            complete(&mut finished).unwrap();
            assert_eq!(finished, completed);
        } else {
            assert_eq!(bytes, completed);
        }
        if plan.count() > 1 {
            let is_tcp = ip.protocol() == 6;
            let header_len = if is_tcp { usize::from(ip.upper()[12] >> 4) * 4 } else { 8 };
            let start = completed.len() - ip.upper().len();
            assert!(completed.len() <= limit || !is_tcp || limit <= start + header_len);
            payload.extend_from_slice(&ip.upper()[header_len..]);
        }
        pieces.push(Piece { bytes, is_partial: plan.is_partial() });
    }
    assert!(plan.packet().bytes().ends_with(&payload), "the pieces are all there is");
    pieces
}

/// Whether the checksums of an IPv4 header, TCP and UDP are right in the eyes of the reference, if it can read the packet.
pub(crate) fn reference_is_valid(bytes: &[u8]) -> Option<bool> {
    let slice = IpSlice::from_slice(bytes).ok()?;
    if bytes[0] >> 4 == 4 && bytes[6] & 0x80 != 0 {
        // It forgets the reserved flag, and so comes to another checksum.
        return None;
    }
    if let IpSlice::Ipv4(v4) = &slice
        && v4.header().header_checksum() != v4.header().to_header().calc_header_checksum()
    {
        return Some(false);
    }
    let payload = slice.payload().payload;
    match IpPacket::parse(bytes).ok()?.protocol() {
        6 => {
            let tcp = TcpSlice::from_slice(payload).ok()?;
            let expected = match (slice.source_addr(), slice.destination_addr()) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => tcp.calc_checksum_ipv4(src.octets(), dst.octets()),
                (IpAddr::V6(src), IpAddr::V6(dst)) => tcp.calc_checksum_ipv6(src.octets(), dst.octets()),
                (_, _) => return None,
            };
            Some(expected.ok()? == tcp.checksum())
        }
        17 => {
            let udp: UdpHeader = UdpSlice::from_slice(payload).ok()?.to_header();
            let body = &payload[8..];
            let expected = match (slice.source_addr(), slice.destination_addr()) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => udp.calc_checksum_ipv4_raw(src.octets(), dst.octets(), body),
                (IpAddr::V6(src), IpAddr::V6(dst)) => udp.calc_checksum_ipv6_raw(src.octets(), dst.octets(), body),
                (_, _) => return None,
            };
            Some(expected.ok()? == udp.checksum)
        }
        _ => Some(true),
    }
}

/// What is written to the device for a batch of packets.
pub(crate) fn put_together(pieces: &[Piece], capabilities: Capabilities) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut writes = Vec::new();
    let mut write = |slices: &[std::io::IoSlice<'_>]| {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        let (header, packet) = VnetHeader::split(&bytes).unwrap();
        writes.push((header, packet.to_vec()));
    };
    let mut coalescer = Coalescer::new(capabilities);
    for piece in pieces {
        if let Ok(packet) = IpPacket::parse(&piece.bytes) {
            let taken = coalescer.push(packet, piece.is_partial, &mut write);
            assert_eq!(taken.is_err(), piece.is_partial && Transport::of(&packet).is_err());
        }
    }
    coalescer.finish(&mut write);
    writes
}

/// Whatever is sent: the kernel gets packets which it would cut into those that were sent, complete, and in the same order within each flow.
pub(crate) fn arrive_as_sent(pieces: &[Piece], capabilities: Capabilities) {
    let sent: Vec<Vec<u8>> = pieces.iter().filter_map(finished).collect();
    let mut arrived = Vec::new();
    for (header, packet) in put_together(pieces, capabilities) {
        assert!(packet.len() <= 65_535 || header == VnetHeader::PLAIN || header.gso() == Some(Gso::None));
        assert!(capabilities.tso || header == VnetHeader::PLAIN);
        assert!(capabilities.uso || header.gso() != Some(Gso::Udp));
        // As the kernel cuts it, or computes its checksum.
        let plan = plan(&header, &packet, usize::MAX).unwrap();
        assert!(plan.count() <= 64);
        assert_eq!(plan.count() > 1, header.gso() != Some(Gso::None));
        for index in 0..plan.count() {
            let mut bytes = vec![0; plan.piece_len(index)];
            plan.write(index, &mut bytes, Checksum::Complete);
            if plan.count() > 1 {
                assert!(is_valid(&bytes));
                assert!(reference_is_valid(&bytes).unwrap_or(true));
            }
            arrived.push(bytes);
        }
    }
    assert_eq!(arrived.len(), sent.len());
    // Which of those sent each of those arrived is: in each flow, one by one.
    let mut taken = vec![false; sent.len()];
    let mut order = Vec::new();
    for packet in &arrived {
        let flow = flow(packet);
        let Some(index) = (0..sent.len()).find(|&index| !taken[index] && self::flow(&sent[index]) == flow) else {
            panic!("a packet that was never sent: {packet:02x?}");
        };
        assert_eq!(comparable(packet), comparable(&sent[index]));
        taken[index] = true;
        order.push(index);
    }
    for (at, &earlier) in order.iter().enumerate() {
        for &later in &order[at + 1..] {
            let (a, b) = (flow(&sent[earlier]), flow(&sent[later]));
            let is_ordered = a.0 == b.0 && (a.1.is_none() || b.1.is_none());
            assert!(earlier < later || !is_ordered, "a packet was overtaken");
        }
    }
}

/// A piece with its checksum completed; `None` for one that cannot be delivered.
fn finished(piece: &Piece) -> Option<Vec<u8>> {
    let mut bytes = piece.bytes.clone();
    IpPacket::parse(&bytes).ok()?;
    if piece.is_partial {
        let was_valid = reference_is_valid(&bytes).is_some();
        complete(&mut bytes).ok()?;
        let is_intact = bytes[0] >> 4 == 6 || Sum::of(&bytes[..header_len(&bytes)]).checksum() == 0;
        assert!(!was_valid || !is_intact || is_valid(&bytes));
    }
    Some(bytes)
}

fn header_len(bytes: &[u8]) -> usize {
    usize::from(bytes[0] & 0x0f) * 4
}

type FlowKey = ((IpAddr, IpAddr), Option<(u8, u16, u16)>);

/// Addresses, and what tells flows between them apart; nothing does for fragments and protocols without ports.
fn flow(bytes: &[u8]) -> FlowKey {
    let ip = IpPacket::parse(bytes).unwrap();
    let ports = if ip.is_fragment() { None } else { ip.ports() };
    ((ip.src(), ip.dst()), ports.map(|(src, dst)| (ip.protocol(), src, dst)))
}

fn checksum_at(ip: &IpPacket<'_>) -> Option<usize> {
    let transport = Transport::of(ip).ok()?;
    Some(ip.bytes().len() - ip.upper().len() + transport.checksum_offset())
}

/// A packet without the identification, if that means nothing (RFC 6864 §4.1).
fn comparable(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes[0] == 0x45 && bytes[6] & 0x40 != 0 {
        bytes[4..6].fill(0);
        bytes[10..12].fill(0);
    }
    bytes
}
