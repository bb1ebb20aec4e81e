//! Offload on and off, at either end: whatever the kernels leave to be computed, the hosts get what was sent.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::support::lab::{Lab, Setup};
use crate::support::node::Node;
use crate::support::seconds;

/// Enough for hundreds of super packets.
const TRANSFER: usize = 8 << 20;
const PORT: u16 = 7000;

/// A lab whose first two nodes have offload as given.
fn lab(offload: [bool; 2], mtu: u16) -> Option<Lab> {
    let lab = (Setup { mtu, ..Setup::default() }).build()?;
    for (node, offload) in lab.nodes.iter().zip(offload) {
        node.change_configuration(|text| text.replace("[identity]", &format!("offload = {offload}\n[identity]")));
        node.start();
    }
    Some(lab)
}

/// Bytes without a period that a segment could hide in.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends a transfer over TCP and gives what arrived.
fn transfer(from: &Node, to: &Node, address: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let listener = to.host.inside(|| TcpListener::bind(SocketAddr::new(address, PORT))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.host.inside(|| TcpStream::connect(SocketAddr::new(address, PORT))).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(seconds(30))).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    })
}

/// Packets that the host has refused because a checksum was wrong.
fn checksum_errors(node: &Node) -> u64 {
    let text =
        node.host.run("nstat -asz TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors IcmpInCsumErrors Icmp6InCsumErrors");
    let lines = text.lines().filter(|line| line.contains("CsumErrors"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

/// Both directions and both versions of IP: TCP, datagrams of many lengths in bursts, and ping.
fn everything_arrives(lab: &Lab) {
    let (a, b) = lab.pair();
    let bytes = pattern(TRANSFER);
    for (from, to) in [(a, b), (b, a)] {
        for address in [to.v4(), to.v6()] {
            from.ping(address).assert_all_answered();
            from.ping_with(address, "-c 3 -i 0.1 -W 5 -s 3000").assert_all_answered();
            assert!(transfer(from, to, address, &bytes) == bytes, "{} to {address}", from.name);

            let receiver = to.host.udp(SocketAddr::new(address, PORT));
            receiver.set_read_timeout(Some(seconds(10))).unwrap();
            let own = if address.is_ipv4() { from.v4() } else { from.v6() };
            let sender = from.host.udp(SocketAddr::new(own, 0));
            let mut buffer = [0; 4000];
            for burst in bytes.chunks(20_000).take(20) {
                // Equal lengths, which travel as trains, and others.
                let mut sent: Vec<&[u8]> = burst.chunks(300 + 8 * usize::from(burst[0])).collect();
                for datagram in &sent {
                    sender.send_to(datagram, (address, PORT)).unwrap();
                }
                let mut received: Vec<Vec<u8>> = Vec::new();
                for _ in &sent {
                    let len = receiver.recv(&mut buffer).unwrap();
                    received.push(buffer[..len].to_vec());
                }
                // What goes in parts may be overtaken.
                sent.sort_unstable();
                received.sort_unstable();
                assert!(received == sent, "{} to {address}", from.name);
            }
        }
    }
    assert_eq!((checksum_errors(a), checksum_errors(b)), (0, 0));
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
