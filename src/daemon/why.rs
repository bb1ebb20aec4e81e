//! Why packets for a peer take the way they take, or none: the facts of the core as one paragraph. A pure function of them, so that the same facts give the same words.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::lookup::Names;
use super::netcheck::HELP;
use crate::base::PeerIndex;
use crate::control::message::{StepStatus, VERSION, Verdict, Why};
use crate::proto::command::{CandidateKind, Hop, NatStatus, PathStatus, PeerStatus, Step};

/// Paths and steps that a paragraph names; a longer one explains nothing.
const NAMED: usize = 8;

/// Everything that is known about one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    /// As the configuration has them.
    pub(super) endpoints: &'a [String],
    pub(super) facts: &'a PeerStatus,
    /// Of this node.
    pub(super) nat: &'a NatStatus,
    pub(super) names: &'a Names<'a>,
}

impl Case<'_> {
    /// As the control socket tells it.
    pub(super) fn to_why(self) -> Why {
        Why {
            version: VERSION,
            peer: self.name.to_owned(),
            verdict: self.verdict(),
            explanation: self.explanation(),
            steps: self.facts.steps.iter().map(|&(since, step)| self.step_status(since, step)).collect(),
        }
    }

    fn verdict(&self) -> Verdict {
        let tried = self.facts.steps.iter().rev().find_map(|(_, step)| match step {
            Step::Wanted | Step::GaveUp => Some(true),
            Step::Connected(_) => Some(false),
            Step::Greeted(_)
            | Step::Asked(_)
            | Step::NotKnownBy(_)
            | Step::Requested(_)
            | Step::Acknowledged(..)
            | Step::NoAnswer(_)
            | Step::Introduced(_)
            | Step::Answered(_)
            | Step::Moved(_)
            | Step::Died(_)
            | Step::Sprayed { .. } => None,
        });
        if self.facts.session.is_some() {
            match self.primary().map(|path| path.hop) {
                Some(Hop::Relay(_)) => Verdict::Relayed,
                Some(Hop::Direct(_)) | None => Verdict::Direct,
            }
        } else if self.facts.connecting {
            Verdict::Connecting
        } else if tried == Some(true) || self.facts.waiting > 0 {
            Verdict::Unreachable
        } else {
            Verdict::Idle
        }
    }

    fn explanation(&self) -> String {
        let verdict = self.verdict();
        let mut sentences = vec![self.present(verdict)];
        sentences.extend(self.other_ways());
        sentences.extend(self.story());
        sentences.push(match verdict {
            Verdict::Direct => self.why_direct(),
            Verdict::Relayed => self.why_relayed(),
            Verdict::Connecting => self.why_connecting(),
            Verdict::Unreachable => self.why_unreachable(),
            Verdict::Idle => self.why_idle(),
        });
        sentences.join(" ")
    }

    /// State and path.
    fn present(&self, verdict: Verdict) -> String {
        let name = self.name;
        match (verdict, self.primary()) {
            (Verdict::Direct | Verdict::Relayed, Some(path)) => {
                let rtt = path.rtt.map_or_else(String::new, |rtt| format!(", {}", Round(rtt)));
                format!("{name} is connected {}{rtt}.", self.way(path))
            }
            (Verdict::Direct | Verdict::Relayed, None) => format!("{name} is connected."),
            (Verdict::Connecting, _) => format!("{name} is not connected yet: an attempt is under way."),
            (Verdict::Unreachable, _) => format!("{name} is not reachable at present."),
            (Verdict::Idle, _) => format!("{name} is idle: there is no session, and none is wanted."),
        }
    }

    /// The paths that are not in use, or the addresses that are known without a session.
    fn other_ways(&self) -> Option<String> {
        let mut ways: Vec<String> =
            self.facts.paths.iter().filter(|path| !path.is_primary).map(|path| self.candidate(path)).collect();
        let what = if self.facts.session.is_some() { "Other ways" } else { "Known ways" };
        if self.facts.session.is_none() {
            ways.extend(self.endpoints.iter().map(|endpoint| format!("{endpoint} (configured)")));
        }
        let more = ways.len().saturating_sub(NAMED);
        ways.truncate(NAMED);
        if more > 0 {
            ways.push(format!("{more} more"));
        }
        (!ways.is_empty()).then(|| format!("{what}: {}.", ways.join(", ")))
    }

    fn candidate(&self, path: &PathStatus) -> String {
        let answers = match (path.heard, path.unanswered) {
            (None, 0) => "not tried".to_owned(),
            (None, unanswered) => format!("no answer to {}", pings(unanswered)),
            (Some(_), 0) => path.rtt.map_or_else(|| "works".to_owned(), |rtt| format!("works, {}", Round(rtt))),
            (Some(since), unanswered) => format!("answered {}, no answer to {}", Ago(since), pings(unanswered)),
        };
        match path.hop {
            Hop::Direct(address) => format!("{address} ({}; {answers})", origin(path.kind)),
            Hop::Relay(relay) => format!("relay {} ({answers})", self.names.of(relay)),
        }
    }

    /// `directly to 192.0.2.1:18502 (configured)`, `through relay c`
    fn way(&self, path: &PathStatus) -> String {
        match path.hop {
            Hop::Direct(address) => format!("directly to {address} ({})", origin(path.kind)),
            Hop::Relay(relay) => format!("through relay {}", self.names.of(relay)),
        }
    }

    /// What was tried, by whom and when.
    fn story(&self) -> Option<String> {
        let attempt = self.attempt();
        let shown = attempt.get(attempt.len().saturating_sub(NAMED)..).unwrap_or_default();
        let told: Vec<String> =
            shown.iter().map(|&(since, step)| format!("{} ({})", self.step_text(step), Ago(since))).collect();
        (!told.is_empty()).then(|| format!("What happened: {}.", told.join(", ")))
    }

    /// The steps of the present attempt, or else of the last one.
    fn attempt(&self) -> &[(Duration, Step)] {
        let steps = &self.facts.steps[..];
        let start = steps.iter().rposition(|(_, step)| *step == Step::Wanted).or_else(|| {
            // What this node does by itself begins without a packet; what came before was another attempt.
            let end = steps.len().saturating_sub(1);
            steps.get(..end)?.iter().rposition(|(_, step)| *step == Step::GaveUp).map(|place| place + 1)
        });
        steps.get(start.unwrap_or(0)..).unwrap_or_default()
    }

    fn why_direct(&self) -> String {
        match self.primary() {
            Some(path) if path.unanswered > 0 => {
                format!(
                    "But {} there have no answer yet: if that stays so, packets go another way.",
                    pings(path.unanswered)
                )
            }
            Some(path) if !path.is_proven => "Packets of full size have not been answered on this path yet.".to_owned(),
            Some(_) | None => "That is the shortest way; nothing is to be improved.".to_owned(),
        }
    }

    fn why_relayed(&self) -> String {
        let own = self.is_own_nat_symmetric();
        let theirs = self.is_peer_nat_symmetric();
        let reason = match (own, theirs) {
            (true, true) => {
                "Both nodes are behind NATs that give each destination another port (symmetric), so neither knows where the other can be reached, and no direct path comes about"
            }
            (true, false) => {
                "The NAT of this node gives each destination another port (symmetric), so a direct path has to be found by trying many, which takes some seconds and needs two introducers on either side"
            }
            (false, true) => {
                "The NAT of the peer gives each destination another port (symmetric), so a direct path has to be found by trying many, which takes some seconds and needs two introducers on either side"
            }
            (false, false) => "No direct path has answered so far",
        };
        format!(
            "{reason}. The relay cannot read what it carries. For a direct path {HELP}, on either side; packets then go over to it by themselves."
        )
    }

    fn why_connecting(&self) -> String {
        let waiting = match self.facts.waiting {
            0 => String::new(),
            1 => " 1 packet waits for it.".to_owned(),
            waiting => format!(" {waiting} packets wait for it."),
        };
        format!("An attempt lasts up to 90 s.{waiting}")
    }

    fn why_idle(&self) -> String {
        let heard = match self.facts.last_received {
            Some(since) => format!("It was heard last {}.", Ago(since)),
            None => "No packet has wanted to go there since the daemon started, and none came from there.".to_owned(),
        };
        let known = match self.joined(&self.facts.known_by) {
            Some(names) => format!(" It can be reached by way of {names}."),
            None => String::new(),
        };
        format!("{heard}{known} The next packet for its addresses begins an attempt.")
    }

    fn why_unreachable(&self) -> String {
        let name = self.name;
        let attempt = || self.attempt().iter().rev().map(|(_, step)| *step);
        if let Some(introducer) = attempt().find_map(introducer_that_agreed) {
            let nat = if self.is_own_nat_symmetric() { "; the NAT of this node is symmetric" } else { "" };
            return format!(
                "{} introduced the two, but no packet of {name} came through: NATs or firewalls are in the way{nat}. To improve that {HELP}, on either side, or let a member that both can reach relay.",
                self.names.of(introducer)
            );
        }
        if let Some((introducer, status)) = attempt().find_map(refusal) {
            let introducer = self.names.of(introducer);
            return match status {
                2 => format!(
                    "{introducer} knows {name}, but one of the two refused the introduction or was busy: look whether {introducer} and {name} have this node in their configuration, and try again."
                ),
                3 => format!(
                    "The signature of this node was found bad or stale: look whether {name} has the present public key of this node."
                ),
                4 => format!(
                    "{introducer} knows {name}, but does not reach it at present: {name} has lost its network, or is off."
                ),
                status => format!(
                    "{introducer} answered with status {status}, which this version does not know: it may be newer than this node."
                ),
            };
        }
        let ignorant = self.introducers(|step| {
            let (Step::NotKnownBy(peer) | Step::Acknowledged(peer, 1)) = step else { return None };
            Some(peer)
        });
        if let Some(names) = ignorant {
            return format!(
                "No introducer that was asked ({names}) has a session with {name}: it is off, has no network, or does not reach them. To improve that start Handfast there, and give it an endpoint of one of them."
            );
        }
        let silent = self.introducers(|step| {
            let Step::NoAnswer(peer) = step else { return None };
            Some(peer)
        });
        if let Some(names) = silent {
            return format!(
                "The introducers that were asked ({names}) did not answer: look whether they are reachable themselves (`handfast ping`)."
            );
        }
        if self.endpoints.is_empty() {
            return format!(
                "The configuration names no endpoint of {name}, and there is no introducer to ask. To improve that configure an endpoint, of {name} or of a peer that both can reach."
            );
        }
        format!(
            "What is configured ({}) does not answer, and no introducer was there to ask. Look whether Handfast runs there and has the public key of this node, whether address and UDP port are right, and whether a firewall lets the port through.",
            self.endpoints.join(", ")
        )
    }

    /// Those that a kind of step names, in the order of the attempt.
    fn introducers(&self, named: impl Fn(Step) -> Option<PeerIndex>) -> Option<String> {
        let mut found = Vec::new();
        for peer in self.attempt().iter().filter_map(|&(_, step)| named(step)) {
            if !found.contains(&peer) {
                found.push(peer);
            }
        }
        self.joined(&found)
    }

    fn joined(&self, peers: &[PeerIndex]) -> Option<String> {
        let names: Vec<&str> = peers.iter().take(NAMED).map(|&peer| self.names.of(peer)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn primary(&self) -> Option<&PathStatus> {
        self.facts.paths.iter().find(|path| path.is_primary)
    }

    fn is_own_nat_symmetric(&self) -> bool {
        !self.nat.has_public_address && self.nat.same_mapping == Some(false)
    }

    /// Members see it at several ports of one address, or its ports are guessed.
    fn is_peer_nat_symmetric(&self) -> bool {
        let mut seen: Vec<SocketAddr> = Vec::new();
        for path in &self.facts.paths {
            let (CandidateKind::Observed, Hop::Direct(address)) = (path.kind, path.hop) else { continue };
            seen.push(address);
        }
        let moves = |address: &SocketAddr, ip: IpAddr| {
            seen.iter().any(|other| other.ip() == ip && other.port() != address.port())
        };
        let guessed = self.facts.paths.iter().any(|path| path.kind == CandidateKind::Predicted);
        guessed || seen.iter().any(|address| moves(address, address.ip()))
    }

    fn step_status(&self, since: Duration, step: Step) -> StepStatus {
        let label = match step {
            Step::Wanted => "wanted",
            Step::Greeted(_) => "greeted",
            Step::Asked(_) => "asked",
            Step::NotKnownBy(_) => "not_known_by",
            Step::Requested(_) => "requested",
            Step::Acknowledged(..) => "acknowledged",
            Step::NoAnswer(_) => "no_answer",
            Step::Introduced(_) => "introduced",
            Step::Answered(_) => "answered",
            Step::Connected(_) => "connected",
            Step::Moved(_) => "moved",
            Step::Died(_) => "died",
            Step::Sprayed { .. } => "sprayed",
            Step::GaveUp => "gave_up",
        };
        StepStatus { seconds_ago: since.as_secs_f64(), step: label.to_owned(), text: self.step_text(step) }
    }

    fn step_text(&self, step: Step) -> String {
        let name = |peer| self.names.of(peer);
        let hop = |hop| match hop {
            Hop::Direct(address) => address.to_string(),
            Hop::Relay(relay) => format!("relay {}", name(relay)),
        };
        match step {
            Step::Wanted => "a packet wanted to go there".to_owned(),
            Step::Greeted(1) => "1 known address was greeted".to_owned(),
            Step::Greeted(count) => format!("{count} known addresses were greeted"),
            Step::Asked(peer) => format!("{} was asked where it is", name(peer)),
            Step::NotKnownBy(peer) => format!("{} does not know", name(peer)),
            Step::Requested(peer) => format!("{} was asked for an introduction", name(peer)),
            Step::Acknowledged(peer, 0) => format!("{} passed the introduction on", name(peer)),
            Step::Acknowledged(peer, 1) => format!("{} does not know the peer", name(peer)),
            Step::Acknowledged(peer, 2) => format!("{} answered: refused or busy", name(peer)),
            Step::Acknowledged(peer, 3) => format!("{} answered: signature bad or stale", name(peer)),
            Step::Acknowledged(peer, 4) => format!("{} answered: unreachable", name(peer)),
            Step::Acknowledged(peer, status) => format!("{} answered: status {status}", name(peer)),
            Step::NoAnswer(peer) => format!("{} did not answer", name(peer)),
            Step::Introduced(peer) => format!("the peer answered after {} introduced it", name(peer)),
            Step::Answered(peer) => format!("the peer was introduced by {}, and was answered", name(peer)),
            Step::Connected(way) => format!("a session was confirmed by way of {}", hop(way)),
            Step::Moved(way) => format!("traffic went over to {}", hop(way)),
            Step::Died(way) => format!("{} stopped answering", hop(way)),
            Step::Sprayed { datagrams, found } => {
                let result = if found { "and a path was found" } else { "in vain" };
                format!("{datagrams} datagrams tried ports at random, {result}")
            }
            Step::GaveUp => "the attempt was given up".to_owned(),
        }
    }
}

/// The introducer that passed an introduction on, if the step says so.
fn introducer_that_agreed(step: Step) -> Option<PeerIndex> {
    let (Step::Introduced(peer) | Step::Acknowledged(peer, 0)) = step else { return None };
    Some(peer)
}

/// An introduction that did not come about though the introducer knew the peer, and the status on the wire (PROTOCOL §9.1).
fn refusal(step: Step) -> Option<(PeerIndex, u8)> {
    let Step::Acknowledged(peer, status) = step else { return None };
    (status > 1).then_some((peer, status))
}

/// How an address came to be known.
fn origin(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Local => "an address of its interface",
        CandidateKind::Observed => "where others see it",
        CandidateKind::Mapped => "a port that its router forwards",
        CandidateKind::Configured => "configured",
        CandidateKind::Heard => "where it was heard from",
        CandidateKind::Predicted => "guessed from its NAT's last port",
        CandidateKind::Relayed => "through another member",
    }
}

