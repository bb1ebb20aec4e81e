//! Programs reach each other through the tunnel.

use std::thread;
use std::time::Duration;

use crate::support::delay::Travelled;
use crate::support::lab::{Family, Setup};
use crate::support::{eventually, seconds};

#[test]
fn ping_is_answered_over_an_ipv4_underlay() {
    let Some(lab) = (Setup { family: Family::V4, ..Setup::default() }).up() else { return };
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    a.ping(b.v6()).assert_all_answered();
    b.ping(a.v4()).assert_all_answered();
    b.ping(a.v6()).assert_all_answered();
}

#[test]
fn ping_is_answered_over_an_ipv6_underlay() {
    let Some(lab) = (Setup { family: Family::V6, ..Setup::default() }).up() else { return };
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    a.ping(b.v6()).assert_all_answered();
    assert_eq!(a.status().peer("b").endpoint(), Some(lab.endpoint(b)));
}

/// An echo request or its answer, of 84 bytes, in a sealed packet.
const ECHO: usize = 0x8c;

/// 10 ms there and back. Trips are counted as causes and effects, so that a busy machine cannot change their number.
#[test]
fn the_first_ping_is_answered_within_four_round_trips_of_the_second_start() {
    let Some(lab) = (Setup { delay: Some(Duration::from_millis(5)), ..Setup::default() }).build() else { return };
    let (a, b) = lab.pair();
    // Packets wait ten seconds for a session (PROTOCOL §13).
    b.start();
    let ping = b.ping_on(a.v4(), 1);
    eventually(seconds(5), "a packet waits", || b.status().peer("a").state() == "connecting");
    let before = lab.wire().travelled().len();
    a.start();
    ping.finish().assert_all_answered();

    let travelled = lab.wire().travelled().split_off(before);
    let first = travelled.iter().find(|it| it.datagram.from.ip() == lab.endpoint(a).ip()).expect("a says hello").trip;
    // What follows (probes, pings of paths) is not waited for.
    let is_echo = |it: &&Travelled| it.datagram.payload.len() == ECHO;
    let last = travelled.iter().filter(is_echo).map(|it| it.trip).max().expect("the echo and its answer");
    let sequence: Vec<_> =
        travelled.iter().map(|it| (it.trip, it.datagram.kind(), it.datagram.payload.len())).collect();
    assert!(last - first < 8, "trips {first} to {last} (trip, type, length): {sequence:02x?}");
}

#[test]
fn both_sides_may_start_at_once() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            a.start();
            a.ping(b.v4()).assert_all_answered();
        });
        scope.spawn(|| {
            b.start();
            b.ping(a.v4()).assert_all_answered();
        });
    });
    // Sessions that lost are erased after ten idle seconds: what is left must be the same one on both sides.
    thread::sleep(seconds(12));
    a.ping(b.v4()).assert_all_answered();
    b.ping(a.v4()).assert_all_answered();
}

#[test]
fn a_peer_whose_address_is_not_known_is_reached_once_it_has_called() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    b.forget_endpoints();
    b.start();
    assert!(!b.reaches(a.v4()));
    a.start();
    eventually(seconds(5), "a calls", || b.status().peer("a").endpoint() == Some(lab.endpoint(a)));
    b.ping(a.v4()).assert_all_answered();
}

/// The rule of the overlay leaves the datagrams of the daemon alone.
#[test]
fn the_prefixes_of_a_peer_may_cover_its_own_endpoint() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    a.change_configuration(|text| text.replace("10.77.0.2/32", "0.0.0.0/0").replace("fd77::2/128", "::/0"));
    a.start();
    b.start();
    a.ping(b.v4()).assert_all_answered();
    a.ping(b.v6()).assert_all_answered();
    let outside = lab.endpoint(b).ip();
    assert!(a.host.run(&format!("ip route get {outside}")).contains("dev hf0"), "all traffic goes through the tunnel");
}

/// Of an address in the network of the interface that no peer has.
#[test]
fn a_program_is_told_that_there_is_no_way() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, _) = lab.pair();
    for (to, told) in [("10.77.0.99", "Destination Net Unreachable"), ("fd77::99", "Destination unreachable: No route")]
    {
        let said = a.ping_with(to.parse().unwrap(), "-c 1 -W 2").text;
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn three_nodes_reach_each_other() {
    let Some(lab) = (Setup { nodes: 3, ..Setup::default() }).up() else { return };
    for from in &lab.nodes {
        for to in lab.nodes.iter().filter(|to| to.number != from.number) {
            from.ping(to.v6()).assert_all_answered();
        }
    }
}

#[test]
fn tcp_runs_through_the_tunnel() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    let rate = a.tcp_throughput(b, seconds(3));
    assert!(rate > 1e6, "only {rate} bit/s arrived");
}

#[test]
fn packets_larger_than_a_datagram_arrive() {
    let Some(lab) = (Setup { mtu: 9000, ..Setup::default() }).up() else { return };
    let (a, b) = lab.pair();
    for size in [1100, 1150, 1170, 1200, 1400, 2400, 8000, 8952] {
        // Whole on the inside, whatever becomes of it outside: of a packet that may be cut, nobody is told.
        a.ping_with(b.v4(), &format!("-M dont -s {size} -c 3 -i 0.1 -W 5")).assert_all_answered();
        a.ping_with(b.v6(), &format!("-s {size} -c 3 -i 0.1 -W 5")).assert_all_answered();
    }
    assert!(a.tcp_throughput(b, seconds(2)) > 1e6);
}

#[test]
fn the_host_learns_what_one_datagram_of_the_path_carries() {
    let Some(lab) = (Setup { mtu: 9000, ..Setup::default() }).up() else { return };
    let (a, b) = lab.pair();
    eventually(seconds(10), "Ethernet is found", || {
        a.ping_with(b.v4(), "-c 1 -W 1");
        a.status().peer("b").0["datagram_limit"] == 1472
    });
    // The search for jumbo frames ends as well; then the host keeps the packets as small as it was told: 1472 less 37.
    for to in [b.v4(), b.v6()] {
        eventually(seconds(10), "the host is told", || {
            let said = a.ping_with(to, "-M do -s 2000 -c 2 -i 0.1 -W 1").text;
            said.contains("mtu = 1435") || said.contains("mtu=1435")
        });
    }
    a.ping_with(b.v4(), "-M do -s 1407 -c 3 -i 0.1 -W 5").assert_all_answered();
    a.ping_with(b.v6(), "-M do -s 1387 -c 3 -i 0.1 -W 5").assert_all_answered();
}

#[test]
fn packets_that_the_host_has_fragmented_arrive() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    for size in [1400, 8000] {
        a.ping_with(b.v4(), &format!("-s {size} -c 3 -i 0.1 -W 5")).assert_all_answered();
        a.ping_with(b.v6(), &format!("-s {size} -c 3 -i 0.1 -W 5")).assert_all_answered();
    }
}
