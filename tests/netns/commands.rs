//! What `ping`, `peers` and `why` say of a peer is what becomes of its packets.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::lab::Setup as Wire;
use crate::support::nat::Nat;
use crate::support::natlab::{NatLab, Setup};
use crate::support::node::Node;
use crate::support::status::{Hop, Path, Status};
use crate::support::{becomes_true, eventually, seconds};

const PATIENCE: Duration = seconds(20);
const INTERVAL: Duration = Duration::from_millis(100);

/// What the three commands say of one peer, on one path.
#[derive(Debug)]
struct Said {
    path: Path,
    ping: Value,
    why: Value,
}

/// Asks until the path is the same before and after: on a busy host packets may go another way for a moment.
#[track_caller]
fn ask(node: &Node, peer: &str) -> Said {
    let path = || Status(node.json(&["peers"])).peer(peer).primary().expect("a path");
    let mut said = None;
    let is_at_rest = becomes_true(PATIENCE, || {
        let before = path();
        let ping = ping(node, peer);
        let why = node.json(&["why", peer]);
        let is_at_rest = path() == before;
        said = Some(Said { path: before, ping, why });
        is_at_rest
    });
    assert!(is_at_rest, "{said:#?}");
    said.expect("asked once")
}

/// Three pings, all of which are answered, in a time that can be true.
#[track_caller]
fn ping(node: &Node, peer: &str) -> Value {
    let began = Instant::now();
    let said = node.json(&["ping", peer, "--count", "3", "--interval", "0.1"]);
    let most = (began.elapsed() - INTERVAL * 2).as_secs_f64() * 1000.0;
    let pings = said["pings"].as_array().expect("pings");
    let times: Vec<f64> =
        pings.iter().map(|ping| ping["rtt_ms"].as_f64().unwrap_or_else(|| panic!("{said:#}"))).collect();
    assert!(times.iter().all(|time| *time > 0.0) && times.iter().sum::<f64>() < most, "in {most} ms: {said:#}");
    assert_eq!((&said["sent"], &said["received"], times.len()), (&3.into(), &3.into(), 3), "{said:#}");
    for (ping, number) in pings.iter().zip(1..) {
        assert_eq!((&ping["number"], &ping["state"]), (&Value::from(number), &"connected".into()), "{said:#}");
    }
    let [min, mean, max] = ["min_ms", "mean_ms", "max_ms"].map(|what| said[what].as_f64().expect("a time"));
    assert!(times.contains(&min) && times.contains(&max) && min <= mean && mean <= max, "{said:#}");
    said
}

impl Said {
    /// All three say the same.
    #[track_caller]
    fn agree(&self, peer: &str, verdict: &str, way: &str) {
        for ping in self.ping["pings"].as_array().expect("pings") {
            assert_eq!(Hop::parse(&ping["hop"]), self.path.hop, "{self:#?}");
        }
        assert!(self.path.is_proven, "{self:#?}");
        assert_eq!((&self.ping["peer"], &self.why["peer"]), (&peer.into(), &peer.into()));
        assert_eq!(self.why["verdict"], verdict, "{self:#?}");
        let explanation = self.why["explanation"].as_str().expect("a paragraph");
        assert!(explanation.starts_with(&format!("{peer} is connected {way}")), "{explanation}");
    }

    /// Who is said to have introduced the peer, in words and for programs.
    #[track_caller]
    fn names_its_introducer(&self) {
        let explanation = self.why["explanation"].as_str().expect("a paragraph");
        let steps = self.why["steps"].as_array().expect("steps");
        // The one has asked, and the other has answered; or both have.
        let introduced = steps.iter().find(|step| step["step"] == "introduced" || step["step"] == "answered");
        let text = introduced.unwrap_or_else(|| panic!("{self:#?}"))["text"].as_str().expect("words");
        let told = ["p", "q"].map(|it| {
            [
                format!("the peer answered after {it} introduced it"),
                format!("the peer was introduced by {it}, and was answered"),
            ]
        });
        assert!(told.as_flattened().iter().any(|told| text == told), "{text}");
        assert!(explanation.contains(text), "{explanation}");
    }
}

#[track_caller]
fn connect(lab: &NatLab, is_right: impl Fn() -> bool) {
    eventually(PATIENCE, "a ping is answered", || lab.a.reaches(lab.b.v4()));
    let is_right = becomes_true(PATIENCE, || {
        lab.a.ping_with(lab.b.v4(), "-c 1 -W 1");
        is_right()
    });
    assert!(is_right, "{}\n{}", lab.a.status_text(), lab.b.status_text());
}

#[test]
fn the_commands_tell_a_direct_path_and_who_introduced() {
    let Some(lab) = Setup::between(Nat::PortRestricted, Nat::PortRestricted).up() else { return };
    connect(&lab, || lab.is_direct());
    for (node, peer, home) in [(&lab.a, "b", 1), (&lab.b, "a", 0)] {
        let said = ask(node, peer);
        let address = said.path.direct().unwrap_or_else(|| panic!("{said:#?}"));
        assert_eq!(address.ip(), lab.homes[home].outside, "{said:#?}");
        said.agree(peer, "direct", &format!("directly to {address} ("));
        said.names_its_introducer();
    }
}

#[test]
fn the_commands_tell_the_relay_and_why_there_is_one() {
    let Some(lab) = Setup::between(Nat::Symmetric, Nat::Symmetric).up() else { return };
    connect(&lab, || true);
    for (node, peer) in [(&lab.a, "b"), (&lab.b, "a")] {
        let said = ask(node, peer);
        assert_eq!((said.path.relay(), &said.path.kind[..]), (Some("p"), "relayed"), "{said:#?}");
        said.agree(peer, "relayed", "through relay p");
        said.names_its_introducer();
        let is_told = || {
            let why = node.json(&["why", peer]);
            why["explanation"]
                .as_str()
                .is_some_and(|it| it.contains("Both nodes are behind NATs that give each destination another port"))
        };
        assert!(becomes_true(PATIENCE, is_told), "{:#}", node.json(&["why", peer]));
    }
}

/// By whatever the peer is called.
#[test]
fn a_ping_takes_as_long_as_the_road() {
    const DELAY: Duration = Duration::from_millis(20);
    let Some(lab) = (Wire { delay: Some(DELAY), ..Wire::default() }).up() else { return };
    let (a, b) = lab.pair();
    eventually(PATIENCE, "a ping is answered", || a.reaches(b.v4()));
    for name in ["b", &b.v4().to_string(), &b.v6().to_string(), &b.public_key[..8]] {
        let said = ping(a, name);
        let least = (DELAY * 2).as_secs_f64() * 1000.0;
        assert!(said["min_ms"].as_f64().is_some_and(|time| time >= least), "{said:#}");
        assert_eq!(said["peer"], "b");
        assert_eq!(Hop::parse(&said["pings"][0]["hop"]), Hop::Direct(lab.endpoint(b)), "{said:#}");
    }
}