fn pings(count: u32) -> String {
    if count == 1 { "1 ping".to_owned() } else { format!("{count} pings") }
}

/// `0.32 ms`, `12.3 ms`, `250 ms`
struct Round(Duration);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_secs_f64() * 1e3;
        let decimals = if milliseconds < 1.0 {
            2
        } else if milliseconds < 100.0 {
            1
        } else {
            0
        };
        write!(f, "{milliseconds:.decimals$} ms")
    }
}

/// `just now`, `62 s ago`, `5 min ago`, `3 h ago`, `12 d ago`
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => f.write_str("just now"),
            seconds @ 1..120 => write!(f, "{seconds} s ago"),
            seconds @ 120..7200 => write!(f, "{} min ago", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} h ago", seconds / 3600),
            seconds => write!(f, "{} d ago", seconds / 86400),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::PeerId;
    use crate::crypto::aead::Cipher;
    use crate::proto::command::{SessionStatus, Traffic};
    use crate::proto::event::Drops;

    const C: PeerIndex = PeerIndex(1);
    const D: PeerIndex = PeerIndex(2);

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn session() -> SessionStatus {
        SessionStatus {
            age: seconds(60),
            endpoint: address("198.51.100.7:18502"),
            cipher: Cipher::Aes256Gcm,
            epoch: 1,
            rtt: None,
            datagram_limit: 1200,
            reliable_queued: 0,
            reliable_repeated: 0,
        }
    }

    fn facts(steps: Vec<(u64, Step)>) -> PeerStatus {
        PeerStatus {
            id: PeerId([0; 32]),
            connecting: false,
            session: None,
            traffic: Traffic::default(),
            last_received: None,
            waiting: 0,
            is_standing: false,
            relays: None,
            known_by: Vec::new(),
            paths: Vec::new(),
            steps: steps.into_iter().map(|(since, step)| (seconds(since), step)).collect(),
            drops: Drops::default(),
        }
    }

    fn path(hop: Hop, kind: CandidateKind) -> PathStatus {
        PathStatus { hop, kind, is_primary: false, is_proven: false, rtt: None, heard: None, unanswered: 3 }
    }

    fn primary(hop: Hop, kind: CandidateKind, rtt: u64) -> PathStatus {
        PathStatus {
            is_primary: true,
            is_proven: true,
            rtt: Some(Duration::from_micros(rtt)),
            heard: Some(seconds(1)),
            unanswered: 0,
            ..path(hop, kind)
        }
    }

    fn why(facts: &PeerStatus, nat: &NatStatus, endpoints: &[&str]) -> (Verdict, String) {
        let endpoints: Vec<String> = endpoints.iter().map(|&text| text.to_owned()).collect();
        let names = Names::of_test(&["b", "c", "d"]);
        let why = Case { name: "b", endpoints: &endpoints, facts, nat, names: &names }.to_why();
        assert!(!why.explanation.contains('\n'), "one paragraph");
        (why.verdict, why.explanation)
    }

    // ---- typical cases

    #[test]
    fn direct_after_an_introduction() {
        let hop = Hop::Direct(address("198.51.100.7:18502"));
        let mut facts = facts(vec![
            (63, Step::Wanted),
            (63, Step::Asked(C)),
            (62, Step::Requested(C)),
            (62, Step::Acknowledged(C, 0)),
            (61, Step::Introduced(C)),
            (61, Step::Connected(hop)),
        ]);
        facts.session = Some(session());
        facts.paths = vec![primary(hop, CandidateKind::Observed, 1320)];
        let told = "b is connected directly to 198.51.100.7:18502 (where others see it), 1.3 ms. What happened: a packet wanted to go there (63 s ago), \
                    c was asked where it is (63 s ago), c was asked for an introduction (62 s ago), c passed the introduction on (62 s ago), \
                    the peer answered after c introduced it (61 s ago), a session was confirmed by way of 198.51.100.7:18502 (61 s ago). \
                    That is the shortest way; nothing is to be improved.";
        assert_eq!(why(&facts, &NatStatus::default(), &[]), (Verdict::Direct, told.to_owned()));
    }

    #[test]
    fn relayed_because_both_nats_are_symmetric() {
        let mut facts = facts(vec![(300, Step::Wanted), (299, Step::Connected(Hop::Relay(C)))]);
        facts.session = Some(session());
        facts.paths = vec![
            primary(Hop::Relay(C), CandidateKind::Relayed, 31_000),
            path(Hop::Direct(address("198.51.100.7:4001")), CandidateKind::Observed),
            path(Hop::Direct(address("198.51.100.7:4003")), CandidateKind::Observed),
        ];
        let nat = NatStatus { same_mapping: Some(false), ..NatStatus::default() };
        let told = "b is connected through relay c, 31.0 ms. Other ways: 198.51.100.7:4001 (where others see it; no answer to 3 pings), \
                    198.51.100.7:4003 (where others see it; no answer to 3 pings). What happened: a packet wanted to go there (5 min ago), \
                    a session was confirmed by way of relay c (4 min ago). Both nodes are behind NATs that give each destination another port (symmetric), \
                    so neither knows where the other can be reached, and no direct path comes about. The relay cannot read what it carries. \
                    For a direct path enable port mapping (PCP, NAT-PMP or UPnP) on the router, or forward a UDP port to the node, on either side; \
                    packets then go over to it by themselves.";
        assert_eq!(why(&facts, &nat, &[]), (Verdict::Relayed, told.to_owned()));
    }

    #[test]
    fn not_reachable_because_no_introducer_knows_it() {
        let facts = facts(vec![
            (20, Step::Wanted),
            (20, Step::Asked(C)),
            (20, Step::Asked(D)),
            (19, Step::NotKnownBy(C)),
            (19, Step::NotKnownBy(D)),
            (5, Step::GaveUp),
        ]);
        let told = "b is not reachable at present. What happened: a packet wanted to go there (20 s ago), c was asked where it is (20 s ago), \
                    d was asked where it is (20 s ago), c does not know (19 s ago), d does not know (19 s ago), the attempt was given up (5 s ago). \
                    No introducer that was asked (c, d) has a session with b: it is off, has no network, or does not reach them. \
                    To improve that start Handfast there, and give it an endpoint of one of them.";
        assert_eq!(why(&facts, &NatStatus::default(), &[]), (Verdict::Unreachable, told.to_owned()));
    }

    #[test]
    fn not_reachable_because_the_introduction_was_refused() {
        let facts = facts(vec![
            (20, Step::Wanted),
            (20, Step::Requested(C)),
            (19, Step::Acknowledged(C, 2)),
            (0, Step::GaveUp),
        ]);
        let told = "b is not reachable at present. What happened: a packet wanted to go there (20 s ago), c was asked for an introduction (20 s ago), \
                    c answered: refused or busy (19 s ago), the attempt was given up (just now). c knows b, but one of the two refused the introduction \
                    or was busy: look whether c and b have this node in their configuration, and try again.";
        assert_eq!(why(&facts, &NatStatus::default(), &[]), (Verdict::Unreachable, told.to_owned()));
    }

    #[test]
    fn idle_because_nothing_ever_wanted_to_go_there() {
        let mut facts = facts(Vec::new());
        facts.known_by = vec![C, D];
        let told = "b is idle: there is no session, and none is wanted. No packet has wanted to go there since the daemon started, and none came from there. \
                    It can be reached by way of c, d. The next packet for its addresses begins an attempt.";
        assert_eq!(why(&facts, &NatStatus::default(), &[]), (Verdict::Idle, told.to_owned()));
    }

    #[test]
    fn not_reachable_because_the_configured_address_does_not_answer() {
        let facts =
            facts(vec![(400, Step::Greeted(1)), (310, Step::GaveUp), (95, Step::Greeted(1)), (5, Step::GaveUp)]);
        let told = "b is not reachable at present. Known ways: vps.example:18502 (configured). What happened: 1 known address was greeted (95 s ago), \
                    the attempt was given up (5 s ago). What is configured (vps.example:18502) does not answer, and no introducer was there to ask. \
                    Look whether Handfast runs there and has the public key of this node, whether address and UDP port are right, \
                    and whether a firewall lets the port through.";
        assert_eq!(why(&facts, &NatStatus::default(), &["vps.example:18502"]), (Verdict::Unreachable, told.to_owned()));
    }

    #[test]
    fn an_attempt_that_follows_a_session_is_told_alone() {
        let mut facts = facts(vec![
            (900, Step::Wanted),
            (899, Step::Connected(Hop::Relay(C))),
            (10, Step::Wanted),
            (10, Step::Asked(D)),
        ]);
        facts.connecting = true;
        facts.waiting = 2;
        let (verdict, told) = why(&facts, &NatStatus::default(), &[]);
        assert_eq!(verdict, Verdict::Connecting);
        assert!(told.contains("d was asked") && !told.contains("relay c") && told.contains("2 packets wait"), "{told}");
    }

    #[test]
    fn packets_that_nobody_can_carry_are_told_apart_from_none() {
        let mut facts = facts(vec![(3, Step::Wanted)]);
        facts.waiting = 1;
        let (verdict, told) = why(&facts, &NatStatus::default(), &[]);
        assert_eq!(verdict, Verdict::Unreachable);
        assert!(told.contains("The configuration names no endpoint of b, and there is no introducer"), "{told}");
    }

    // ---- anything at all

    fn any_hop() -> impl Strategy<Value = Hop> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| Hop::Direct(SocketAddr::from((ip, port)))),
            any::<([u16; 8], u16)>().prop_map(|(ip, port)| Hop::Direct(SocketAddr::from((ip, port)))),
            any_peer().prop_map(Hop::Relay),
        ]
    }

    fn any_peer() -> impl Strategy<Value = PeerIndex> {
        prop_oneof![0..4_u32, any::<u32>()].prop_map(PeerIndex)
    }

    fn any_kind() -> impl Strategy<Value = CandidateKind> {
        prop::sample::select(vec![
            CandidateKind::Local,
            CandidateKind::Observed,
            CandidateKind::Mapped,
            CandidateKind::Configured,
            CandidateKind::Heard,
            CandidateKind::Predicted,
            CandidateKind::Relayed,
        ])
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Wanted),
            Just(Step::GaveUp),
            any::<usize>().prop_map(Step::Greeted),
            any_peer().prop_map(Step::Asked),
            any_peer().prop_map(Step::NotKnownBy),
            any_peer().prop_map(Step::Requested),
            (any_peer(), any::<u8>()).prop_map(|(peer, status)| Step::Acknowledged(peer, status % 8)),
            any_peer().prop_map(Step::NoAnswer),
            any_peer().prop_map(Step::Introduced),
            any_peer().prop_map(Step::Answered),
            any_hop().prop_map(Step::Connected),
            any_hop().prop_map(Step::Moved),
            any_hop().prop_map(Step::Died),
            any::<(u32, bool)>().prop_map(|(datagrams, found)| Step::Sprayed { datagrams, found }),
        ]
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        prop_oneof![
            any::<u64>().prop_map(Duration::from_secs),
            any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()))
        ]
    }

    fn any_path() -> impl Strategy<Value = PathStatus> {
        let times = (prop::option::of(any_time()), prop::option::of(any_time()), any::<u32>());
        (any_hop(), any_kind(), any::<(bool, bool)>(), times).prop_map(
            |(hop, kind, (is_primary, is_proven), (rtt, heard, unanswered))| PathStatus {
                hop,
                kind,
                is_primary,
                is_proven,
                rtt,
                heard,
                unanswered,
            },
        )
    }

    prop_compose! {
        fn any_facts()(
            steps in prop::collection::vec((any_time(), any_step()), 0..40),
            paths in prop::collection::vec(any_path(), 0..20),
            known_by in prop::collection::vec(any_peer(), 0..20),
            (connecting, connected, waiting) in any::<(bool, bool, usize)>(),
            last_received in prop::option::of(any_time()),
        ) -> PeerStatus {
            PeerStatus {
                connecting,
                session: connected.then(session),
                waiting: waiting % 3,
                last_received,
                known_by,
                paths,
                steps,
                ..facts(Vec::new())
            }
        }
    }

    proptest! {
        #[test]
        fn any_facts_make_one_paragraph_of_bounded_length(
            facts in any_facts(),
            same_mapping: Option<bool>,
            has_public_address: bool,
            endpoints in prop::collection::vec("[a-z]{1,20}:1", 0..20),
        ) {
            let nat = NatStatus { same_mapping, has_public_address, ..NatStatus::default() };
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let (verdict, told) = why(&facts, &nat, &endpoints);
            prop_assert_eq!(&why(&facts, &nat, &endpoints), &(verdict, told.clone()), "the same facts give the same words");
            prop_assert!(told.starts_with("b is ") && told.ends_with('.') && told.len() < 4000, "{}", told);
        }
    }
}
