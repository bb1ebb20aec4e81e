//! What a path carries: found by probes, lost and found again, and told to the hosts behind the tunnel (PROTOCOL §8.5, §11.4).

use std::net::SocketAddr;
use std::time::Duration;

use handfast::proto::command::PeerStatus;
use handfast::proto::{Command, Dropped};

use crate::world::{HostId, Line, World, address, ms, overlay_v4, overlay_v6, secs, seeds};

/// What every path carries.
const BASE: usize = 1228;
/// Header and tag around a plaintext.
const ENVELOPE: usize = 30;

fn line(mtu: usize) -> Line {
    Line { mtu, ..Line::clean(ms(20)) }
}

fn address_v6(host: HostId) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16 + 1], 18502))
}

/// Two hosts with a session over IPv6.
fn connected_v6(seed: u64, line: Line) -> World {
    let mut world = World::new(seed, 2, line);
    for host in 0..2 {
        world.hosts[host].address = address_v6(host);
        for (&other, known) in &mut world.hosts[host].known {
            known.endpoints = vec![address_v6(other)];
        }
    }
    world.forget_endpoint(1, 0);
    world.start(1);
    world.start(0);
    world.run_for(secs(2));
    world
}

/// The largest datagram that `host` sends to the other.
fn limit(world: &World, host: HostId) -> usize {
    let PeerStatus { session, .. } = world.status(host, 1 - host);
    session.map_or(0, |session| session.datagram_limit + ENVELOPE)
}

/// Traffic both ways, a packet of `len` bytes each `pause`.
fn talk(world: &mut World, duration: Duration, pause: Duration, len: usize) {
    let end = world.now + duration;
    while world.now < end {
        world.send_sized(0, 1, 0, len);
        world.send_sized(1, 0, 0, len);
        world.run_for(pause);
    }
}

/// Lengths of the datagrams that were seen since the tap was set.
fn seen(world: &mut World) -> Vec<usize> {
    world.tap.replace(Vec::new()).unwrap_or_default().iter().map(|datagram| datagram.bytes.len()).collect()
}

#[test]
fn a_path_of_ethernet_carries_its_full_size_one_round_trip_after_the_first_packet() {
    for (mut world, size) in [(World::connected(1, line(1500)), 1472), (connected_v6(1, line(1500)), 1452)] {
        assert_eq!([0, 1].map(|host| limit(&world, host)), [BASE; 2]);
        world.send(0, 1);
        world.run_for(ms(40));
        assert_eq!([0, 1].map(|host| limit(&world, host)), [size, BASE], "only who sends searches");
        world.send(1, 0);
        world.run_for(secs(2));
        assert_eq!([0, 1].map(|host| limit(&world, host)), [size; 2]);
        world.tap = Some(Vec::new());
        world.send_sized(0, 1, 0, size - 37);
        world.run_for(ms(20));
        assert!(seen(&mut world).contains(&size), "the longest packet that fits travels whole");
        assert!(world.all_delivered_since(0));
    }
}

#[test]
fn the_sizes_of_other_networks_are_found() {
    for (mtu, v4, v6) in [(9000, 8972, 8952), (1492, 1464, 1444), (1420, 1392, 1372), (1280, 1252, BASE)] {
        for (mut world, size) in [(World::connected(1, line(mtu)), v4), (connected_v6(1, line(mtu)), v6)] {
            talk(&mut world, secs(5), ms(50), 300);
            assert_eq!([0, 1].map(|host| limit(&world, host)), [size; 2], "MTU {mtu}");
            for len in [100, 1191, 1192, 1280, 1420, 1435, 1436, 1500, 4000, 8935, 8936, 9000, 30_000, 65_535] {
                for channel in [0, 1] {
                    world.send_sized(0, 1, channel, len);
                    world.send_sized(1, 0, channel, len);
                    world.run_for(ms(100));
                }
            }
            world.run_for(secs(5));
            assert!(world.all_delivered_since(0), "MTU {mtu}");
        }
    }
}

