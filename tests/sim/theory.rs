//! Who must be able to reach whom, and how: what every run of the mesh is held against.
//!
//! It knows what RFC 4787 calls the behaviour of NATs, and no protocol. A packet gets from one side to the other if the sender knows (or guesses) a port of the receiver, and the
//! receiver's filter takes what comes from the sender's port. Where each is certain, the two *must* meet; where one of them needs a guess, they *may*.
//!
//! Two of which one is symmetric and the other is not may also meet by trying many ports, if there is a relay by which they agree to it. That nearly always works, and soon; but who takes part must be seen by
//! two others, and has one such search at a time, so that a busy host comes to it after others. `sprays` holds those that have all of it to more.

use crate::nat::{Behaviour, Filtering, Mapping, Ports, Way};
use crate::network::{INTERNET, RouterId, SegmentId};

/// What a host has of one family of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// The network it is in.
    pub(crate) segment: SegmentId,
    /// What stands between it and the Internet, the nearest first.
    pub(crate) ways: Vec<(RouterId, Way)>,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub(crate) v4: Option<Side>,
    pub(crate) v6: Option<Side>,
    /// Everyone has its addresses in the configuration, and nothing stands before it: it can introduce.
    pub(crate) is_known: bool,
    pub(crate) relays: bool,
}

/// How two hosts can exchange packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    Direct,
    /// Directly with a good guess, else through a relay.
    DirectOrRelayed,
    Relayed,
    /// Directly with a good guess, else not at all.
    DirectOrNone,
    None,
}

/// What a run has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Direct,
    Relayed,
    None,
}

impl Reach {
    pub(crate) fn allows(self, found: Found) -> bool {
        match self {
            Self::Direct => found == Found::Direct,
            Self::DirectOrRelayed => found != Found::None,
            Self::Relayed => found == Found::Relayed,
            Self::DirectOrNone => found != Found::Relayed,
            Self::None => found == Found::None,
        }
    }
}

/// Whether packets find the direct way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chance {
    No,
    /// With a guess.
    May,
    Must,
}

/// How two hosts can reach each other, where these others are members as well.
pub(crate) fn reach(one: &Party, other: &Party, others: &[Party]) -> Reach {
    let serves = |helper: &&Party| one.can_greet(helper) && other.can_greet(helper);
    let is_introduced = others.iter().any(|helper| serves(&helper));
    let is_relayed = others.iter().filter(|helper| helper.relays).any(|helper| serves(&helper));
    let ports_are_tried = is_introduced && matches!((&one.v4, &other.v4), (Some(near), Some(far)) if near.may_try(far));
    let families = [(&one.v4, &other.v4), (&one.v6, &other.v6)];
    let sides = families.into_iter().filter_map(|(one, other)| Some((one.as_ref()?, other.as_ref()?)));
    // Who has the same outer address as `far` meets the same port of a NAT whose mapping depends on the address.
    let has_like = |far: &Side| others.iter().filter_map(|other| other.v4.as_ref()).any(|other| other.is_seen_as(far));
    let chance = sides.map(|(near, far)| {
        if near.is_neighbour(far) {
            // They hear each other's announcements.
            Chance::Must
        } else if other.is_known && !near.is_blocked() || one.is_known && !far.is_blocked() {
            Chance::Must
        } else if is_introduced {
            meet((near, has_like(near)), (far, has_like(far)))
        } else {
            Chance::No
        }
    });
    match (chance.max().unwrap_or(Chance::No), is_relayed) {
        (Chance::Must, _) => Reach::Direct,
        (Chance::May, true) => Reach::DirectOrRelayed,
        (Chance::No, true) if ports_are_tried => Reach::DirectOrRelayed,
        (Chance::May, false) => Reach::DirectOrNone,
        (Chance::No, true) => Reach::Relayed,
        (Chance::No, false) => Reach::None,
    }
}

