//! A node forwards what comes through the tunnel to a host behind it: there is no seal any more, and what checksums were left out has to be there again.

use std::net::IpAddr;

use etherparse::UdpHeader;

use crate::support::lab::{Lab, Setup};
use crate::support::site::{self, Site};
use crate::support::traffic::{PORT, exchange, pattern, transfer};

const TRANSFER: usize = 1 << 20;
/// How many packets of each kind the far host gets at least: `TRANSFER` in segments as long as the tunnel takes.
const LEAST: usize = TRANSFER / 1400;

/// A lab of a client and a gateway with a site behind it, both with offload as given.
fn lab(offload: [bool; 2]) -> Option<(Lab, Site)> {
    let lab = (Setup { mtu: 1400, programs: site::PROGRAMS, ..Setup::default() }).build()?;
    let (a, b) = lab.pair();
    a.change_configuration(|text| text.replace("\"fd77::2/128\"", &format!("\"fd77::2/128\", {}", site::PREFIXES)));
    let site = Site::behind(b);
    for (node, offload) in lab.nodes.iter().zip(offload) {
        node.set_offload(offload);
        node.start();
    }
    Some((lab, site))
}

/// What a datagram must hold for its checksum to come out as zero, which is written as 0xffff.
fn payload_of_checksum_zero(from: IpAddr, own_port: u16, to: IpAddr) -> [u8; 2] {
    let header = UdpHeader { source_port: own_port, destination_port: PORT, length: 10, checksum: 0 };
    let rest = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[0, 0]),
        (IpAddr::V6(from), IpAddr::V6(to)) => header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[0, 0]),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("one packet has one family"),
    };
    rest.unwrap().to_be_bytes()
}

/// TCP and UDP of both versions of IP, in both directions; the checksums of what came to the far host are verified there.
fn checksums_are_right(lab: &Lab, site: &Site) {
    let (a, b) = lab.pair();
    let bytes = pattern(TRANSFER);
    for card in [false, true] {
        site.set_offload(b, card);
        let recording = site.record();
        for address in [site.v4(), site.v6()] {
            let own = a.like(address);
            a.ping(address).assert_all_answered();
            assert!(transfer(&a.host, &site.host, address, &bytes) == bytes, "to {address}");
            assert!(transfer(&site.host, &a.host, own, &bytes) == bytes, "to {own}");
            for burst in bytes.chunks(20_000) {
                // Equal lengths, which travel as trains, and others.
                let mut sent: Vec<&[u8]> = burst.chunks(300 + 4 * usize::from(burst[0])).collect();
                let there = exchange(&a.host, (own, 0), &site.host, address, &sent);
                let back = exchange(&site.host, (address, 0), &a.host, own, &sent);
                sent.sort_unstable();
                assert!(there == sent && back == sent, "between {own} and {address}");
            }
            let zero = payload_of_checksum_zero(own, PORT, address);
            assert_eq!(exchange(&a.host, (own, PORT), &site.host, address, &[&zero]), [zero]);
        }
        recording.verify().assert_all_good(LEAST);
    }
    assert_eq!((a.host.checksum_errors(), b.host.checksum_errors(), site.host.checksum_errors()), (0, 0, 0));
}

#[test]
fn forwarded_packets_have_right_checksums_with_offload_at_both_ends() {
    let Some((lab, site)) = lab([true, true]) else { return };
    checksums_are_right(&lab, &site);
}

#[test]
fn forwarded_packets_have_right_checksums_with_offload_at_the_client() {
    let Some((lab, site)) = lab([true, false]) else { return };
    checksums_are_right(&lab, &site);
}

#[test]
fn forwarded_packets_have_right_checksums_with_offload_at_the_gateway() {
    let Some((lab, site)) = lab([false, true]) else { return };
    checksums_are_right(&lab, &site);
}

#[test]
fn forwarded_packets_have_right_checksums_without_offload() {
    let Some((lab, site)) = lab([false, false]) else { return };
    checksums_are_right(&lab, &site);
}
