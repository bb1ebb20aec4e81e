//! Strangers, liars and noise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handfast::base::Rng;

use crate::support::capture::Datagram;
use crate::support::intruder::Intruder;
use crate::support::lab::{Family, Lab, Setup};
use crate::support::{PORT, eventually, seconds};

#[test]
fn a_node_is_silent_to_who_does_not_know_its_key() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    let strange = a.strange_key();
    a.change_configuration(|text| text.replace(&b.public_key, &strange));
    b.forget_endpoints();
    let capture = lab.capture();
    a.start();
    b.start();
    assert!(!a.reaches(b.v4()));
    assert_eq!(a.status().peer("b").state(), "connecting");
    assert_eq!(b.status().peer("a").state(), "idle");
    eventually(seconds(3), "the hello is counted", || b.status().drops("bad_mac") > 0);
    let spoken: Vec<Datagram> =
        capture.datagrams().into_iter().filter(|datagram| datagram.from == lab.endpoint(b)).collect();
    assert_eq!(spoken, []);
}

#[test]
fn a_node_has_no_session_with_who_is_not_its_peer() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    let strange = b.strange_key();
    b.change_configuration(|text| text.replace(&a.public_key, &strange));
    a.start();
    b.start();
    assert!(!a.reaches(b.v4()));
    assert_eq!(a.status().peer("b").state(), "connecting");
    assert!(b.status().drops("unknown_peer") > 0, "{:?}", b.status());
}

#[test]
fn packets_from_outside_the_prefixes_of_a_peer_are_dropped_and_counted() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    a.host.run("ip addr add 10.99.0.9/32 dev hf0");
    b.host.run("ip route add 10.99.0.9/32 dev hf0");
    let ping = a.ping_with(b.v4(), "-I 10.99.0.9 -c 4 -i 0.1 -W 1");
    assert_eq!(ping.received, 0, "{}", ping.text);
    assert_eq!(b.status().peer("a").0["drops"]["spoofed_source"], 4);
    a.ping(b.v4()).assert_all_answered();
}

/// A lab with a session, and what it took to make it and to use it.
fn observed(family: Family) -> Option<(Lab, Vec<Datagram>)> {
    let lab = (Setup { family, ..Setup::default() }).build()?;
    let capture = lab.capture();
    for node in &lab.nodes {
        node.start();
    }
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    let datagrams = capture.datagrams();
    assert!(datagrams.iter().any(|datagram| datagram.kind() == Some(0x81)));
    Some((lab, datagrams))
}

#[test]
fn replayed_datagrams_change_nothing() {
    let Some((lab, datagrams)) = observed(Family::V6) else { return };
    let (a, b) = lab.pair();
    let (intruder, age, packets) = (lab.intruder(), b.session_age(a), b.status().peer("a").0["rx_packets"].clone());
    for _ in 0..20 {
        for datagram in &datagrams {
            intruder.replay(datagram);
        }
    }
    eventually(seconds(5), "replays are counted", || {
        a.status().drops("replayed") > 0 && b.status().drops("replayed") > 0
    });
    assert_eq!(b.status().peer("a").0["rx_packets"], packets, "nothing was delivered twice");
    a.ping(b.v4()).assert_all_answered();
    b.ping(a.v4()).assert_all_answered();
    assert!(b.session_age(a) > age, "the session was replaced");
    assert_eq!(b.status().peer("a").endpoint(), Some(lab.endpoint(a)));
}

