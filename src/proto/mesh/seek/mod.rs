//! Reaching a member whose address is unknown, or does not answer, with the help of others (PROTOCOL §12.3, §12.4).
//!
//! Up to three introducers are asked at once: those that say they know the member, then those that rendezvous hashing names for it. Each is asked for the member's nonce unless that is known,
//! then for the introduction. Meanwhile pings with a small hop limit open the own NAT towards every address that is known of the member; from the acknowledgement on they go all the way.
//! The first valid answer wins, wherever it comes from; the session that it makes goes on with all the addresses.

mod request;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::frame::MeshFrame;
use crate::base::PeerIndex;
use crate::crypto::keys::EphemeralSecret;
use crate::crypto::schedule::Epoch0;
use crate::proto::bucket::{Bucket, Rate};
use crate::proto::command::Step;
use crate::proto::event::{Dropped, Event};
use crate::proto::handshake::Local;
use crate::proto::handshake::initiator::verify;
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::wire::hello::Hello;
use crate::wire::member::Keys;
use crate::wire::record::Record;

/// Introducers that are asked at a time.
const MAX_INTRODUCERS: usize = 3;
/// A search is given up after this long, unless packets go on wanting out.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at who could introduce.
const LOOK: Duration = Duration::from_millis(250);
/// An introducer that has not answered by then does not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// So long has a search before it makes sessions with further introducers: one of them may relay, or know the member.
const CALL: Duration = Duration::from_millis(1500);
/// An introducer that could not help may be able to by then.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A request is repeated after this long, and twice as long each time.
const REPEAT: Duration = Duration::from_millis(250);
const REQUESTS: u32 = 4;
/// When pings leave after the acknowledgement.
const PUNCHES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// Far enough to leave the own NAT and that of a carrier, and not far enough to meet the other's: one that sees an unexpected packet first may move the mapping elsewhere.
pub(super) const NEAR_HOPS: u8 = 3;
/// After the first introduction was accepted, how long the others may take.
const SETTLE: Duration = Duration::from_secs(4);
/// Keys that are kept besides.
const MAX_RETIRED: usize = 6;
/// Addresses that are pinged for one introduction.
const MAX_TARGETS: usize = 16;
/// Answers examined in one second, of each kind of source: each costs public-key work.
const EXAMINED: Rate = Rate { per_second: 20, burst: 20 };

/// One search.
#[derive(Debug)]
pub(crate) struct Seeking {
    since: Instant,
    next_at: Instant,
    inquiries: Vec<Inquiry>,
    /// Keys of requests of which nothing seems to come. An introducer that says so may have passed the request on all the same, and the member answers no other for a while.
    retired: VecDeque<Key>,
    examined: Examined,
    /// Further introducers are called then: those that were asked have not led to the member.
    call_at: Instant,
}

/// What an answer is verified with.
#[derive(Debug)]
struct Key {
    introducer: PeerIndex,
    ephemeral: EphemeralSecret,
    /// `h_I`.
    hash: [u8; 32],
}

/// With one introducer.
#[derive(Debug)]
struct Inquiry {
    introducer: PeerIndex,
    stage: Stage,
    since: Instant,
    /// The nonce was too old once already.
    renewed: bool,
}

#[derive(Debug)]
enum Stage {
    /// Asked where the member is.
    Asked,
    /// Asked for an introduction.
    Requested(Box<Requested>),
    /// Nothing will come of it.
    Over,
}

#[derive(Debug)]
struct Requested {
    number: u32,
    key: Key,
    public: [u8; 32],
    signature: [u8; 64],
    /// What this node's pings bear.
    token: [u8; 32],
    requests: u32,
    request_at: Instant,
    accepted_at: Option<Instant>,
    punches: usize,
    /// Where pings have gone, and answers may come from.
    targets: Vec<SocketAddr>,
}

impl Seeking {
    pub(crate) fn new(now: Instant, at: Instant) -> Self {
        Self {
            since: now,
            next_at: at,
            inquiries: Vec::new(),
            retired: VecDeque::new(),
            examined: Examined::default(),
            call_at: at + CALL,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next_at
    }

    /// Look again, now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next_at = self.next_at.min(now);
    }

    /// Whether it is time to call further introducers.
    fn takes_call(&mut self, now: Instant) -> bool {
        let due = now >= self.call_at;
        if due {
            self.call_at = now + CALL * 2;
        }
        due
    }

    /// The keys of the introductions have served their purpose.
    fn on_answered(&mut self, now: Instant) {
        self.inquiries.clear();
        self.retired.clear();
        self.next_at = now + LOOK;
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.since + PATIENCE
    }

    fn inquiry(&mut self, introducer: PeerIndex) -> Option<&mut Inquiry> {
        self.inquiries.iter_mut().find(|inquiry| inquiry.introducer == introducer)
    }

    pub(super) fn has_asked(&self, introducer: PeerIndex) -> bool {
        self.inquiries.iter().any(|known| known.introducer == introducer && matches!(known.stage, Stage::Asked))
    }

