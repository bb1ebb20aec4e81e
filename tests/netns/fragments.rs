//! Packets that the sending host has cut to the MTU of the interface itself.

use crate::support::lab::Setup;
use crate::support::namespace::Namespace;
use crate::support::traffic::{exchange, pattern};

/// MTU of the interface where nothing else is said.
const DEFAULT_MTU: u16 = 1400;
/// Datagrams that are under way at once. What goes in parts is overtaken by what need not, the last fragments of all others; and Linux gives a packet up once
/// more than 64 fragments of others have come between two of its own (`ipfrag_max_dist`).
const BURST: usize = 4;
/// How many bursts.
const BURSTS: usize = 8;

/// How many fragments the host has made, and how many packets it has put together.
fn counted(host: &Namespace) -> [u64; 2] {
    ["IpFragCreates Ip6FragCreates", "IpReasmOKs Ip6ReasmOKs"].map(|names| host.counted(names))
}

/// Datagrams and pings longer than the interface takes arrive whole, in both directions and both versions of IP.
fn fragments_arrive(offload: [bool; 2], mtu: u16) {
    let Some(lab) = (Setup { mtu, ..Setup::default() }).build() else { return };
    for (node, offload) in lab.nodes.iter().zip(offload) {
        node.set_offload(offload);
        node.start();
    }
    let (a, b) = lab.pair();
    for (from, to) in [(a, b), (b, a)] {
        for address in [to.v4(), to.v6()] {
            from.ping(address).assert_all_answered();
            for size in [4000, 20_000] {
                let before = (counted(&from.host), counted(&to.host));
                from.ping_long(address, size).assert_all_answered();
                let bytes = pattern(size * BURST * BURSTS);
                for burst in bytes.chunks(size * BURST) {
                    let mut sent: Vec<&[u8]> = burst.chunks(size).collect();
                    let received = exchange(&from.host, (from.like(address), 0), &to.host, address, &sent);
                    sent.sort_unstable();
                    assert!(received == sent, "{size} bytes from {} to {address}", from.name);
                }
                if size > usize::from(mtu) {
                    let packets = 3 + (BURST * BURSTS) as u64;
                    let (sender, receiver) = (counted(&from.host), counted(&to.host));
                    assert!(sender[0] - before.0[0] >= 2 * packets, "{size} bytes were not cut by {}", from.name);
                    assert!(receiver[1] - before.1[1] >= packets, "{size} bytes did not come in pieces");
                }
            }
        }
    }
    assert_eq!((a.host.checksum_errors(), b.host.checksum_errors()), (0, 0));
}

#[test]
fn fragments_arrive_with_offload() {
    fragments_arrive([true, true], DEFAULT_MTU);
}

#[test]
fn fragments_arrive_without_offload() {
    fragments_arrive([false, false], DEFAULT_MTU);
}

#[test]
fn fragments_larger_than_the_road_arrive_with_offload() {
    fragments_arrive([true, true], 9000);
}

#[test]
fn fragments_larger_than_the_road_arrive_without_offload() {
    fragments_arrive([false, false], 9000);
}
