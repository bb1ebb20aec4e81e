//! What the underlay sees, and what `status` says.

use std::net::SocketAddr;

use crate::support::lab::{Family, Setup};
use crate::support::{eventually, seconds};

const PLAINTEXT: &[u8; 16] = b"READ ME WHO CAN!";
const RELIABLE_PORT: u16 = 514;

/// PROTOCOL §2: which types may be seen by an outsider, and how long they are.
fn is_allowed(kind: Option<u8>, length: usize) -> bool {
    match kind {
        Some(0x01 | 0x81) => length == 162,
        Some(0x83 | 0x02 | 0x82) => length == 34,
        // Larger than every path carries where that is proven, and while it is being probed (§8.5).
        Some(0x10) => (32..=8972).contains(&length),
        _ => false,
    }
}

#[test]
fn the_underlay_shows_nothing_but_hello_retry_and_sealed_packets() {
    let Some(lab) = (Setup { reliable_port: Some(RELIABLE_PORT), mtu: 4000, ..Setup::default() }).build() else {
        return;
    };
    let (a, b) = lab.pair();
    let capture = lab.capture();
    a.start();
    b.start();
    let pattern: String = PLAINTEXT.iter().map(|byte| format!("{byte:02x}")).collect();
    a.ping_with(b.v4(), &format!("-c 20 -i 0.05 -s 1000 -p {pattern}")).assert_all_answered();
    a.ping_with(b.v6(), &format!("-c 20 -i 0.05 -s 3000 -p {pattern}")).assert_all_answered();
    let receiver = b.host.udp(SocketAddr::new(b.v4(), RELIABLE_PORT));
    let sender = a.host.udp(SocketAddr::new(a.v4(), 0));
    receiver.set_read_timeout(Some(seconds(5))).unwrap();
    sender.send_to(&PLAINTEXT.repeat(60), (b.v4(), RELIABLE_PORT)).unwrap();
    assert_eq!(receiver.recv(&mut [0; 2000]).unwrap(), 960);

    let datagrams = capture.datagrams();
    for datagram in &datagrams {
        let payload = &datagram.payload;
        assert!(payload[0] == 1 && is_allowed(datagram.kind(), payload.len()), "{datagram:02x?}");
        assert!(!payload.windows(PLAINTEXT.len()).any(|window| window == PLAINTEXT), "plaintext in {datagram:02x?}");
    }
    let kinds = capture.kinds();
    // A hello without and one with a cookie, a retry, an answer; and what was said before the other was up, or by both at once.
    assert!((2..8).contains(&kinds[&Some(0x01)]), "{kinds:?}");
    assert!((1..4).contains(&kinds[&Some(0x83)]) && (1..4).contains(&kinds[&Some(0x81)]), "{kinds:?}");
    assert!(kinds[&Some(0x10)] > 160, "{kinds:?}");
}

#[test]
fn status_says_what_is() {
    let Some(lab) = (Setup { family: Family::V6, ..Setup::default() }).build() else { return };
    let (a, b) = lab.pair();
    a.start();
    let before = a.status();
    assert_eq!(before.peer("b").state(), "connecting");
    assert_eq!((before.peer("b").session_age(), before.peer("b").endpoint()), (None, None));
    assert!(a.status_text().contains("connecting"));
    b.start();

    a.ping(b.v4()).assert_all_answered();
    let status = a.status();
    let node = &status.0;
    assert_eq!(node["version"], 1);
    assert_eq!(node["daemon_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(node["interface"]["name"], "hf0");
    assert_eq!(node["interface"]["mtu"], 1280);
    assert_eq!(node["interface"]["addresses"][0], "10.77.0.1/24");
    assert_eq!(node["public_key"], a.public_key.as_str());
    assert_eq!(node["port"], 18502);
    assert!(node["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert!(node["counters"]["udp_sent"].as_u64().unwrap() > 0);

    let peer = status.peer("b");
    assert_eq!(peer.state(), "connected");
    assert_eq!(peer.endpoint(), Some(lab.endpoint(b)));
    assert_eq!(peer.0["public_key"], b.public_key.as_str());
    assert_eq!(peer.0["prefixes"][0], "10.77.0.2/32");
    assert_eq!(peer.0["post_quantum"], true);
    assert!(["AES-256-GCM", "ChaCha20-Poly1305"].contains(&peer.0["cipher"].as_str().unwrap()));
    assert!(peer.0["rtt_ms"].as_f64().unwrap() < 1000.0);
    assert!(peer.0["last_received_seconds"].as_f64().unwrap() < 20.0);
    // The search has begun with the first packet, and each try takes 200 ms: Ethernet over IPv6, or not known yet.
    assert!([1228, 1452].contains(&peer.0["datagram_limit"].as_u64().unwrap()), "{peer:?}");
    assert_eq!((&peer.0["tx_packets"], &peer.0["tx_bytes"]), (&5.into(), &(5 * 84).into()));
    assert_eq!((&peer.0["rx_packets"], &peer.0["rx_bytes"]), (&5.into(), &(5 * 84).into()));
    let text = a.status_text();
    assert!(text.contains("connected") && text.contains("post-quantum") && text.contains("10.77.0.1/24"), "{text}");
}

#[test]
fn two_peers_and_nothing_to_do_take_less_than_fifteen_mebibytes() {
    let Some(lab) = (Setup { nodes: 3, ..Setup::default() }).up() else { return };
    let [a, b, c] = lab.nodes.as_slice() else { panic!("three nodes") };
    a.ping(b.v4()).assert_all_answered();
    a.ping(c.v4()).assert_all_answered();
    eventually(seconds(10), "the status was asked and answered", || a.status().peer("c").state() == "connected");
    let resident = a.resident();
    assert!(resident < 15 << 20, "{} KiB", resident >> 10);
}