    /// Checks a hello answer against every introduction that was asked for. Changes nothing but the bucket.
    pub(crate) fn verify_answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: &Local,
        peer: &crate::base::PeerId,
        answer: &Hello<'_>,
    ) -> Result<(Epoch0, PeerIndex), Dropped> {
        let mut result = Err(Dropped::Unexpected);
        let is_target = self.targets().iter().any(|target| target.ip() == from.ip());
        let examined = self.examined.of(from, is_target);
        let asked = self.inquiries.iter().filter_map(|inquiry| match &inquiry.stage {
            Stage::Requested(requested) => Some(&requested.key),
            Stage::Asked | Stage::Over => None,
        });
        for key in asked.chain(&self.retired) {
            if !examined.take(now, EXAMINED) {
                return Err(Dropped::RateLimited);
            }
            result = verify(&key.ephemeral, &key.hash, local, peer, answer).map(|epoch| (epoch, key.introducer));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Keeps the key of a request that is over.
    fn keep(&mut self, key: Option<Key>) {
        self.retired.extend(key);
        if self.retired.len() > MAX_RETIRED {
            self.retired.pop_front();
        }
    }

    /// Every address that was pinged.
    pub(crate) fn targets(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for inquiry in &self.inquiries {
            if let Stage::Requested(requested) = &inquiry.stage {
                all.extend(requested.targets.iter().copied());
            }
        }
        all
    }
}

impl Node {
    /// Goes on with the search for a peer, if one is under way and due.
    pub(super) fn pursue(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let is_reached = peer.is_reached();
        let Some(contact) = peer.contact_mut() else { return };
        let Some(seeking) = contact.seeking.as_mut() else { return };
        if is_reached {
            contact.seeking = None;
            return;
        }
        if now < seeking.next_at {
            return;
        }
        if seeking.is_over(now) {
            contact.seeking = None;
            contact.step(now, Step::GaveUp);
            self.give_up(now, index);
            return;
        }
        seeking.next_at = now + LOOK;
        if peer.has_pending() {
            self.look_for_relays(now, index);
            return;
        }
        self.enlist(now, index);
        self.advance(now, index);
    }

    /// Nobody knows the peer, or nobody answers where it was greeted.
    pub(in crate::proto) fn give_up(&mut self, now: Instant, index: PeerIndex) {
        let alone = self.is_alone();
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.on_not_found(now, alone);
        if !peer.is_greeting() {
            self.events.push(Event::Unreachable { peer: index });
        }
        if peer.is_standing() {
            self.on_away(now);
        }
    }

    /// A session waits for its confirmation: relays that come meanwhile are ways to that, and more of them are called.
    fn look_for_relays(&mut self, now: Instant, index: PeerIndex) {
        let Some(id) = self.peers.get_mut(index).map(|peer| peer.id) else { return };
        let relays = self.relayed_ways(&id);
        let Some(peer) = self.peers.get_mut(index) else { return };
        if let Some(session) = peer.newest_session() {
            relays.into_iter().for_each(|(relay, capacity)| session.path.add_relayed(now, relay, capacity));
        }
        let seeking = peer.contact_mut().and_then(|contact| contact.seeking.as_mut());
        if seeking.is_some_and(|seeking| seeking.takes_call(now)) {
            self.call_introducers(now, index);
        }
    }

    /// Asks more introducers, if fewer are at it than may be.
    fn enlist(&mut self, now: Instant, target: PeerIndex) {
        if let Some(seeking) =
            self.peers.get_mut(target).and_then(Peer::contact_mut).and_then(|contact| contact.seeking.as_mut())
        {
            seeking
                .inquiries
                .retain(|inquiry| !matches!(inquiry.stage, Stage::Over) || now < inquiry.since + ASK_AGAIN);
        }
        for introducer in self.introducers_for(target) {
            let Some(peer) = self.peers.get_mut(target) else { return };
            let contact = peer.contact();
            let nonce = contact.nonce(now);
            let Some(seeking) = contact.seeking.as_mut() else { return };
            let at_it = seeking.inquiries.iter().filter(|inquiry| !matches!(inquiry.stage, Stage::Over)).count();
            if at_it >= MAX_INTRODUCERS {
                return;
            }
            if seeking.inquiry(introducer).is_some() {
                continue;
            }
            seeking.inquiries.push(Inquiry { introducer, stage: Stage::Asked, since: now, renewed: false });
            if nonce.is_some() {
                self.request(now, target, introducer);
            } else {
                self.ask(now, target, introducer);
            }
        }
    }

    /// Peers with sessions that may know the target: first those that say so. If there is none with a session, the best are greeted.
    fn introducers_for(&mut self, target: PeerIndex) -> Vec<PeerIndex> {
        let Some(peer) = self.peers.get_mut(target) else { return Vec::new() };
        let (id, known_by) = (peer.id, peer.known_by());
        let mut all: Vec<(bool, bool, u64, PeerIndex)> = Vec::new();
        for index in self.peers.connected().into_iter().filter(|index| *index != target) {
            let Some(other) = self.peers.get_mut(index) else { continue };
            let introduces = other.mesh_session().is_some_and(|session| !session.path.is_relayed())
                && other.contact_mut().is_some_and(|contact| contact.introduces);
            if introduces {
                // Whoever relays is worth more: through it, the member is reached even if no direct path can be.
                let relays = other.is_relay();
                all.push((known_by.contains(&index), relays, self.local.net.rank(&id, &other.id), index));
            }
        }
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.into_iter().map(|(_, _, _, index)| index).collect()
    }

    /// Members that rendezvous hashing names for the target, and with which there is no session, are called: those that do not answer are left out by the target, too, so it is the next that know it.
    fn call_introducers(&mut self, now: Instant, target: PeerIndex) {
        let Some(id) = self.peers.get_mut(target).map(|peer| peer.id) else { return };
        let mut best: Vec<(bool, u64, PeerIndex)> = Vec::new();
        for index in self.mesh.introducers.clone().into_iter().filter(|index| *index != target) {
            if let Some(peer) = self.peers.get_mut(index).filter(|peer| !peer.is_connected()) {
                let is_fresh = !peer.is_greeting() && !peer.is_away(now);
                best.push((is_fresh, self.local.net.rank(&id, &peer.id), index));
            }
        }
        best.sort_unstable_by(|one, other| other.cmp(one));
        for (_, _, index) in best.into_iter().take(MAX_INTRODUCERS) {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.greet(now, &mut self.rng);
                self.settle(now, index);
            }
        }
    }

    fn ask(&mut self, now: Instant, target: PeerIndex, introducer: PeerIndex) {
        let Some(peer) = self.peers.get_mut(target) else { return };
        let id = peer.id;
        peer.contact().step(now, Step::Asked(introducer));
        self.send_record(now, introducer, &Record::Find(Keys::new(id.as_bytes())));
    }

    /// An introducer says whether it knows a member.
    pub(super) fn on_found(&mut self, now: Instant, introducer: PeerIndex, target: PeerIndex, connected: bool) {
        let Some(contact) = self.peers.get_mut(target).and_then(Peer::contact_mut) else { return };
        let Some(inquiry) = contact.seeking.as_mut().and_then(|seeking| seeking.inquiry(introducer)) else { return };
        if !matches!(inquiry.stage, Stage::Asked) {
            return;
        }
        if connected {
            self.request(now, target, introducer);
        } else {
            inquiry.retire(now);
            contact.step(now, Step::NotKnownBy(introducer));
            if let Some(seeking) = contact.seeking.as_mut() {
                seeking.hurry(now);
            }
            self.settle(now, target);
        }
    }
}

