//! Offload on and off, at either end: whatever the kernels leave to be computed, the hosts get what was sent.

use crate::support::lab::{Lab, Setup};
use crate::support::traffic::{exchange, pattern, transfer};

/// Enough for hundreds of super packets.
const TRANSFER: usize = 8 << 20;

/// A lab whose first two nodes have offload as given.
fn lab(offload: [bool; 2], mtu: u16) -> Option<Lab> {
    let lab = (Setup { mtu, ..Setup::default() }).build()?;
    for (node, offload) in lab.nodes.iter().zip(offload) {
        node.set_offload(offload);
        node.start();
    }
    Some(lab)
}

/// Both directions and both versions of IP: TCP, datagrams of many lengths in bursts, and ping.
fn everything_arrives(lab: &Lab) {
    let (a, b) = lab.pair();
    let bytes = pattern(TRANSFER);
    for (from, to) in [(a, b), (b, a)] {
        for address in [to.v4(), to.v6()] {
            from.ping(address).assert_all_answered();
            from.ping_long(address, 3000).assert_all_answered();
            assert!(transfer(&from.host, &to.host, address, &bytes) == bytes, "{} to {address}", from.name);
            for burst in bytes.chunks(20_000).take(20) {
                // Equal lengths, which travel as trains, and others.
                let mut sent: Vec<&[u8]> = burst.chunks(300 + 8 * usize::from(burst[0])).collect();
                let received = exchange(&from.host, (from.like(address), 0), &to.host, address, &sent);
                sent.sort_unstable();
                assert!(received == sent, "{} to {address}", from.name);
            }
        }
    }
    assert_eq!((a.host.checksum_errors(), b.host.checksum_errors()), (0, 0));
}

#[test]
fn everything_arrives_with_offload_at_both_ends() {
    let Some(lab) = lab([true, true], 1400) else { return };
    everything_arrives(&lab);
}

#[test]
fn everything_arrives_with_offload_at_one_end() {
    let Some(lab) = lab([true, false], 1400) else { return };
    everything_arrives(&lab);
}

#[test]
fn everything_arrives_without_offload() {
    let Some(lab) = lab([false, false], 1400) else { return };
    everything_arrives(&lab);
}

#[test]
fn everything_arrives_with_packets_that_are_larger_than_the_road() {
    let Some(lab) = lab([true, false], 9000) else { return };
    everything_arrives(&lab);
}

#[test]
fn everything_arrives_with_the_smallest_packets_allowed() {
    let Some(lab) = lab([false, true], 1280) else { return };
    everything_arrives(&lab);
}