impl Party {
    /// Whether it gets an answer from a host that everyone knows.
    fn can_greet(&self, helper: &Self) -> bool {
        let families = [(&self.v4, &helper.v4), (&self.v6, &helper.v6)];
        helper.is_known
            && families.into_iter().any(|(own, far)| far.is_some() && own.as_ref().is_some_and(|own| !own.is_blocked()))
    }
}

impl Side {
    fn is_neighbour(&self, other: &Self) -> bool {
        self.segment == other.segment && self.segment != INTERNET
    }

    /// Whether both have the same address in the Internet.
    fn is_seen_as(&self, other: &Self) -> bool {
        let outermost = |side: &Self| match side.ways.last() {
            Some(&(router, Way::Nat(_))) => Some(router),
            Some((_, Way::Open | Way::Firewall(_) | Way::Blocked)) | None => None,
        };
        outermost(self).is_some_and(|router| outermost(other) == Some(router))
    }

    fn is_blocked(&self) -> bool {
        self.ways.iter().any(|&(_, way)| way == Way::Blocked)
    }

    /// Whether the two may agree to try ports: exactly one has many, and they are not behind the same router.
    fn may_try(&self, other: &Self) -> bool {
        let is_shared = self.ways.iter().any(|(router, _)| other.ways.iter().any(|(far, _)| router == far));
        let is_blocked = self.is_blocked() || other.is_blocked();
        !is_shared && !is_blocked && self.traits(false).is_symmetric != other.traits(false).is_symmetric
    }

    /// All its routers taken together: the strictest counts. A port that a witness tells is as good as guessed.
    fn traits(&self, has_witness: bool) -> Traits {
        let mut traits = Traits {
            is_symmetric: false,
            filtering_where_seen: Filtering::EndpointIndependent,
            has_witness,
            filtering: Filtering::EndpointIndependent,
            is_predictable: true,
        };
        let depends_on_port =
            |way| matches!(way, Way::Nat(behaviour) if behaviour.mapping == Mapping::AddressAndPortDependent);
        let is_told = has_witness && !self.ways.iter().any(|&(_, way)| depends_on_port(way));
        for &(_, way) in &self.ways {
            match way {
                Way::Nat(Behaviour { mapping, filtering, ports, .. }) => {
                    traits.filtering = traits.filtering.max(filtering);
                    // Towards a peer that is no introducer, a mapping that depends on the address is as unknown as one that depends on the port, too.
                    traits.is_symmetric |= mapping != Mapping::EndpointIndependent;
                    // Inside of the first such router, it is one port for all.
                    if traits.is_symmetric {
                        traits.filtering_where_seen = traits.filtering_where_seen.max(filtering);
                    }
                    // A new port inside of this router is a new one outside: whoever hands that out decides whether it can be guessed.
                    if traits.is_symmetric {
                        traits.is_predictable = match ports {
                            Ports::Random => false,
                            Ports::Sequential => true,
                            Ports::Preserving => traits.is_predictable,
                        };
                    }
                }
                Way::Firewall(filtering) => traits.filtering = traits.filtering.max(filtering),
                Way::Open | Way::Blocked => {}
            }
        }
        traits.is_predictable |= is_told;
        traits
    }
}

/// How a side looks from the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traits {
    /// The port that introducers see is not the one that others see.
    is_symmetric: bool,
    /// What decides who may send to the port that another member sees, as far in as where there is one port for all.
    filtering_where_seen: Filtering,
    /// Some member has the outer address of the other side: what depends on the address only is for it as for the other side.
    has_witness: bool,
    filtering: Filtering,
    /// Of a symmetric one: the next port can be guessed.
    is_predictable: bool,
}