#[test]
fn each_direction_has_its_own_size() {
    let mut world = World::connected(1, line(1500));
    world.set_line(1, 0, line(1400));
    talk(&mut world, secs(5), ms(50), 1300);
    assert_eq!([0, 1].map(|host| limit(&world, host)), [1472, 1372]);
}

#[test]
fn a_path_that_silently_shrinks_in_the_middle_of_a_transfer_is_noticed_and_nothing_stays_stuck() {
    for seed in seeds(10) {
        let mut world = World::connected(seed, line(1500));
        talk(&mut world, secs(3), ms(10), 1300);
        assert_eq!([0, 1].map(|host| limit(&world, host)), [1472; 2]);
        for _ in 0..200 {
            // A reliable transfer is under way.
            let _ = world.try_send(0, 1, 1, 1280);
        }
        world.run_for(ms(world.elapsed().subsec_millis().into()));
        world.set_lines(0, 1, line(1300));
        let begun = world.now;
        while limit(&world, 0) > 1272 || limit(&world, 1) > 1272 {
            talk(&mut world, ms(10), ms(10), 1300);
            assert!(world.now - begun < secs(2), "a black hole");
        }
        talk(&mut world, secs(5), ms(10), 1300);
        let since = world.packets_sent();
        talk(&mut world, secs(5), ms(10), 1300);
        world.run_for(secs(10));
        assert!(world.all_delivered_since(since), "traffic goes on");
        assert!(world.lost_reliable().is_empty(), "and the transfer is complete");
        for host in 0..2 {
            assert!((1272 - 15..=1272).contains(&limit(&world, host)), "{} bytes", limit(&world, host));
        }
        assert_eq!(world.status(0, 1).traffic.sessions, 1);
        // The path heals, which a search every ten minutes finds out.
        world.set_lines(0, 1, line(1500));
        talk(&mut world, secs(620), ms(500), 300);
        assert_eq!([0, 1].map(|host| limit(&world, host)), [1472; 2]);
    }
}

#[test]
fn a_line_that_is_cut_and_mended_keeps_its_size() {
    for cut in [1, 3, 10] {
        let mut world = World::connected(1, line(1500));
        talk(&mut world, secs(3), ms(10), 1300);
        world.set_up(0, 1, false);
        talk(&mut world, secs(cut), ms(10), 1300);
        world.set_up(0, 1, true);
        talk(&mut world, secs(3), ms(10), 1300);
        assert_eq!([0, 1].map(|host| limit(&world, host)), [1472; 2], "{cut} seconds");
    }
}

#[test]
fn a_tenth_of_loss_each_way_does_not_break_the_search() {
    for seed in seeds(30) {
        let mut world = World::connected(seed, Line { mtu: 1500, ..Line::rough(ms(20), 100) });
        talk(&mut world, secs(5), ms(20), 300);
        assert_eq!([0, 1].map(|host| limit(&world, host)), [1472; 2]);
    }
}

#[test]
fn a_session_without_user_traffic_sends_no_probes() {
    let mut world = World::new(1, 2, line(9000));
    world.forget_endpoint(1, 0);
    if let Some(known) = world.hosts[0].known.get_mut(&1) {
        known.keepalive = Some(secs(20));
    }
    world.tap = Some(Vec::new());
    world.start(1);
    world.start(0);
    world.run_for(secs(1000));
    assert!(world.status(0, 1).session.is_some_and(|session| session.epoch > 5), "a session with rekeys");
    let sizes = seen(&mut world);
    assert!(sizes.len() > 50 && sizes.iter().all(|&size| size <= BASE && size != 64), "{sizes:?}");
    // It searches when there is traffic, and then rests again.
    talk(&mut world, secs(2), ms(50), 8000);
    assert_eq!([0, 1].map(|host| limit(&world, host)), [8972; 2]);
    world.run_for(secs(5));
    seen(&mut world);
    world.run_for(secs(2000));
    let sizes = seen(&mut world);
    assert!(sizes.len() > 100 && sizes.iter().all(|&size| size <= BASE && size != 64), "{sizes:?}");
}