/// What is left to be examined: whoever floods from one kind of source leaves the others what they need.
#[derive(Debug, Default)]
struct Examined {
    /// Hosts that were pinged, or that have sent the token of the member: who knows neither where it is nor `X_1` is none of them.
    known: Bucket,
    /// Who is behind a relay, says the relay.
    relayed: Bucket,
    unknown: Bucket,
}

impl Examined {
    fn of(&mut self, from: SocketAddr, is_target: bool) -> &mut Bucket {
        if hop::is_relayed(from) {
            &mut self.relayed
        } else if is_target {
            &mut self.known
        } else {
            &mut self.unknown
        }
    }
}

impl Inquiry {
    /// Nothing will come of it, as it seems, and for a while others are asked instead; the key, if there was one.
    fn retire(&mut self, now: Instant) -> Option<Key> {
        self.since = now;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Requested(requested) => Some(requested.key),
            Stage::Asked | Stage::Over => None,
        }
    }

    fn is_accepted(&self) -> bool {
        matches!(&self.stage, Stage::Requested(requested) if requested.accepted_at.is_some())
    }
}

impl Requested {
    /// True if the introducer or the member has been silent for too long.
    fn advance(
        &mut self,
        now: Instant,
        introducer: PeerIndex,
        target: crate::base::PeerId,
        repeat: &mut Vec<(PeerIndex, MeshFrame)>,
        punch: &mut Vec<(SocketAddr, [u8; 32])>,
    ) -> bool {
        let Some(accepted_at) = self.accepted_at else {
            if now < self.request_at {
                return false;
            }
            if self.requests >= REQUESTS {
                return true;
            }
            self.request_at = now + REPEAT * (1 << self.requests);
            self.requests += 1;
            let Self { number, public: ephemeral, signature, .. } = *self;
            repeat.push((introducer, MeshFrame::Request { number, ephemeral, target, signature }));
            return false;
        };
        while PUNCHES.get(self.punches).is_some_and(|after| now >= accepted_at + *after) {
            self.punches += 1;
            punch.extend(self.targets.iter().map(|address| (*address, self.token)));
        }
        now >= accepted_at + SETTLE
    }

    fn deadline(&self) -> Instant {
        match self.accepted_at {
            None => self.request_at,
            Some(at) => at + PUNCHES.get(self.punches).copied().unwrap_or(SETTLE),
        }
    }
}

// The tokens of a search are few enough for the table.
const _: () = assert!(MAX_INTRODUCERS * 2 < super::MAX_TOKENS);