#[test]
fn forged_datagrams_change_nothing() {
    let Some((lab, datagrams)) = observed(Family::V4) else { return };
    let (a, b) = lab.pair();
    let (intruder, age) = (lab.intruder(), b.session_age(a));
    let stranger = "192.0.2.200:18502".parse().unwrap();
    // Of the way that they took, and of the other ones that they asked, those that the stranger's address fits.
    for original in datagrams.iter().filter(|original| original.to.is_ipv4()) {
        for (position, from) in
            [(1, original.from), (5, stranger), (13, original.from), (30, stranger), (33, original.from)]
        {
            let mut payload = original.payload.clone();
            if let Some(byte) = payload.get_mut(position) {
                *byte ^= 0x40;
            }
            intruder.send(from, original.to, &payload);
        }
        // Genuine, but from an address where the sender is not.
        intruder.send(stranger, original.to, &original.payload);
    }
    eventually(seconds(5), "forgeries are counted", || {
        a.status().drops("forged") > 0 && b.status().drops("forged") > 0
    });
    a.ping(b.v4()).assert_all_answered();
    b.ping(a.v4()).assert_all_answered();
    assert!(b.session_age(a) > age, "the session was replaced");
    assert_eq!(b.status().peer("a").endpoint(), Some(lab.endpoint(a)));
    assert_eq!(a.status().peer("b").endpoint(), Some(lab.endpoint(b)));
}

/// One datagram of many kinds: noise, headers with noise behind them, sealed packets with the index of the session, hellos, replays.
fn garbage(number: usize, random: &mut Rng, observed: &[Datagram], live: &Datagram) -> Vec<u8> {
    const EXACT: [(u8, usize); 5] = [(0x01, 162), (0x81, 162), (0x83, 34), (0x02, 34), (0x82, 34)];
    let noise = |random: &mut Rng, length: usize| {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        bytes
    };
    let length = number * 7919 % 1400;
    match number % 5 {
        0 => noise(random, 1 + length),
        1 => [vec![1, 0x10], noise(random, 30 + length)].concat(),
        // Near the counters in use.
        2 => [&live.payload[..13], &noise(random, 19 + length)].concat(),
        3 => {
            let (kind, length) = EXACT[number / 5 % EXACT.len()];
            [vec![1, kind], noise(random, length - 2)].concat()
        }
        _ => observed[number / 5 % observed.len()].payload.clone(),
    }
}

/// Sends `count` datagrams to `b`, a quarter of them as if they came from `a`.
fn flood(lab: &Lab, intruder: &Intruder, observed: &[Datagram], count: usize) {
    let (a, b) = lab.pair();
    let (peer, target) = (lab.endpoint(a), lab.endpoint(b));
    let live = observed.iter().rfind(|it| it.kind() == Some(0x10) && it.to == target).expect("a sealed packet");
    let mut random = Rng::from_number(7);
    for number in 0..count {
        let [host, high, low] = random.bytes();
        let stranger = ([192, 0, 2, host.clamp(3, 250)], u16::from_be_bytes([high | 4, low])).into();
        let from = if number % 4 == 0 { peer } else { stranger };
        intruder.send(from, target, &garbage(number, &mut random, observed, live));
    }
}

#[test]
fn a_session_survives_a_million_datagrams_of_garbage_under_load() {
    let Some((lab, datagrams)) = observed(Family::V4) else { return };
    let (a, b) = lab.pair();
    let (intruder, age, flooding) = (lab.intruder(), b.session_age(a), AtomicBool::new(true));
    let mut rates = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            flood(&lab, &intruder, &datagrams, 1_000_000);
            flooding.store(false, Ordering::Relaxed);
        });
        while flooding.load(Ordering::Relaxed) {
            rates.push(a.tcp_throughput(b, seconds(3)));
        }
    });
    assert!(rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
    assert!(a.is_running() && b.is_running());
    let status = b.status();
    for reason in ["malformed", "unknown_session", "forged", "replayed", "bad_mac"] {
        assert!(status.drops(reason) > 0, "none was dropped as {reason}: {status:?}");
    }
    assert!(b.resident() < 64 << 20, "{} KiB", b.resident() >> 10);
    a.ping(b.v4()).assert_all_answered();
    b.ping(a.v4()).assert_all_answered();
    assert!(b.session_age(a) > age, "the session was replaced");
    // Where the flood fills the socket of one version of IP, packets may go by the other.
    let endpoint = b.status().peer("a").endpoint().expect("an endpoint");
    let is_own = [Family::V4, Family::V6].iter().any(|family| family.address(a.number) == endpoint.ip());
    assert!(is_own && endpoint.port() == PORT, "{endpoint}");
}