#[test]
fn probes_do_not_keep_a_session_alive() {
    let mut world = World::connected(1, line(1500));
    world.send_sized(0, 1, 0, 1400);
    world.run_for(secs(185));
    // The one packet brought one rekey; the probes have brought none.
    world.run_for(secs(185));
    assert_eq!([world.session(0, 1), world.session(1, 0)], [None, None]);
}

#[test]
fn another_address_is_another_path() {
    let mut world = World::connected(1, line(1500));
    talk(&mut world, secs(3), ms(20), 300);
    world.roam(0, address(100));
    world.send(0, 1);
    // The packet, then a small ping and its answer, then one of full size and its answer; and the old address has 100 ms to answer.
    world.run_for(ms(130));
    assert_eq!(world.session(1, 0).map(|(_, endpoint)| endpoint), Some(address(100)));
    assert_eq!(limit(&world, 1), BASE, "nothing is known of the new path");
    talk(&mut world, secs(3), ms(20), 300);
    assert_eq!(limit(&world, 1), 1472);
    // From IPv4 to IPv6.
    world.roam(0, address_v6(0));
    talk(&mut world, secs(3), ms(20), 300);
    assert_eq!(limit(&world, 1), 1452);
}

#[test]
fn what_the_own_host_refuses_is_not_sent_any_more() {
    let mut world = World::connected(1, line(1500));
    talk(&mut world, secs(3), ms(20), 1300);
    let remote = world.hosts[1].address;
    world.set_line(0, 1, line(1400));
    world.tap = Some(Vec::new());
    world.command(0, Command::TooBig { remote: address(77), len: 1400 });
    assert_eq!(limit(&world, 0), 1472, "that was another way");
    world.command(0, Command::TooBig { remote, len: 1472 });
    assert_eq!(limit(&world, 0), BASE);
    talk(&mut world, secs(5), ms(20), 1300);
    assert_eq!(limit(&world, 0), 1372);
    let sent = world.tap.take().unwrap_or_default();
    assert!(sent.iter().all(|datagram| datagram.to != remote || datagram.bytes.len() < 1472));
}

#[test]
fn the_limit_of_the_configuration_is_kept() {
    for (max, found) in [(0, BASE), (BASE, BASE), (1300, 1300), (1500, 1500), (65_507, 8972)] {
        let mut world = World::new(1, 2, line(9000));
        world.hosts[0].max_datagram = max;
        world.tap = Some(Vec::new());
        world.start(0);
        world.start(1);
        world.run_for(secs(2));
        talk(&mut world, secs(5), ms(20), 3000);
        assert_eq!([0, 1].map(|host| limit(&world, host)), [found, 8972]);
        let from = world.hosts[0].address;
        let sent = world.tap.take().unwrap_or_default();
        assert!(sent.iter().all(|datagram| datagram.from != from || datagram.bytes.len() <= max.max(BASE)));
        assert!(world.all_delivered_since(0));
    }
}

/// An IP protocol of nobody (RFC 3692).
const EXPERIMENT: etherparse::IpNumber = etherparse::IpNumber(253);

/// An IP packet of `len` bytes, whose sender forbids fragments.
fn large(from: HostId, v6: bool, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = vec![7; len - if v6 { 40 } else { 20 }];
    if v6 {
        let builder = etherparse::PacketBuilder::ipv6(overlay_v6(from).octets(), overlay_v6(1 - from).octets(), 64);
        builder.write(&mut bytes, EXPERIMENT, &payload).unwrap();
    } else {
        let builder = etherparse::PacketBuilder::ipv4(overlay_v4(from).octets(), overlay_v4(1 - from).octets(), 64);
        builder.write(&mut bytes, EXPERIMENT, &payload).unwrap();
        bytes[6] = 0x40;
    }
    bytes
}

