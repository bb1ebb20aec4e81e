//! Super packets, made up: cut, sent over a line that loses and mixes, put together and cut by the kernel, they are what they were.
#![expect(clippy::unwrap_used, reason = "a test whose packets are not well-formed has failed")]

#[path = "checks/offload.rs"]
mod checks;

use checks::{Piece, arrive_as_sent, cut, offload, put_together, reference_is_valid};
use handfast::io::offload::{Capabilities, MAX_PIECES, VnetHeader};
use handfast::ip::IpPacket;
use handfast::ip::checksum::{Sum, Transport, is_valid};
use proptest::prelude::*;
use proptest::sample::Index;

const ALL: Capabilities = Capabilities { tso: true, uso: true };

/// A TCP or UDP packet of up to 64 KiB, and the length of its pieces.
#[derive(Clone, Debug)]
struct Super {
    v6: bool,
    udp: bool,
    /// Ports and the last byte of the addresses: a small number, so that flows meet.
    flow: u8,
    class: u8,
    identification: u16,
    dont_fragment: bool,
    sequence: u32,
    flags: u8,
    options: usize,
    size: u16,
    len: usize,
}

impl Super {
    /// The packet as the kernel hands it over.
    fn read(&self) -> (VnetHeader, Vec<u8>) {
        let (host, port) = (self.flow & 1, 1000 + u16::from(self.flow >> 1));
        let mut upper = [port.to_be_bytes(), 443_u16.to_be_bytes()].concat();
        if self.udp {
            upper.extend([((8 + self.len) as u16).to_be_bytes(), [0, 0]].concat());
        } else {
            upper.extend(self.sequence.to_be_bytes());
            upper.extend([1, 2, 3, 4, ((5 + self.options) << 4) as u8, self.flags, 0x20, 0, 0, 0, 0, 0]);
            upper.extend(std::iter::repeat_n([1, 1, 8, 10], self.options).flatten());
        }
        let header_len = upper.len();
        upper.extend((0..self.len).map(|at| (at * 7 + at / 256) as u8));
        let mut bytes = self.ip_header(host, upper.len());
        let start = bytes.len();
        bytes.extend(upper);

        let ip = IpPacket::parse(&bytes).unwrap();
        let transport = Transport::of(&ip).unwrap();
        let seed = Sum::pseudo_header(&ip, ip.upper().len() as u16).fold();
        let at = start + transport.checksum_offset();
        bytes[at..at + 2].copy_from_slice(&seed.to_be_bytes());
        let is_super = self.len > usize::from(self.size);
        let ecn = if !self.udp && self.flags & 0x80 != 0 { 0x80 } else { 0 };
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type: match (is_super, self.udp, self.v6) {
                (false, _, _) => 0,
                (true, true, _) => 5,
                (true, false, false) => 1 | ecn,
                (true, false, true) => 4 | ecn,
            },
            header_len: if is_super { (start + header_len) as u16 } else { 0 },
            gso_size: if is_super { self.size } else { 0 },
            checksum_start: start as u16,
            checksum_offset: transport.checksum_offset() as u16,
        };
        (header, bytes)
    }

    fn ip_header(&self, host: u8, len: usize) -> Vec<u8> {
        let number = if self.udp { 17 } else { 6 };
        if self.v6 {
            let [high, low] = (len as u16).to_be_bytes();
            let (src, dst) = ([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [&[0xfd; 15][..], &[host]].concat());
            return [&[0x60 | self.class >> 4, self.class << 4, 5, 6, high, low, number, 64][..], &src, &dst].concat();
        }
        let [high, low] = ((20 + len) as u16).to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        let fragment = if self.dont_fragment { 0x40 } else { 0 };
        let mut header = vec![0x45, self.class, high, low, i0, i1, fragment, 0, 64, number, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, host]);
        let checksum = Sum::of(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}

/// Super packets of up to `pieces` pieces.
fn super_packet(pieces: usize) -> impl Strategy<Value = Super> {
    // ACK with or without FIN, PSH, ECE and CWR.
    let flags = (any::<u8>()).prop_map(|bits| 0x10 | bits & 0xc9);
    let size = prop_oneof![1..40_u16, Just(536), Just(1188), 1000..1500_u16];
    let identification = prop_oneof![any::<u16>(), Just(0xffff)];
    let sequence = prop_oneof![any::<u32>(), Just(u32::MAX - 100)];
    (
        (any::<bool>(), any::<bool>(), 0..4_u8, prop_oneof![Just(0_u8), any::<u8>()]),
        (identification, any::<bool>(), sequence, flags, 0..=10_usize),
        (size, 1..=pieces, any::<Index>()),
    )
        .prop_map(
            |(
                (v6, udp, flow, class),
                (identification, dont_fragment, sequence, flags, options),
                (size, pieces, rest),
            )| {
                // The last piece is as long as the others or shorter, and all are no more than a packet holds.
                let pieces = pieces.min(65_000 / usize::from(size)).max(1);
                let len = usize::from(size) * (pieces - 1) + 1 + rest.index(usize::from(size));
                Super { v6, udp, flow, class, identification, dont_fragment, sequence, flags, options, size, len }
            },
        )
}

/// Packets that are never merged: ping, a bare acknowledgment, a connection's begin, a fragment.
fn lone_packet() -> impl Strategy<Value = Piece> {
    (super_packet(1), 0..5_u8, any::<bool>()).prop_map(|(mut shape, kind, is_partial)| {
        if kind < 2 {
            shape.udp = false;
            shape.len = 0;
            shape.flags = if kind == 0 { 0x02 } else { 0x10 };
        }
        let (_, mut bytes) = shape.read();
        let is_partial = is_partial && kind < 2;
        if kind > 2 {
            // Another protocol, or fragment.
            match (shape.v6, kind) {
                (false, 3) => bytes[9] = 1,
                (false, _) => bytes[6] = 0x20,
                (true, _) => bytes[6] = 58,
            }
        }
        Piece { bytes, is_partial }
    })
}

/// What becomes of the pieces on their way.
#[derive(Clone, Debug)]
enum Fate {
    Lost(Index),
    Late(Index, Index),
    Repeated(Index),
    Plain(Index),
    Remarked(Index),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        any::<Index>().prop_map(Fate::Lost),
        any::<(Index, Index)>().prop_map(|(from, to)| Fate::Late(from, to)),
        any::<Index>().prop_map(Fate::Repeated),
        any::<Index>().prop_map(Fate::Plain),
        any::<Index>().prop_map(Fate::Remarked),
    ]
}

