//! Two nodes behind NAT reach each other: at once through a relay, and directly wherever theory allows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::nat::Nat;
use crate::support::natlab::{Access, NatLab, Setup};
use crate::support::{PORT, becomes_true, say, seconds};

/// Pings that show which way packets go, and how long each is.
const PINGS: u32 = 10;
const PING_SIZE: u32 = 1000;
/// How long one cell may take to come up, and a direct path after that.
const PATIENCE: Duration = seconds(20);
/// How long a direct path may take that is found by trying ports (PROTOCOL §12.8): a search that finds nothing (3 of 10,000), a minute, and another one.
const SEARCHES: Duration = seconds(100);
const SEARCH_ENDS: Duration = seconds(5);
/// How long a path that cannot become direct is watched: longer than it takes until ports are tried, and most searches.
const WATCH: Duration = seconds(10);
/// How soon after the move all packets take the direct path.
const SETTLES: Duration = seconds(5);
/// Labs of the whole matrix at the same time: they mostly wait.
const LABS: usize = 4;
const MATRIX_FILE: &str = "HANDFAST_NAT_MATRIX";

/// What came of one pair.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// After so long.
    Direct(Duration),
    Relayed,
    Nothing,
}

impl Outcome {
    fn label(self) -> String {
        match self {
            Self::Direct(time) => format!("{:.2} s", time.as_secs_f64()),
            Self::Relayed => "relay".to_owned(),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}

/// Pings from `a` to `b`, and waits for a direct path; if none can come, until it would have.
fn reach(lab: &NatLab, expects_direct: bool) -> Outcome {
    let began = Instant::now();
    if !becomes_true(PATIENCE, || lab.a.reaches(lab.b.v4())) {
        return Outcome::Nothing;
    }
    let patience = if expects_direct { SEARCHES } else { WATCH };
    let mut time = None;
    becomes_true(patience, || {
        // Traffic is what makes a direct path worth looking for.
        lab.a.ping_with(lab.b.v4(), "-c 1 -W 1");
        time = lab.is_direct().then(|| began.elapsed());
        time.is_some()
    });
    time.map_or(Outcome::Relayed, Outcome::Direct)
}

/// Whether packets go by the public nodes, whatever the status says.
#[track_caller]
fn packets_are_relayed(lab: &NatLab) -> bool {
    let before = lab.bytes_at_relays();
    lab.a.ping_patiently(lab.b.v4(), PINGS, &format!("-s {PING_SIZE}")).assert_all_answered();
    // Each way, and room for what else the nodes say to each other.
    lab.bytes_at_relays() - before > u64::from(2 * PINGS * PING_SIZE) * 3 / 4
}

/// Fails unless the pair does what theory says.
#[track_caller]
fn meets_theory(setup: &Setup, expects_direct: bool, what: &str) {
    let Some(lab) = setup.up() else { return };
    let outcome = reach(&lab, expects_direct);
    say(&format!("{what}: {}", outcome.label()));
    let state = || format!("{what}: {}\n{}", lab.a.status_text(), lab.b.status_text());
    match outcome {
        Outcome::Direct(_) => assert!(expects_direct, "a direct path that cannot be: {}", state()),
        Outcome::Relayed => {
            assert!(!expects_direct, "no direct path: {}", state());
            let way = lab.way_to_b().expect("a path");
            assert_eq!(way.relay(), Some("p"), "{}", state());
        }
        Outcome::Nothing => panic!("no ping was answered: {}", state()),
    }
    // Right after a move the relays still hear what belongs to it, and a busy host may go back to one for a moment.
    let meets = || packets_are_relayed(&lab) != expects_direct;
    assert!(if expects_direct { becomes_true(SETTLES, meets) } else { meets() }, "{}", state());
    lab.b.ping(lab.a.v6()).assert_all_answered();
}

fn cell(a: Nat, b: Nat) {
    meets_theory(&Setup::between(a, b), a.can_reach(b), &format!("{} to {}", a.label(), b.label()));
}

macro_rules! cells {
    ($($name:ident: $a:ident, $b:ident;)*) => {
        $(#[test]
        fn $name() {
            cell(Nat::$a, Nat::$b);
        })*
    };
}

cells! {
    public_reaches_public: Public, Public;
    a_firewall_reaches_a_firewall: Firewall, Firewall;
    a_full_cone_reaches_a_full_cone: FullCone, FullCone;
    an_address_restricted_cone_reaches_its_like: AddressRestricted, AddressRestricted;
    a_port_restricted_cone_reaches_its_like: PortRestricted, PortRestricted;
    routers_without_a_firewall_reach_each_other_by_a_low_hop_limit: PortOpen, PortOpen;
    a_cone_with_other_ports_reaches_a_router_without_a_firewall: PortTranslated, PortOpen;
    symmetric_nats_talk_by_a_relay: Symmetric, Symmetric;
    a_symmetric_nat_reaches_an_address_restricted_cone: Symmetric, AddressRestricted;
    a_full_cone_reaches_a_symmetric_nat: FullCone, Symmetric;
    a_port_restricted_cone_meets_a_symmetric_nat: PortRestricted, Symmetric;
    a_symmetric_nat_meets_a_port_restricted_cone: Symmetric, PortRestricted;
    a_symmetric_nat_meets_a_firewall: Symmetric, Firewall;
    a_symmetric_nat_meets_a_router_without_a_firewall: Symmetric, PortOpen;
    a_cone_with_other_ports_meets_a_symmetric_nat: PortTranslated, Symmetric;
}

/// Trying ports at random would find it too, some seconds later.
#[test]
fn a_nat_that_counts_is_foretold() {
    let Some(lab) = Setup::between(Nat::Sequential, Nat::PortRestricted).up() else { return };
    let outcome = reach(&lab, true);
    say(&format!("symseq to port: {}", outcome.label()));
    let state = || format!("{}\n{}", lab.a.status_text(), lab.b.status_text());
    assert!(matches!(outcome, Outcome::Direct(_)), "{outcome:?}\n{}", state());
    // A search that has found something is told of when it has ended, which is three seconds later.
    thread::sleep(SEARCH_ENDS);
    for (node, peer) in [(&lab.a, "b"), (&lab.b, "a")] {
        let said = node.json(&["why", peer]);
        let steps = said["steps"].as_array().expect("steps");
        assert!(steps.iter().all(|step| step["step"] != "sprayed"), "ports were tried at random: {said:#}");
    }
}

/// Rows begin, columns answer. Prints the time from the first ping to the direct path.
#[test]
#[ignore = "takes minutes: ./scripts/nat-matrix"]
fn the_whole_matrix_is_as_theory_says() {
    let pairs: Vec<_> = Nat::MATRIX.iter().flat_map(|a| Nat::MATRIX.iter().map(move |b| (*a, *b))).collect();
    let (next, outcomes) = (Mutex::new(0..pairs.len()), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..LABS {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().unwrap().next() else { return };
                    let (a, b) = pairs[index];
                    // One that fails is no reason not to see the others.
                    let outcome = thread::spawn(move || {
                        let lab = Setup::between(a, b).up()?;
                        let outcome = reach(&lab, a.can_reach(b));
                        let relayed = !matches!(outcome, Outcome::Nothing) && packets_are_relayed(&lab);
                        Some((outcome, relayed))
                    })
                    .join();
                    match outcome {
                        Ok(None) => return,
                        Ok(Some(it)) => outcomes.lock().unwrap().insert(index, it),
                        Err(_) => outcomes.lock().unwrap().insert(index, (Outcome::Nothing, false)),
                    };
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    if outcomes.is_empty() {
        return;
    }
    let text = table(&outcomes);
    say(&text);
    if let Some(file) = std::env::var_os(MATRIX_FILE) {
        std::fs::write(file, &text).unwrap();
    }
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|(index, (outcome, relayed))| {
            let (a, b) = pairs[**index];
            match outcome {
                Outcome::Direct(_) => !a.can_reach(b) || *relayed,
                Outcome::Relayed => a.can_reach(b) || !*relayed,
                Outcome::Nothing => true,
            }
        })
        .map(|(index, (outcome, _))| {
            format!("{} to {}: {}", pairs[*index].0.label(), pairs[*index].1.label(), outcome.label())
        })
        .collect();
    assert!(wrong.is_empty(), "not as theory says: {wrong:#?}");
}

fn table(outcomes: &BTreeMap<usize, (Outcome, bool)>) -> String {
    let kinds = Nat::MATRIX;
    let head: String = kinds.iter().map(|nat| format!(" {} |", nat.label())).collect();
    let mut text = format!("| from \\ to |{head}\n|---|{}\n", "---|".repeat(kinds.len()));
    for (row, nat) in kinds.iter().enumerate() {
        text += &format!("| {} |", nat.label());
        for column in 0..kinds.len() {
            let outcome = outcomes.get(&(row * kinds.len() + column)).map_or_else(String::new, |it| it.0.label());
            text += &format!(" {outcome} |");
        }
        text += "\n";
    }
    let mut times: Vec<_> = outcomes
        .values()
        .filter_map(|(outcome, _)| match outcome {
            Outcome::Direct(time) => Some(*time),
            Outcome::Relayed | Outcome::Nothing => None,
        })
        .collect();
    times.sort_unstable();
    if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        text += &format!(
            "\n{} of {} directly, after {:.2} s in the median and {:.2} s at worst.\n",
            times.len(),
            outcomes.len(),
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    text
}

/// Waits until `a` sends to `b` at an address that `is_right`.
#[track_caller]
fn goes_directly_to(lab: &NatLab, is_right: impl Fn(IpAddr) -> bool) {
    assert!(becomes_true(PATIENCE, || lab.a.reaches(lab.b.v4())), "no ping was answered:\n{}", lab.a.status_text());
    let right = becomes_true(PATIENCE, || {
        lab.a.ping_with(lab.b.v4(), "-c 1 -W 1");
        lab.way_to_b().and_then(|way| way.direct()).is_some_and(|address| is_right(address.ip()))
    });
    assert!(right, "not by the right way: {:?}\n{}", lab.way_to_b(), lab.a.status_text());
    assert!(!packets_are_relayed(lab));
}

#[test]
fn neighbours_behind_one_nat_stay_on_their_link() {
    let Some(lab) = Setup::at_home(Nat::PortRestricted).up() else { return };
    goes_directly_to(&lab, |address| lab.homes[0].has_inside(address));
}

/// The way around by the router works as well, and is longer.
#[test]
fn neighbours_behind_a_hairpin_stay_on_their_link() {
    let access = Access::from(Nat::PortRestricted).with_hairpin();
    let setup = Setup { port_of_b: PORT + 100, ..Setup::at_home(access) };
    let Some(lab) = setup.up() else { return };
    goes_directly_to(&lab, |address| lab.homes[0].has_inside(address));
}

#[test]
fn neighbours_behind_a_symmetric_nat_stay_on_their_link() {
    let Some(lab) = Setup::at_home(Nat::Symmetric).up() else { return };
    goes_directly_to(&lab, |address| lab.homes[0].has_inside(address));
}

/// What `b` calls its own address is `a` itself, or nobody, where `a` is.
#[test]
fn two_homes_may_have_the_same_addresses_inside() {
    let setup = Setup { same_addresses: true, ..Setup::between(Nat::PortRestricted, Nat::PortRestricted) };
    meets_theory(&setup, true, "port to port with the same addresses");
}

#[test]
fn a_carrier_in_front_of_a_router_is_passed() {
    let behind = Access::from(Nat::PortRestricted).behind(Nat::PortRestricted);
    meets_theory(&Setup::between(behind, behind), true, "port behind a carrier to its like");
}

/// Two NATs are as the stricter of them.
#[test]
fn a_symmetric_carrier_makes_its_customers_symmetric() {
    let behind = Access::from(Nat::FullCone).behind(Nat::Symmetric);
    meets_theory(&Setup::between(behind, Nat::Symmetric), false, "full cone behind a symmetric carrier to sym");
    meets_theory(&Setup::between(behind, Nat::PortRestricted), true, "full cone behind a symmetric carrier to port");
}

#[test]
fn firewalled_ipv6_is_a_way_where_ipv4_has_none() {
    let access = Access::from(Nat::Symmetric).with_ipv6();
    let Some(lab) = Setup::between(access, access).up() else { return };
    goes_directly_to(&lab, |address| address == IpAddr::V6(lab.homes[1].inside_v6(2)));
}

#[test]
fn a_host_with_ipv4_alone_reaches_one_that_has_both() {
    let both = Access::from(Nat::PortRestricted).with_ipv6();
    for (a, b) in [(Nat::PortRestricted.into(), both), (both, Nat::PortRestricted.into())] {
        let Some(lab) = Setup::between(a, b).up() else { return };
        goes_directly_to(&lab, |address| address == IpAddr::V4(lab.homes[1].outside));
    }
}

/// What `a` finds out of its NAT: whether it keeps its port, who gets in, and whether it has a hairpin; and of the one that relays.
#[track_caller]
fn netcheck_says(a: impl Into<Access>, same_mapping: bool, open_filter: bool, hairpin: Option<bool>) {
    let Some(lab) = Setup::between(a, Nat::Public).build() else { return };
    for node in [&lab.p, &lab.q, &lab.b] {
        node.start();
    }
    let is_connected = || ["p", "q"].iter().all(|peer| lab.b.status().peer(peer).state() == "connected");
    assert!(becomes_true(PATIENCE, is_connected), "{}", lab.b.log());
    // Until `b` has found nobody to knock at it: otherwise it would be `a`, to which `b` then gets in.
    thread::sleep(PATIENCE);
    lab.a.start();
    let mut said = serde_json::Value::Null;
    becomes_true(PATIENCE * 3, || {
        said = lab.a.try_json(&["netcheck"]).unwrap_or_default();
        let is_known = |what: &str| said[what].is_boolean();
        let knows_nat = is_known("same_mapping") && is_known("open_filter");
        knows_nat && (is_known("hairpin") || hairpin.is_none()) && said["relays"][0]["rtt_ms"].is_number()
    });
    let answer = |what: &str| said[what].as_bool();
    assert_eq!(answer("same_mapping"), Some(same_mapping), "{said:#}");
    assert_eq!((answer("open_filter"), answer("hairpin")), (Some(open_filter), hairpin), "{said:#}");
    assert_eq!(said["public_address"], false, "{said:#}");
    let relays = said["relays"].as_array().expect("relays");
    let [relay] = relays.as_slice() else { panic!("one member relays: {said:#}") };
    assert_eq!((&relay["name"], &relay["state"]), (&"p".into(), &"connected".into()), "{said:#}");
    assert!(relay["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0), "{said:#}");
    // Of the 100 that are given where nothing else is configured, the order of magnitude is told.
    assert!(relay["mbit"].as_f64().is_some_and(|rate| (50.0..=100.0).contains(&rate)), "{said:#}");
}

#[test]
fn netcheck_knows_a_full_cone() {
    netcheck_says(Nat::FullCone, true, true, Some(false));
}

#[test]
fn netcheck_knows_a_port_restricted_cone() {
    netcheck_says(Nat::PortRestricted, true, false, Some(false));
}

#[test]
fn netcheck_knows_a_symmetric_nat() {
    netcheck_says(Nat::Symmetric, false, false, None);
}