#[test]
fn a_host_is_told_the_size_that_fits_when_it_is_known_and_its_packet_arrives_all_the_same() {
    let mut world = World::connected(1, line(1500));
    let packets = [large(0, false, 1500), large(0, true, 1500)];
    for packet in &packets {
        world.send_bytes(0, packet).unwrap();
    }
    world.run_for(secs(2));
    assert!(world.hosts[0].other.is_empty(), "nothing is told while the search is under way");
    for packet in &packets {
        world.send_bytes(0, packet).unwrap();
    }
    let [v4, v6] = std::mem::take(&mut world.hosts[0].other).try_into().expect("two errors");
    assert_eq!((v4[9], v4[20], v4[21], &v4[26..28]), (1, 3, 4, &1435_u16.to_be_bytes()[..]), "fragmentation needed");
    // In the name of the destination, which a host believes.
    assert_eq!((&v4[12..16], &v4[16..20]), (&overlay_v4(1).octets()[..], &overlay_v4(0).octets()[..]));
    assert_eq!((v6[6], v6[40], &v6[44..48]), (58, 2, &1435_u32.to_be_bytes()[..]), "packet too big");
    for _ in 0..100 {
        world.send_bytes(0, &packets[0]).unwrap();
        world.send_bytes(0, &large(0, false, 1435)).unwrap();
        world.run_for(ms(20));
    }
    let told = world.hosts[0].other.len();
    assert!((2..=5).contains(&told), "{told} errors in two seconds");
    world.run_for(secs(1));
    assert_eq!(world.hosts[1].other.len(), 4 + 200, "everything has arrived");
    assert_eq!(world.drops(0, Dropped::TooLarge), 0);
}

#[test]
fn ipv6_is_never_told_less_than_1280() {
    let mut world = connected_v6(1, line(1280));
    talk(&mut world, secs(5), ms(50), 300);
    world.send_bytes(0, &large(0, true, 1280)).unwrap();
    assert!(world.hosts[0].other.is_empty(), "IPv6 may rely on 1280");
    world.send_bytes(0, &large(0, true, 1281)).unwrap();
    let answer = world.hosts[0].other.pop().expect("an error");
    assert_eq!(answer[44..48], 1280_u32.to_be_bytes());
}

/// A TCP SYN that announces segments of 1460 bytes, as on Ethernet.
fn syn(from: HostId) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(overlay_v4(from).octets(), overlay_v4(1 - from).octets(), 64)
        .tcp(1000, 2000, 1, 1000)
        .syn()
        .options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)])
        .unwrap()
        .write(&mut bytes, &[])
        .unwrap();
    bytes
}

/// The announced size in the last packet that came out of a tunnel.
fn announced(world: &mut World, host: HostId) -> u16 {
    let bytes = world.hosts[host].other.pop().expect("a SYN");
    assert_eq!((bytes[40], bytes[41]), (2, 4));
    u16::from_be_bytes([bytes[42], bytes[43]])
}

#[test]
fn tcp_announces_segments_that_fit_one_datagram_in_either_direction() {
    let mut world = World::new(1, 2, line(1500));
    // Host 1 does not search, so it does not know what fits.
    world.hosts[1].max_datagram = BASE;
    world.start(0);
    world.start(1);
    world.run_for(secs(2));
    world.send_bytes(0, &syn(0)).unwrap();
    world.run_for(secs(2));
    assert_eq!(announced(&mut world, 1), 1460, "nobody knows yet");
    world.send_bytes(0, &syn(0)).unwrap();
    world.run_for(secs(1));
    assert_eq!(announced(&mut world, 1), 1435 - 40, "lowered on its way out");
    world.send_bytes(1, &syn(1)).unwrap();
    world.run_for(secs(1));
    assert_eq!(announced(&mut world, 0), 1435 - 40, "lowered on its way in");
}
