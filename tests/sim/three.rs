//! Three nodes: who gets what, who may say what, and what has no way.

use std::net::{IpAddr, Ipv4Addr};

use handfast::base::PeerId;
use handfast::proto::{Dropped, NodeConfig, PeerConfig};
use ipnet::IpNet;

use crate::world::{Line, World, ms, overlay_v4, overlay_v6, secs, seeds};

fn connected(seed: u64) -> World {
    let mut world = World::new(seed, 3, Line::rough(ms(15), 0));
    for host in 0..3 {
        world.start(host);
    }
    world.run_for(secs(2));
    world
}

#[test]
fn three_pairs_talk_at_once_and_nobody_gets_what_is_for_another() {
    for seed in seeds(30) {
        let mut world = connected(seed);
        for _ in 0..200 {
            for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
                world.send(from, to);
            }
            world.run_for(ms(7));
        }
        world.run_for(secs(1));
        assert!(world.all_delivered_since(0));
        assert_eq!([0, 1, 2].map(|host| world.hosts[host].received.len()), [400; 3]);
    }
}

#[test]
fn small_packets_that_are_ready_together_share_datagrams_even_when_destinations_take_turns() {
    let mut world = connected(1);
    world.send(0, 1);
    world.send(0, 2);
    // The search for the size of the paths comes first.
    world.run_for(secs(2));
    let before = world.sent[0].0;
    world.tap = Some(Vec::new());
    for _ in 0..10 {
        world.send(0, 1);
        world.send(0, 2);
    }
    world.run_for(secs(1));
    assert!(world.all_delivered_since(0));
    // Pings of the paths are 64 bytes long, or as long as any path carries; 20 packets of 100 bytes would be 3 kB of datagrams, and share two or three for each peer.
    let datagrams = world.tap.take().unwrap_or_default();
    let from = world.hosts[0].address;
    let packets =
        datagrams.iter().filter(|datagram| datagram.from == from && ![64, 1228].contains(&datagram.bytes.len()));
    assert!(packets.count() <= 20);
    assert!(world.sent[0].0 - before <= 20 + 12, "and few pings");
}

/// A UDP packet from any address to any other.
fn udp(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(src.octets(), dst.octets(), 64).udp(7, 7).write(&mut bytes, b"forged").unwrap();
    bytes
}

#[test]
fn nobody_may_use_the_address_of_another() {
    let mut world = connected(1);
    // Host 0 speaks to host 1 with the address of host 2, of host 1 itself, and of nobody.
    let sources = [overlay_v4(2), overlay_v4(1), Ipv4Addr::new(10, 77, 0, 200), Ipv4Addr::UNSPECIFIED];
    for source in sources {
        world.send_bytes(0, &udp(source, overlay_v4(1))).unwrap();
    }
    world.run_for(secs(1));
    assert_eq!(world.drops(1, Dropped::SpoofedSource), sources.len() as u64);
    assert!(world.hosts[1].received.is_empty() && world.hosts[1].other.is_empty());
    assert_eq!(world.status(1, 0).drops.of(Dropped::SpoofedSource), 4, "counted at the peer that did it");
    assert_eq!(world.status(1, 2).drops.of(Dropped::SpoofedSource), 0);
}

#[test]
fn the_longest_prefix_chooses_the_peer_and_judges_the_source() {
    let mut world = World::new(1, 3, Line::clean(ms(10)));
    let ids: Vec<PeerId> = world.hosts.iter().map(|host| host.id).collect();
    let endpoints: Vec<_> = world.hosts.iter().map(|host| host.address).collect();
    let peer = |host: usize, prefixes: &[&str]| PeerConfig {
        id: ids[host],
        endpoints: vec![endpoints[host]],
        prefixes: prefixes.iter().map(|prefix| prefix.parse::<IpNet>().unwrap()).collect(),
        keepalive: None,
    };
    // Host 1 has all of 10/8, except one address that is of host 2.
    let peers = vec![peer(1, &["10.0.0.0/8"]), peer(2, &["10.9.9.9/32"])];
    world.start_with(0, NodeConfig { peers, addresses: vec![IpAddr::V4(overlay_v4(0))], ..NodeConfig::default() });
    for host in [1, 2] {
        let peers = vec![peer(0, &["0.0.0.0/0"]), peer(3 - host, &["192.0.2.0/24"])];
        world.start_with(host, NodeConfig { peers, ..NodeConfig::default() });
    }
    world.run_for(secs(1));
    let (wide, narrow) = (Ipv4Addr::new(10, 1, 1, 1), Ipv4Addr::new(10, 9, 9, 9));
    world.send_bytes(0, &udp(overlay_v4(0), wide)).unwrap();
    world.send_bytes(0, &udp(overlay_v4(0), narrow)).unwrap();
    world.run_for(secs(1));
    assert_eq!(world.hosts[1].other, [udp(overlay_v4(0), wide)]);
    assert_eq!(world.hosts[2].other, [udp(overlay_v4(0), narrow)]);
    // And back: the address within 10/8 that is of host 2 is not host 1's to use.
    world.send_bytes(1, &udp(narrow, overlay_v4(0))).unwrap();
    world.send_bytes(2, &udp(narrow, overlay_v4(0))).unwrap();
    world.run_for(secs(1));
    assert_eq!(world.hosts[0].other, [udp(narrow, overlay_v4(0))]);
    assert_eq!(world.drops(0, Dropped::SpoofedSource), 1);
}

#[test]
fn a_packet_without_a_way_is_answered_by_icmp() {
    let mut world = connected(1);
    assert_eq!(world.send_bytes(0, &udp(overlay_v4(0), Ipv4Addr::new(10, 99, 0, 1))), Err(Dropped::NoRoute));
    let answer = world.hosts[0].other.pop().expect("an ICMP error");
    assert_eq!((answer[9], answer[20], answer[21]), (1, 3, 0), "ICMP destination unreachable, network");
    // Not from the own address, from which no host believes that a packet comes in.
    assert_eq!(answer[12..20], [[10, 99, 0, 1], overlay_v4(0).octets()].concat());

    let mut v6 = Vec::new();
    let nowhere = [0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    etherparse::PacketBuilder::ipv6(overlay_v6(0).octets(), nowhere, 64).udp(7, 7).write(&mut v6, b"lost").unwrap();
    assert_eq!(world.send_bytes(0, &v6), Err(Dropped::NoRoute));
    let answer = world.hosts[0].other.pop().expect("an ICMPv6 error");
    assert_eq!((answer[6], answer[40], answer[41]), (58, 1, 0), "ICMPv6 destination unreachable, no route");
    assert_eq!(answer[8..40], [nowhere, overlay_v6(0).octets()].concat());
    // An error is not answered by an error.
    assert_eq!(world.send_bytes(0, &answer), Err(Dropped::NoRoute));
    assert!(world.hosts[0].other.is_empty());
}
