//! Daemons end and begin, and move.

use std::net::SocketAddr;

use crate::support::lab::Setup;
use crate::support::namespace::Namespace;
use crate::support::{PORT, eventually, seconds};

#[test]
fn a_peer_that_died_and_began_again_is_found_from_either_side() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();

    b.kill();
    b.start();
    // PROTOCOL §8.3: 15 s of silence, and a new attempt.
    eventually(seconds(30), "the one that stayed finds the one that began again", || a.reaches(b.v4()));

    b.kill();
    b.start();
    eventually(seconds(5), "the one that began again finds the one that stayed", || b.reaches(a.v4()));
    a.ping(b.v4()).assert_all_answered();
}

#[test]
fn a_peer_that_was_stopped_and_started_is_found_at_once() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    a.ping(b.v4()).assert_all_answered();
    assert_eq!(b.stop().code(), Some(0));
    // It has said good-bye.
    eventually(seconds(3), "the session is gone", || a.status().peer("b").state() == "idle");
    b.start();
    a.ping(b.v4()).assert_all_answered();
}

#[test]
fn a_node_may_change_its_address_in_the_middle_of_traffic() {
    let Some(lab) = Setup::default().up() else { return };
    let (a, b) = lab.pair();
    // Else the IPv6 address, which stays, is where they go on.
    a.host.run("ip -6 addr flush dev eth0 scope global");
    a.ping(b.v4()).assert_all_answered();
    let age = a.session_age(b);
    let ping = a.ping_on(b.v4(), 80);

    a.host.run("ip addr add 192.0.2.77/24 dev eth0");
    a.host.run("ip addr del 192.0.2.1/24 dev eth0");
    a.host.run("ip addr replace 192.0.2.77/24 dev eth0");
    let moved: SocketAddr = ([192, 0, 2, 77], PORT).into();
    eventually(seconds(5), "the peer sends to the new address", || b.status().peer("a").endpoint() == Some(moved));

    let ping = ping.finish();
    assert!(ping.received + 25 >= ping.sent, "{}", ping.text);
    b.ping(a.v4()).assert_all_answered();
    assert!(a.session_age(b) > age + seconds(5), "the session has not lived on");
}

/// A link-local address comes a moment after its interface, and is tentative at first.
fn wait_for_addresses(host: &Namespace) {
    eventually(seconds(5), "addresses are settled", || {
        let text = host.run("ip -6 addr show dev eth0");
        text.contains("fe80") && !text.contains("tentative")
    });
}

/// What the kernel has of interfaces, addresses, routes and rules.
fn network(host: &Namespace) -> String {
    ["ip -o addr show", "ip rule show", "ip -6 rule show", "ip route show table all", "ip -6 route show table all"]
        .map(|line| host.run(line))
        .concat()
}

#[test]
fn nothing_is_left_behind_by_a_daemon_that_was_stopped() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    wait_for_addresses(&a.host);
    let before = network(&a.host);
    a.start();
    b.start();
    a.ping(b.v4()).assert_all_answered();
    let during = network(&a.host);
    assert!(during.contains("hf0") && during.contains("10.77.0.2"), "{during}");

    assert_eq!(a.stop().code(), Some(0));
    assert_eq!(network(&a.host), before);
    assert!(!a.socket().exists());
    let files: Vec<_> =
        std::fs::read_dir(a.socket().parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "key, configuration and log, but: {files:?}");
}

#[test]
fn what_a_killed_daemon_left_behind_does_not_hinder_the_next() {
    let Some(lab) = Setup::default().build() else { return };
    let (a, b) = lab.pair();
    wait_for_addresses(&a.host);
    let before = network(&a.host);
    b.start();
    a.start();
    a.kill();
    a.start();
    a.ping(b.v4()).assert_all_answered();
    assert_eq!(a.stop().code(), Some(0));
    assert_eq!(network(&a.host), before);
}
