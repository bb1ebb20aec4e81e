//! A road that marks instead of dropping: what it says reaches the receiver of every packet that can bear it, and costs none of them (PROTOCOL §11.6).

use etherparse::{IpEcn, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder, PacketHeaders, ip_number};
use handfast::proto::Dropped;

use crate::world::{Line, World, ms, overlay_v4, overlay_v6, secs, seeds};

/// An ECN-capable packet from host 0 to host 1; its sequence number is `number`.
fn capable(number: u32, v6: bool, len: usize) -> Vec<u8> {
    let payload = vec![number as u8; len];
    let mut bytes = Vec::new();
    if v6 {
        let mut header = Ipv6Header {
            source: overlay_v6(0).octets(),
            destination: overlay_v6(1).octets(),
            hop_limit: 64,
            next_header: ip_number::TCP,
            ..Ipv6Header::default()
        };
        header.traffic_class = 0b10;
        let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv6(header, Default::default()));
        builder.tcp(1, 2, number, 1000).write(&mut bytes, &payload).unwrap();
    } else {
        let mut header =
            Ipv4Header::new(0, 64, ip_number::TCP, overlay_v4(0).octets(), overlay_v4(1).octets()).unwrap();
        header.ecn = IpEcn::TWO;
        let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
        builder.tcp(1, 2, number, 1000).write(&mut bytes, &payload).unwrap();
    }
    bytes
}

/// Sequence number and mark.
fn seen(bytes: &[u8]) -> (u32, u8) {
    let headers = PacketHeaders::from_ip_slice(bytes).unwrap();
    let mark = match headers.net.unwrap() {
        NetHeaders::Ipv4(header, _) => {
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            header.ecn.value()
        }
        NetHeaders::Ipv6(header, _) => header.traffic_class & 0b11,
        NetHeaders::Arp(_) => panic!("no ARP in a tunnel"),
    };
    (headers.transport.unwrap().tcp().unwrap().sequence_number, mark)
}

#[test]
fn marks_of_the_road_reach_every_packet_that_can_bear_them_and_none_is_lost() {
    let (mut whole, mut parts) = ([0; 2], [0; 2]);
    for seed in seeds(5) {
        let mut world = World::connected(seed, Line { marks: 200, ..Line::rough(ms(20), 0) });
        for number in 0..100 {
            world.send_bytes(0, &capable(number, number % 2 == 1, if number < 50 { 500 } else { 8000 })).unwrap();
            // Packets that are not ECN-capable, and reliable ones, travel beside them.
            world.send(0, 1);
            world.send_sized(0, 1, 1, 300);
            world.run_for(ms(10));
        }
        world.run_for(secs(2));
        assert!(world.all_delivered_since(0));
        let mut arrived: Vec<(u32, u8)> = world.hosts[1].other.iter().map(|bytes| seen(bytes)).collect();
        arrived.sort_unstable();
        assert!(arrived.iter().map(|(number, _)| *number).eq(0..100));
        for (number, mark) in arrived {
            assert!([0b10, 0b11].contains(&mark), "{mark:02b}");
            let counts = if number < 50 { &mut whole } else { &mut parts };
            counts[usize::from(mark == 0b11)] += 1;
        }
        assert_eq!(world.drops(1, Dropped::Congestion), 0);
    }
    let [plain, marked] = whole;
    assert!(marked > 0 && plain > 2 * marked, "a fifth: {whole:?}");
    let [plain, marked] = parts;
    assert!(plain > 0 && marked > 2 * plain, "one of six parts or more: {parts:?}");
}