/// Two sides that were introduced to each other and are no neighbours; with each, whether some third member has its outer address.
fn meet((one, one_has_like): (&Side, bool), (other, other_has_like): (&Side, bool)) -> Chance {
    if one.is_blocked() || other.is_blocked() {
        return Chance::No;
    }
    // Behind the same router they see each other's outer address only if it turns packets back.
    let shared = one.ways.iter().find(|(router, _)| other.ways.iter().any(|(far, _)| router == far));
    if let Some((_, Way::Nat(Behaviour { hairpin: false, .. }))) = shared {
        return Chance::No;
    }
    let (one, other) = (one.traits(other_has_like), other.traits(one_has_like));
    one.arrives_at(other).max(other.arrives_at(one))
}

impl Traits {
    /// Whether a packet gets to `to`, and its answer back.
    fn arrives_at(self, to: Self) -> Chance {
        let is_known = !to.is_symmetric;
        // The port that the introducer saw takes packets from everyone; but the answer leaves from another.
        let is_seen_port_open = match to.filtering_where_seen {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => to.has_witness,
            Filtering::AddressAndPortDependent => false,
        };
        let is_by_the_seen_port = is_seen_port_open && self.filtering < Filtering::AddressAndPortDependent;
        let is_guessed = to.is_predictable;
        let is_taken = to.filtering < Filtering::AddressAndPortDependent || !self.is_symmetric;
        let is_taken_after_a_guess = self.is_predictable;
        if is_known && is_taken {
            Chance::Must
        } else if (is_known || is_by_the_seen_port || is_guessed) && (is_taken || is_taken_after_a_guess) {
            Chance::May
        } else {
            Chance::No
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    use handfast::base::Rng;

    use super::*;
    use crate::nat::Nat;

    const EI: Mapping = Mapping::EndpointIndependent;
    const AD: Mapping = Mapping::AddressDependent;
    const APD: Mapping = Mapping::AddressAndPortDependent;

    fn side(segment: SegmentId, ways: &[Way]) -> Side {
        // Every side has routers of its own.
        let ways = ways.iter().enumerate().map(|(place, &way)| (segment * 10 + place, way));
        Side { segment, ways: ways.collect() }
    }

    fn party(segment: SegmentId, ways: &[Way]) -> Party {
        Party { v4: Some(side(segment, ways)), v6: None, is_known: false, relays: false }
    }

    fn helper(relays: bool) -> Party {
        Party { is_known: true, relays, ..party(INTERNET, &[]) }
    }

    fn nat(mapping: Mapping, filtering: Filtering, ports: Ports) -> Way {
        Way::Nat(Behaviour::new(mapping, filtering, ports))
    }

    fn between(one: &[Way], other: &[Way]) -> Reach {
        reach(&party(1, one), &party(2, other), &[helper(true)])
    }

    /// Rows and columns: mapping (EI, AD, APD) and within it filtering (EI, AD, APD). D direct, M maybe, R relayed.
    const RANDOM: [&str; 9] = [
        // EI mapping: whoever it is, its port is known.
        "DDD DDD DDD", //
        "DDD DDD DDD", //
        "DDD MMM MMM",
        // AD mapping with random ports.
        "DDM MMR MMR", //
        "DDM MRR MRR", //
        "DDM RRR RRR",
        // APD mapping with random ports.
        "DDM MMR MMR", //
        "DDM MRR MRR", //
        "DDM RRR RRR",
    ];

    /// The same where new ports follow each other.
    const SEQUENTIAL: [&str; 9] = [
        "DDD DDD DDD", //
        "DDD DDD DDD", //
        "DDD MMM MMM",
        "DDM MMM MMM", //
        "DDM MMM MMM", //
        "DDM MMM MMM",
        "DDM MMM MMM", //
        "DDM MMM MMM", //
        "DDM MMM MMM",
    ];

    fn kinds(ports: Ports) -> Vec<Way> {
        let kinds = Mapping::ALL.into_iter().flat_map(|mapping| Filtering::ALL.map(|filtering| (mapping, filtering)));
        kinds.map(|(mapping, filtering)| nat(mapping, filtering, ports)).collect()
    }

    #[test]
    fn every_combination_of_rfc_4787_stands_in_the_table() {
        let cases = [(Ports::Random, RANDOM), (Ports::Sequential, SEQUENTIAL), (Ports::Preserving, SEQUENTIAL)];
        for (ports, table) in cases {
            let rows = kinds(ports).into_iter().map(|one| {
                let cells = kinds(ports).into_iter().map(|other| match between(&[one], &[other]) {
                    Reach::Direct => 'D',
                    Reach::DirectOrRelayed => 'M',
                    Reach::Relayed => 'R',
                    Reach::DirectOrNone | Reach::None => '?',
                });
                let row: String = cells.collect();
                [&row[..3], &row[3..6], &row[6..]].join(" ")
            });
            assert_eq!(rows.collect::<Vec<_>>(), table, "{ports:?}");
        }
    }

    #[test]
    fn it_does_not_matter_who_begins() {
        let all: Vec<_> = Ports::ALL.into_iter().flat_map(kinds).collect();
        for &one in &all {
            for &other in &all {
                assert_eq!(between(&[one], &[other]), between(&[other], &[one]), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn of_two_nats_in_a_row_the_stricter_counts() {
        let home = nat(EI, Filtering::AddressAndPortDependent, Ports::Preserving);
        let open = nat(EI, Filtering::EndpointIndependent, Ports::Preserving);
        let symmetric = nat(APD, Filtering::AddressAndPortDependent, Ports::Random);
        assert_eq!(between(&[home, open], &[home]), Reach::Direct);
        assert_eq!(between(&[home, symmetric], &[home]), Reach::DirectOrRelayed);
        assert_eq!(between(&[symmetric, open], &[home]), Reach::DirectOrRelayed);
        assert_eq!(between(&[open, symmetric], &[open]), Reach::Direct);
        assert_eq!(between(&[symmetric], &[open, home]), Reach::DirectOrRelayed, "filtered by the outer one");
        assert_eq!(between(&[home, symmetric], &[symmetric, home]), Reach::Relayed, "both have many ports");
    }

    #[test]
    fn ports_that_are_counted_are_no_use_behind_a_carrier_that_draws_them() {
        let home = nat(EI, Filtering::AddressAndPortDependent, Ports::Preserving);
        let counting = nat(APD, Filtering::AddressAndPortDependent, Ports::Sequential);
        let drawing = nat(EI, Filtering::EndpointIndependent, Ports::Random);
        // Without a relay: by one, the two agree to try ports.
        let guessed = |one: &[Way], other: &[Way]| reach(&party(1, one), &party(2, other), &[helper(false)]);
        assert_eq!(guessed(&[counting], &[home]), Reach::DirectOrNone);
        assert_eq!(guessed(&[counting, drawing], &[home]), Reach::None);
        assert_eq!(guessed(&[drawing, counting], &[home]), Reach::DirectOrNone, "inside it is one port");
        assert_eq!(between(&[counting, drawing], &[home]), Reach::DirectOrRelayed, "ports are tried");
    }

    #[test]
    fn whoever_has_the_same_outer_address_knows_a_port_that_depends_on_it() {
        let home = nat(EI, Filtering::AddressAndPortDependent, Ports::Random);
        let carrier = (100, nat(EI, Filtering::AddressAndPortDependent, Ports::Random));
        let customer =
            |segment| Party { v4: Some(Side { segment, ways: vec![(segment, home), carrier] }), ..party(segment, &[]) };
        // By a relay, the two agree to try ports.
        for (mapping, expected) in [(AD, Reach::DirectOrNone), (APD, Reach::None)] {
            let far = party(1, &[nat(mapping, Filtering::AddressAndPortDependent, Ports::Random)]);
            assert_eq!(reach(&customer(2), &far, &[helper(false), customer(3)]), expected);
            assert_eq!(reach(&far, &customer(2), &[helper(false), customer(3)]), expected);
            assert_eq!(reach(&customer(2), &far, &[helper(false)]), Reach::None, "nobody told");
        }
    }

    #[test]
    fn neighbours_meet_whatever_stands_before_them() {
        for way in [nat(APD, Filtering::AddressAndPortDependent, Ports::Random), Way::Blocked] {
            assert_eq!(reach(&party(1, &[way]), &party(1, &[way]), &[]), Reach::Direct);
        }
        assert_eq!(reach(&party(INTERNET, &[]), &party(INTERNET, &[]), &[]), Reach::None, "the Internet is no LAN");
        assert_eq!(reach(&party(INTERNET, &[]), &party(INTERNET, &[]), &[helper(false)]), Reach::Direct);
    }

    #[test]
    fn customers_of_one_carrier_need_its_hairpin() {
        let home = nat(EI, Filtering::AddressAndPortDependent, Ports::Preserving);
        for (hairpin, expected) in [(true, Reach::Direct), (false, Reach::Relayed)] {
            let carrier = Way::Nat(Behaviour { hairpin, ..Behaviour::home() });
            let customer = |segment| Party {
                v4: Some(Side { segment, ways: vec![(segment, home), (100, carrier)] }),
                ..party(segment, &[])
            };
            assert_eq!(reach(&customer(1), &customer(2), &[helper(true)]), expected);
        }
    }

    #[test]
    fn ipv6_on_both_sides_needs_no_translation() {
        let symmetric = [nat(APD, Filtering::AddressAndPortDependent, Ports::Random)];
        let dual = |segment, way| Party { v6: Some(side(segment + 50, &[way])), ..party(segment, &symmetric) };
        let firewall = Way::Firewall(Filtering::AddressAndPortDependent);
        for (one, other) in [(Way::Open, firewall), (firewall, firewall)] {
            assert_eq!(reach(&dual(1, one), &dual(2, other), &[helper(true)]), Reach::Direct);
            assert_eq!(reach(&dual(1, one), &dual(2, other), &[]), Reach::None, "nobody tells the addresses");
        }
        assert_eq!(reach(&dual(1, firewall), &party(2, &symmetric), &[helper(true)]), Reach::Relayed);
        assert_eq!(reach(&dual(1, firewall), &dual(2, Way::Blocked), &[helper(true)]), Reach::Relayed);
        let v6_alone = Party { v4: None, ..dual(3, firewall) };
        assert_eq!(reach(&v6_alone, &party(2, &[]), &[helper(true)]), Reach::None, "the helper has no IPv6");
        let helper = Party { v6: Some(side(INTERNET, &[])), ..helper(true) };
        assert_eq!(reach(&v6_alone, &party(2, &[]), &[helper]), Reach::Relayed, "no family in common");
    }

    #[test]
    fn a_firewall_is_a_nat_that_keeps_the_port() {
        let symmetric = nat(APD, Filtering::AddressAndPortDependent, Ports::Random);
        for filtering in Filtering::ALL {
            let firewall = Way::Firewall(filtering);
            for other in [symmetric, nat(EI, Filtering::AddressDependent, Ports::Random)] {
                let equal = nat(EI, filtering, Ports::Preserving);
                assert_eq!(between(&[firewall], &[other]), between(&[equal], &[other]));
            }
        }
        assert_eq!(between(&[Way::Firewall(Filtering::AddressAndPortDependent)], &[symmetric]), Reach::DirectOrRelayed);
        assert_eq!(between(&[Way::Open], &[symmetric]), Reach::Direct);
    }

    #[test]
    fn without_help_only_known_hosts_and_neighbours_are_reached() {
        let symmetric = party(1, &[nat(APD, Filtering::AddressAndPortDependent, Ports::Random)]);
        let home = party(2, &[nat(EI, Filtering::AddressAndPortDependent, Ports::Preserving)]);
        let counting = party(3, &[nat(AD, Filtering::AddressAndPortDependent, Ports::Sequential)]);
        assert_eq!(reach(&symmetric, &helper(false), &[]), Reach::Direct);
        assert_eq!(reach(&home, &symmetric, &[]), Reach::None);
        assert_eq!(reach(&home, &symmetric, &[helper(false)]), Reach::None);
        assert_eq!(reach(&home, &counting, &[helper(false)]), Reach::DirectOrNone);
        assert_eq!(reach(&home, &symmetric, &[helper(false), helper(true)]), Reach::DirectOrRelayed);
        let blocked = party(4, &[Way::Blocked]);
        assert_eq!(reach(&home, &blocked, &[helper(true)]), Reach::None);
        assert_eq!(reach(&helper(true), &blocked, &[helper(true)]), Reach::None);
    }

    #[test]
    fn a_finding_agrees_with_what_allows_it() {
        let found = [Found::Direct, Found::Relayed, Found::None];
        let allowed = |reach: Reach| found.map(|found| reach.allows(found));
        assert_eq!(allowed(Reach::Direct), [true, false, false]);
        assert_eq!(allowed(Reach::DirectOrRelayed), [true, true, false]);
        assert_eq!(allowed(Reach::Relayed), [false, true, false]);
        assert_eq!(allowed(Reach::DirectOrNone), [true, false, true]);
        assert_eq!(allowed(Reach::None), [false, false, true]);
    }

    /// One side of a simple protocol: writes to where an introducer saw the other, and to whatever it hears from.
    struct Puncher {
        nat: Nat,
        inside: SocketAddr,
        targets: BTreeSet<SocketAddr>,
        heard: bool,
        /// The other has said that it hears.
        done: bool,
    }

    impl Puncher {
        fn new(way: Way, number: u8) -> Self {
            let Way::Nat(behaviour) = way else { panic!("a NAT") };
            let nat = Nat::new(behaviour, [198, 19, 0, number].into(), Rng::from_number(number.into()));
            let inside = SocketAddr::from(([10, 0, 0, number], 18502));
            Self { nat, inside, targets: BTreeSet::new(), heard: false, done: false }
        }
    }

    /// Whether the two meet without any guess.
    fn punch(one: Way, other: Way) -> bool {
        #[expect(clippy::disallowed_methods, reason = "a test needs one arbitrary moment to start from")]
        let now = std::time::Instant::now();
        let mut sides = [Puncher::new(one, 1), Puncher::new(other, 2)];
        let introducer = SocketAddr::from(([198, 18, 0, 1], 18502));
        for place in [0, 1] {
            let side = &mut sides[place];
            let seen = side.nat.outbound(now, side.inside, introducer).unwrap();
            sides[1 - place].targets.insert(seen);
        }
        for _ in 0..4 {
            for place in [0, 1] {
                let side = &mut sides[place];
                let heard = side.heard;
                let targets = side.targets.clone();
                for target in targets {
                    let side = &mut sides[place];
                    let source = side.nat.outbound(now, side.inside, target).unwrap();
                    let far = &mut sides[1 - place];
                    if far.nat.inbound(now, target, source).is_some() {
                        far.heard = true;
                        far.done |= heard;
                        far.targets.insert(source);
                    }
                }
            }
        }
        sides.iter().all(|side| side.done)
    }

    #[test]
    fn the_simulated_nats_behave_as_the_theory_says() {
        let all: Vec<_> = Ports::ALL.into_iter().flat_map(kinds).collect();
        for &one in &all {
            for &other in &all {
                let met = punch(one, other);
                match between(&[one], &[other]) {
                    Reach::Direct => assert!(met, "{one:?} {other:?} must meet"),
                    Reach::Relayed => assert!(!met, "{one:?} {other:?} cannot meet"),
                    // It needs a guess, or luck.
                    Reach::DirectOrRelayed => {}
                    Reach::DirectOrNone | Reach::None => panic!("there is a relay"),
                }
            }
        }
    }
}
