//! A road that swallows long datagrams and tells nobody, from the beginning or from the middle of a transfer on.

use std::sync::Barrier;
use std::thread;

use crate::support::lab::{Lab, Setup};
use crate::support::traffic::{pattern, transfer_and};
use crate::support::{eventually, seconds};

const TRANSFER: usize = 4 << 20;
/// MTU of an underlay of jumbo frames, and the datagram that it carries.
const JUMBO: u16 = 9000;
const JUMBO_LIMIT: u64 = 8972;
/// What every path carries, PROTOCOL §8.5.
const LEAST_LIMIT: u16 = 1228;

fn lab(mtu: u16, underlay_mtu: u16) -> Option<Lab> {
    (Setup { mtu, underlay_mtu, ..Setup::default() }).build()
}

/// Both hosts send to each other over TCP at the same time; something happens in the middle of it.
fn transfers_arrive(lab: &Lab, halfway: impl Fn() + Sync) {
    let (a, b) = lab.pair();
    let bytes = pattern(TRANSFER);
    let middle = Barrier::new(2);
    thread::scope(|scope| {
        for (from, to, address) in [(a, b, b.v4()), (b, a, a.v6())] {
            let (bytes, middle, halfway) = (&bytes, &middle, &halfway);
            scope.spawn(move || {
                let received = transfer_and(&from.host, &to.host, address, bytes, || {
                    if middle.wait().is_leader() {
                        halfway();
                    }
                });
                assert!(received == *bytes, "from {} to {address}", from.name);
            });
        }
    });
}

/// Pings of the least and of the largest size that the interface takes. Of those that forbid fragments, each is answered or its source told, which never happens
/// to 1280 bytes over IPv6; of the others, each is answered.
fn no_ping_is_lost_in_silence(lab: &Lab, mtu: u16) {
    let (a, b) = lab.pair();
    for (from, to) in [(a, b), (b, a)] {
        for size in [1280, mtu] {
            let (of_v4, of_v6) = (size - 28, size - 48);
            from.ping_patiently(to.v4(), 3, &format!("-M dont -s {of_v4}")).assert_all_answered();
            for (address, payload) in [(to.v4(), of_v4), (to.v6(), of_v6)] {
                let ping = from.ping_patiently(address, 3, &format!("-M do -s {payload}"));
                assert!(ping.received + ping.errors >= ping.sent, "{}", ping.text);
                assert!(ping.errors == 0 || address.is_ipv4() || size > 1280, "{}", ping.text);
            }
        }
    }
}

fn limits(lab: &Lab) -> [u64; 2] {
    let (a, b) = lab.pair();
    [(a, "b"), (b, "a")].map(|(node, peer)| node.status().peer(peer).0["datagram_limit"].as_u64().unwrap())
}

fn works_from_the_beginning(mtu: u16, underlay_mtu: u16, most: u16) {
    let Some(lab) = lab(mtu, underlay_mtu) else { return };
    lab.swallow_larger_than(most);
    for node in &lab.nodes {
        node.start();
    }
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    transfers_arrive(&lab, || ());
    // A search begins within a second of the first data, which may be later than all of this.
    eventually(seconds(10), "something is lost, or nothing is shown", || {
        a.ping_with(b.v4(), "-c 1 -W 1");
        lab.swallowed() > 0
    });
    no_ping_is_lost_in_silence(&lab, mtu);
    assert!(limits(&lab).iter().all(|limit| *limit <= most.into()), "{:?}", limits(&lab));
}

fn works_from_the_middle_on(mtu: u16, most: u16) {
    let Some(lab) = lab(mtu, JUMBO) else { return };
    for node in &lab.nodes {
        node.start();
    }
    let (a, b) = lab.pair();
    eventually(seconds(10), "jumbo frames are found", || {
        a.ping_with(b.v4(), "-c 1 -W 1");
        limits(&lab) == [JUMBO_LIMIT; 2]
    });
    transfers_arrive(&lab, || lab.swallow_larger_than(most));
    assert!(limits(&lab).iter().all(|limit| *limit <= most.into()), "{:?}", limits(&lab));
    assert!(lab.swallowed() > 0, "nothing was lost, so nothing was shown");
    no_ping_is_lost_in_silence(&lab, mtu);
}

#[test]
fn the_least_packets_pass_a_road_of_the_least_datagrams() {
    works_from_the_beginning(1280, 1500, LEAST_LIMIT);
}

#[test]
fn default_packets_pass_a_road_that_does_not_carry_them() {
    works_from_the_beginning(1400, 1500, 1300);
}

#[test]
fn jumbo_packets_pass_a_road_of_the_least_datagrams() {
    works_from_the_beginning(9000, JUMBO, LEAST_LIMIT);
}

#[test]
fn jumbo_packets_pass_a_road_that_is_not_as_wide_as_it_looks() {
    works_from_the_beginning(9000, JUMBO, 1472);
}

#[test]
fn a_road_may_become_narrow_under_the_least_packets() {
    works_from_the_middle_on(1280, LEAST_LIMIT);
}

#[test]
fn a_road_may_become_narrow_under_default_packets() {
    works_from_the_middle_on(1400, 1300);
}

#[test]
fn a_road_may_become_narrow_under_jumbo_packets() {
    works_from_the_middle_on(9000, LEAST_LIMIT);
}

#[test]
fn a_road_of_jumbo_packets_may_become_one_of_ethernet() {
    works_from_the_middle_on(9000, 1472);
}
