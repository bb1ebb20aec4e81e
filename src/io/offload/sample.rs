//! Packets for the tests of this module.

use etherparse::PacketBuilder;

use super::vnet::VnetHeader;
use crate::ip::IpPacket;
use crate::ip::checksum::{Sum, Transport};

/// Bytes that differ from their neighbours.
pub(super) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// A TCP segment over IPv4 with its checksums, which may be fragmented.
pub(super) fn tcp_v4(port: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(port, 443, sequence, 500).ack(7);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    changed(bytes, |bytes| bytes[6] = 0)
}

/// A TCP segment over IPv6 with its checksum.
pub(super) fn tcp_v6(port: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).tcp(port, 443, sequence, 500).ack(7);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A UDP datagram over IPv4 with its checksums, which may be fragmented.
pub(super) fn udp_v4(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(port, 443).write(&mut bytes, payload).unwrap();
    changed(bytes, |bytes| bytes[6] = 0)
}

/// Changes a packet and makes the checksum of its IPv4 header right.
pub(super) fn changed(mut bytes: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut bytes);
    if bytes[0] >> 4 == 4 {
        let end = usize::from(bytes[0] & 0x0f) * 4;
        bytes[10..12].fill(0);
        let checksum = Sum::of(&bytes[..end]).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// What the kernel hands over if the checksum of `packet` is still to be computed, of a super packet if it has a type and a size.
pub(super) fn unfinished(mut packet: Vec<u8>, gso_type: u8, gso_size: u16) -> (VnetHeader, Vec<u8>) {
    let ip = IpPacket::parse(&packet).unwrap();
    let start = packet.len() - ip.upper().len();
    let offset = Transport::of(&ip).unwrap().checksum_offset();
    let seed = Sum::pseudo_header(&ip, ip.upper().len() as u16).fold();
    packet[start + offset..][..2].copy_from_slice(&seed.to_be_bytes());
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type,
        gso_size,
        checksum_start: start as u16,
        checksum_offset: offset as u16,
        ..VnetHeader::PLAIN
    };
    (header, packet)
}