fn suffer(pieces: &mut Vec<Piece>, fate: &Fate) {
    if pieces.is_empty() {
        return;
    }
    let count = pieces.len();
    match fate {
        Fate::Lost(at) => drop(pieces.remove(at.index(count))),
        Fate::Late(from, to) => {
            let piece = pieces.remove(from.index(count));
            pieces.insert(to.index(count), piece);
        }
        Fate::Repeated(at) => pieces.push(pieces[at.index(count)].clone()),
        Fate::Plain(at) => pieces[at.index(count)].is_partial = false,
        // Time to live or hop limit; in IPv4, the checksum of the header is wrong now.
        Fate::Remarked(at) => {
            let bytes = &mut pieces[at.index(count)].bytes;
            let at = if bytes[0] >> 4 == 4 { 8 } else { 7 };
            bytes[at] -= 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_super_packet_that_is_cut_comes_together_as_it_was(shape in super_packet(MAX_PIECES)) {
        let (header, packet) = shape.read();
        let pieces = cut(&header, &packet, 65_535).unwrap();
        prop_assert_eq!(pieces.len(), shape.len.div_ceil(shape.size.into()));
        prop_assert_eq!(put_together(&pieces, ALL), [(header, packet)]);
    }

    #[test]
    fn pieces_are_no_longer_than_the_limit_and_valid(shape in super_packet(200), limit in 60..2000_usize) {
        let (header, packet) = shape.read();
        for piece in cut(&header, &packet, limit).unwrap() {
            prop_assert!(piece.is_partial);
            let mut bytes = piece.bytes;
            handfast::ip::checksum::complete(&mut bytes).unwrap();
            prop_assert!(is_valid(&bytes));
            prop_assert_eq!(reference_is_valid(&bytes), Some(true));
        }
    }

    #[test]
    fn whatever_happens_on_the_way_each_flow_arrives_as_it_was_sent(
        shapes in prop::collection::vec((super_packet(12), 200..1500_usize), 1..14),
        lone in prop::collection::vec((any::<Index>(), lone_packet()), 0..4),
        mix in prop::collection::vec(any::<Index>(), 0..100),
        fates in prop::collection::vec(fate(), 0..6),
        tso: bool, uso: bool,
    ) {
        let mut flows: Vec<_> = shapes.iter().map(|(shape, limit)| {
            let (header, packet) = shape.read();
            cut(&header, &packet, *limit).unwrap().into_iter()
        }).collect();
        // Some pieces of this one, some of that one, and then the rest.
        let mut pieces: Vec<Piece> = mix.iter().filter_map(|at| flows[at.index(shapes.len())].next()).collect();
        pieces.extend(flows.into_iter().flatten());
        for (at, piece) in lone {
            pieces.insert(at.index(pieces.len() + 1), piece);
        }
        for fate in &fates {
            suffer(&mut pieces, fate);
        }
        arrive_as_sent(&pieces, Capabilities { tso, uso });
    }

    #[test]
    fn whatever_is_read_from_the_device_is_refused_or_arrives(
        shape in super_packet(12), lies in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), choices: [u8; 6],
    ) {
        let (header, packet) = shape.read();
        let mut script = [&choices[..], &header.encode(), &packet].concat();
        for (at, lie) in lies {
            let at = at.index(script.len().min(120));
            script[at] = lie;
        }
        offload(&script);
    }

    #[test]
    fn no_bytes_do_harm(script in prop::collection::vec(any::<u8>(), 0..200), version in 4..=6_u8, gso in 0..6_u8) {
        offload(&script);
        let mut script = script;
        if script.len() > 36 {
            script[16] = version << 4 | 5;
            (script[6], script[7]) = (1, gso);
            script[if version == 4 { 25 } else { 22 }] = if gso == 5 { 17 } else { 6 };
            script[2] |= 1;
            offload(&script);
        }
    }
}
