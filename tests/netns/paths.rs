//! A transfer outlives what it goes by: a relay, a direct path, an address, a network.

use std::thread;
use std::time::Duration;

use crate::support::nat::Nat;
use crate::support::natlab::{NatLab, Setup};
use crate::support::node::Node;
use crate::support::steady::Steady;
use crate::support::ticks::Ticks;
use crate::support::{becomes_true, eventually, say, seconds};

const PATIENCE: Duration = seconds(20);
/// What a path that died may cost those above who send it anything.
const LEFT: Duration = seconds(1);
/// The same of an address, or a network.
const ROAMED: Duration = seconds(2);
/// What may happen without that anybody notices: a path is not even doubted by then (PROTOCOL §8.7).
const UNNOTICED: Duration = Duration::from_millis(300);
/// Before traffic moves, both ends take part in turn, and on a busy machine each may have to wait as long as the threads of the test did.
const TURNS: u32 = 4;
/// TCP doubles its timer each time that it has sent again in vain, so its gap is up to twice as long; and it waits longer on a busy machine.
const TIMER_OF_TCP: Duration = seconds(1);
/// A transfer that has come this far is under way.
const HEAD_START: Duration = seconds(2);
/// For how long a transfer is watched after what happened to it.
const AFTER: Duration = seconds(10);

/// Waits until pings are answered and `a` and `b` have a direct path.
#[track_caller]
fn wait_for_direct(lab: &NatLab) {
    eventually(PATIENCE, "a ping is answered", || lab.a.reaches(lab.b.v4()));
    let direct = becomes_true(PATIENCE, || {
        lab.a.ping_with(lab.b.v4(), "-c 1 -W 1");
        lab.is_direct()
    });
    assert!(direct, "no direct path:\n{}\n{}", lab.a.status_text(), lab.b.status_text());
}

/// Runs a transfer, and a datagram every 10 ms both ways, while something happens. All of the transfer must arrive; of the datagrams some may be lost, for no longer than `longest`.
#[track_caller]
fn transfer_outlives(from: &Node, to: &Node, what: &str, longest: Duration, happens: impl FnOnce()) {
    let transfer = Steady::begin(&from.host, &to.host, to.v4());
    let ticks = Ticks::begin(from, to);
    thread::sleep(HEAD_START);
    transfer.forget_gaps();
    ticks.forget_gaps();
    happens();
    thread::sleep(AFTER);
    let (gap, gap_of_tcp, stall) = (ticks.longest_gap(), transfer.longest_gap(), ticks.longest_stall());
    say(&format!("{what}: a gap of {gap:.2?}, and of {gap_of_tcp:.2?} in TCP; threads waited {stall:.2?}"));
    let state = format!("{}\n{}", from.status_text(), to.status_text());
    assert!(transfer.silence() < seconds(1), "nothing arrives any more after: {what}\n{state}");
    assert!(gap < longest + stall * TURNS, "a gap of {gap:?} after: {what}\n{state}");
    let longest_of_tcp = longest * 2 + TIMER_OF_TCP;
    assert!(gap_of_tcp < longest_of_tcp, "a gap of {gap_of_tcp:?} in TCP after: {what}\n{state}");
    transfer.finish();
}

fn relay_of<'a>(lab: &'a NatLab, node: &Node, peer: &str) -> Option<&'a Node> {
    match node.status().peer(peer).primary()?.relay()? {
        "p" => Some(&lab.p),
        "q" => Some(&lab.q),
        other => panic!("{other} relays nothing"),
    }
}

#[test]
fn a_second_relay_takes_over_from_one_that_died() {
    let setup = Setup { two_relays: true, ..Setup::between(Nat::Symmetric, Nat::Symmetric) };
    let Some(lab) = setup.up() else { return };
    eventually(PATIENCE, "a ping is answered by a relay", || {
        lab.a.reaches(lab.b.v4()) && relay_of(&lab, &lab.a, "b").is_some()
    });
    let relay = relay_of(&lab, &lab.a, "b").expect("a relay");
    transfer_outlives(&lab.a, &lab.b, "the relay died", LEFT, || relay.kill());
    let other = if relay.name == "p" { "q" } else { "p" };
    for (node, peer) in [(&lab.a, "b"), (&lab.b, "a")] {
        assert_eq!(relay_of(&lab, node, peer).map(|it| it.name.as_str()), Some(other), "{}", node.status_text());
    }
}

#[test]
fn a_direct_path_needs_neither_introducer_nor_relay() {
    let Some(lab) = Setup::between(Nat::PortRestricted, Nat::PortRestricted).up() else { return };
    wait_for_direct(&lab);
    transfer_outlives(&lab.a, &lab.b, "introducer and relay died beside a direct path", UNNOTICED, || {
        lab.p.kill();
        lab.q.kill();
    });
    assert!(lab.is_direct());
}

#[test]
fn a_relay_takes_over_from_a_direct_path_that_died() {
    let Some(lab) = Setup::between(Nat::PortRestricted, Nat::PortRestricted).up() else { return };
    wait_for_direct(&lab);
    transfer_outlives(&lab.a, &lab.b, "the direct path died", LEFT, || lab.block_direct());
    for (node, peer) in [(&lab.a, "b"), (&lab.b, "a")] {
        assert_eq!(relay_of(&lab, node, peer).map(|it| it.name.as_str()), Some("p"), "{}", node.status_text());
    }
}

#[test]
fn a_host_may_get_another_address_at_home() {
    let Some(lab) = Setup::between(Nat::PortRestricted, Nat::PortRestricted).up() else { return };
    wait_for_direct(&lab);
    let age = lab.a.session_age(&lab.b);
    transfer_outlives(&lab.a, &lab.b, "another address at home", ROAMED, || lab.homes[0].address(&lab.a, 77));
    wait_for_direct(&lab);
    assert!(lab.a.session_age(&lab.b) > age + AFTER, "the session has not lived on");
}

#[test]
fn a_host_may_move_behind_another_nat() {
    let setup =
        Setup { spare: Some(Nat::PortTranslated.into()), ..Setup::between(Nat::PortRestricted, Nat::PortRestricted) };
    let Some(lab) = setup.up() else { return };
    wait_for_direct(&lab);
    let age = lab.a.session_age(&lab.b);
    transfer_outlives(&lab.a, &lab.b, "another network", ROAMED, || lab.move_a());
    wait_for_direct(&lab);
    let outside = lab.homes[2].outside;
    eventually(PATIENCE, "b sends to the new address", || {
        let way = lab.b.status().peer("a").primary();
        way.and_then(|way| way.direct()).is_some_and(|address| address.ip() == outside)
    });
    assert!(lab.a.session_age(&lab.b) > age + AFTER, "the session has not lived on");
}

#[test]
fn a_host_may_move_while_it_talks_to_a_public_one() {
    let access = Nat::PortRestricted;
    let setup = Setup { spare: Some(Nat::Symmetric.into()), ..Setup::between(access, access) };
    let Some(lab) = setup.up() else { return };
    let age = lab.a.session_age(&lab.p);
    transfer_outlives(&lab.a, &lab.p, "another network, to a public node", ROAMED, || lab.move_a());
    assert!(lab.a.session_age(&lab.p) > age + AFTER, "the session has not lived on");
    let endpoint = lab.p.status().peer("a").endpoint();
    assert_eq!(endpoint.map(|it| it.ip()), Some(lab.homes[2].outside.into()));
}
