//! Other members: who they are to each other, how they find and introduce each other, and how they carry each other's packets (PROTOCOL §12).
//!
//! | file | what this node is there |
//! |---|---|
//! | `list` | one that learns where others are, and says what it knows |
//! | `predict` | one that foretells what a NAT will do next |
//! | `seek` | the one who wants to reach somebody |
//! | `introduce` | the introducer between two others |
//! | `answer` | the one who is to be reached |
//! | `spray` | one end of a search at random ports |
//! | `spraying` | one that begins such searches, and takes part in those of others |
//! | `outlets` | one that has extra sockets for it |
//! | `relay` | one that forwards, or that is reached through one who does |
//! | `standing` | one that keeps a few sessions, to be found |
//! | `measure` | one that measures the NAT in front of it |
//! | `assist` | one that helps others to do so |
//! | `contact` | what is remembered of one member |
//!
//! A member is a peer of the table; whoever puts peers there decides about membership, and nothing that is said here adds one. What members say of others is a hint: it leads to a datagram
//! or two, bounded by buckets, and only a handshake with the right key leads to more.

mod answer;
mod assist;
mod contact;
mod frame;
mod introduce;
mod list;
mod measure;
mod outlets;
mod predict;
mod relay;
mod seek;
mod spray;
mod spraying;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::bucket::{PrefixBuckets, Rate};
use super::command::{CandidateKind, NatStatus, RelayLimits};
use super::hop;
use super::node::Node;
use super::peer::{Holding, Peer};
use crate::base::{Dropped, Link, PeerId, PeerIndex, Rng, TunSink, TxSink};
use crate::crypto::schedule::Net;
use crate::wire::hello::{CookieKind, encode_cookie_packet};
use crate::wire::record::Record;

pub(crate) use contact::Contact;
pub(crate) use frame::MeshFrame;
pub(crate) use seek::Seeking;

/// A nonce is given out for so long, and accepted for as long again.
const NONCE_PERIOD: Duration = Duration::from_secs(600);
/// Keys of introductions that are remembered, so that none is answered twice: longer than a nonce is accepted.
const SEEN: Duration = Duration::from_secs(1200);
const MAX_SEEN: usize = 4096;
/// Of one asker: few together cannot keep all others from being introduced.
const MAX_SEEN_OF_ONE: usize = 256;
/// Punch tokens that are waited for.
const MAX_TOKENS: usize = 1024;
/// Datagrams in the clear that wait to be sent.
const MAX_OUTBOX: usize = 512;
/// Own addresses that are told.
const MAX_LOCAL: usize = 16;
/// Addresses of one host, or network, at which introductions are answered: what a liar can have sent to somebody who has nothing to do with it.
const TARGETS: Rate = Rate { per_second: 2, burst: 16 };
/// Datagrams to one host, or network, that has not answered: at the word of all members together. More than one of them can cause, so that it takes several to use up what others need.
const STRANGERS: Rate = Rate { per_second: 40, burst: 256 };
/// Announcements on the link that are looked at: each costs a MAC for each member.
const ANNOUNCEMENTS: Rate = Rate { per_second: 10, burst: 20 };

/// What a node knows besides its peers.
#[derive(Debug)]
pub(crate) struct Mesh {
    nonce: [u8; 16],
    previous_nonce: [u8; 16],
    rotate_at: Instant,
    /// Keys of introductions, and when they were seen.
    seen: BTreeMap<[u8; 32], PeerIndex>,
    seen_order: VecDeque<(Instant, [u8; 32])>,
    tokens: BTreeMap<[u8; 32], Token>,
    tags: BTreeMap<u64, PeerIndex>,
    forwarded: VecDeque<introduce::Forwarded>,
    targets: PrefixBuckets,
    pub(super) strangers: PrefixBuckets,
    announcements: super::bucket::Bucket,
    /// Own addresses, as the host says.
    local: Vec<(SocketAddr, CandidateKind)>,
    /// Where others see this node: the last few that said so.
    observed: Vec<(PeerIndex, SocketAddr)>,
    /// When all peers are to be told that it is seen elsewhere, when they were, and how long the next time has to wait.
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
    pace: Duration,
    outbox: VecDeque<Posted>,
    next_number: u32,
    relaying: relay::Relaying,
    /// Peers with endpoints, the best introducers of this node first.
    introducers: Vec<PeerIndex>,
    /// When the choice of standing peers is to be looked at again.
    choose_at: Option<Instant>,
    announce_at: Option<Instant>,
    announced_at: Option<Instant>,
    measuring: measure::Measuring,
    echoes: assist::Echoes,
    spraying: spraying::Spraying,
}

/// A datagram in the clear that waits to be sent.
#[derive(Debug)]
struct Posted {
    link: Link,
    datagram: Vec<u8>,
    /// What all members together have sent to one address does not count it.
    has_own_bound: bool,
}

/// A ping with this token opens the way to or from `peer`.
#[derive(Clone, Copy, Debug)]
struct Token {
    peer: PeerIndex,
    /// This node asked for the introduction.
    asked: bool,
    until: Instant,
}

impl Mesh {
    pub(super) fn new<'a>(
        now: Instant,
        net: &Net,
        peers: impl Iterator<Item = (PeerIndex, &'a PeerId)>,
        relay: Option<RelayLimits>,
        rng: &mut Rng,
    ) -> Self {
        let (nonce, previous_nonce) = (rng.bytes(), rng.bytes());
        let targets = PrefixBuckets::new(TARGETS, rng);
        Self {
            nonce,
            previous_nonce,
            rotate_at: now + NONCE_PERIOD,
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            tokens: BTreeMap::new(),
            tags: peers.map(|(index, id)| (net.tag(id), index)).collect(),
            forwarded: VecDeque::new(),
            strangers: targets.at_rate(STRANGERS),
            targets,
            announcements: super::bucket::Bucket::default(),
            local: Vec::new(),
            observed: Vec::new(),
            tell_at: None,
            told_at: None,
            pace: Duration::ZERO,
            outbox: VecDeque::new(),
            next_number: 0,
            relaying: relay::Relaying::new(relay),
            introducers: Vec::new(),
            choose_at: None,
            announce_at: None,
            announced_at: None,
            measuring: measure::Measuring::default(),
            echoes: assist::Echoes::default(),
            spraying: spraying::Spraying::default(),
        }
    }

    /// Numbers of requests and introductions; never 0.
    fn number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1).max(1);
        self.next_number
    }

    /// Sends a datagram in the clear with the next transmission.
    fn post(&mut self, link: Link, datagram: &[u8]) {
        self.enqueue(Posted { link, datagram: datagram.to_vec(), has_own_bound: false });
    }

    fn post_token(&mut self, link: Link, token: &[u8; 32]) {
        self.post(link, &encode_cookie_packet(CookieKind::Ping, token));
    }

    /// The same for a port that is tried at random: there are thousands, at an address that introducers of this node's own choice have seen (PROTOCOL §12.8).
    fn post_probe(&mut self, link: Link, token: &[u8; 32]) {
        let datagram = encode_cookie_packet(CookieKind::Ping, token).to_vec();
        self.enqueue(Posted { link, datagram, has_own_bound: true });
    }

    fn enqueue(&mut self, posted: Posted) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back(posted);
        }
    }

    fn expect_token(&mut self, now: Instant, bytes: [u8; 32], token: Token) {
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.retain(|_, old| now < old.until);
        }
        if self.tokens.len() < MAX_TOKENS {
            self.tokens.insert(bytes, token);
        }
    }

    /// When [`Node::tend_mesh`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        let forwarded = self.forwarded.front().map(|forwarded| forwarded.until);
        let measured = [self.measuring.deadline(), self.echoes.deadline(), self.spraying.deadline()];
        [forwarded, self.choose_at, self.announce_at, self.tell_at]
            .into_iter()
            .chain(measured)
            .flatten()
            .fold(self.rotate_at, Instant::min)
    }

    /// Where this node is seen, without the port.
    fn observed_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.observed.iter().map(|(_, address)| address.ip())
    }

    /// Where this node is seen on the Internet; a neighbour sees its address on the link, which tells nothing of a NAT.
    fn seen_outside(&self, is_v4: bool) -> Vec<SocketAddr> {
        let seen = self.observed.iter().map(|(_, address)| *address);
        seen.filter(|address| address.is_ipv4() == is_v4 && hop::is_public(*address)).collect()
    }

    /// Whether all that see this node from outside see an address of its own.
    fn has_public_address(&self) -> bool {
        let own = |seen: &SocketAddr| self.local.iter().any(|(own, _)| own.ip() == seen.ip());
        let seen = [self.seen_outside(true), self.seen_outside(false)].concat();
        !seen.is_empty() && seen.iter().all(own)
    }

    /// Whether different members see the same port: in each family in which two have said so.
    fn same_mapping(&self) -> Option<bool> {
        let families = [true, false].map(|is_v4| self.seen_outside(is_v4));
        let same = families
            .iter()
            .filter(|seen| seen.len() > 1)
            .map(|seen| seen.windows(2).all(|pair| pair.first() == pair.last()));
        same.min()
    }

    /// What is known of the NAT in front of this node.
    pub(super) fn nat(&self, holding: Option<Holding>) -> NatStatus {
        let port_step = [true, false].into_iter().find_map(|is_v4| {
            let ports: Vec<u16> = self.seen_outside(is_v4).iter().map(SocketAddr::port).collect();
            predict::counting(&ports).map(|(_, step)| step)
        });
        NatStatus {
            local: self.local.clone(),
            observed: self.observed.clone(),
            has_public_address: self.has_public_address(),
            same_mapping: self.same_mapping(),
            port_step,
            open_filter: self.measuring.open_filter,
            hairpin: self.measuring.hairpin,
            lifetime: self.measuring.lifetime(),
            // While the lifetime is measured, it is silent for longer; that is not how it usually is.
            keepalive: holding.map(|_| self.measuring.resting().standing).unwrap_or_default(),
        }
    }
}

impl Node {
    /// Timers of the mesh as a whole.
    pub(super) fn tend_mesh(&mut self, now: Instant) {
        if now >= self.mesh.rotate_at {
            let fresh = self.rng.bytes();
            self.mesh.previous_nonce = std::mem::replace(&mut self.mesh.nonce, fresh);
            self.mesh.rotate_at = now + NONCE_PERIOD;
            self.mesh.tokens.retain(|_, token| now < token.until);
            self.tell_all(now);
        }
        self.forget_keys(now);
        self.expire_forwarded(now);
        self.tell_all_due(now);
        self.tend_standing(now);
        self.send_echoes(now);
        self.tend_measuring(now);
        self.tend_spraying(now);
    }

    /// What is due for one peer: seeking it, answering it, telling it, asking it.
    pub(super) fn tend_contact(&mut self, now: Instant, index: PeerIndex) {
        self.tell(now, index);
        self.ask_for_list(now, index);
        self.pursue(now, index);
        self.repeat_answer(now, index);
        self.consider_spraying(now, index);
        if let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut) {
            contact.pieces.handle_timeout(now);
        }
    }

    /// Sends what waits in the clear.
    pub(super) fn send_posted(&mut self, now: Instant, tx: &mut impl TxSink) {
        while let Some(Posted { link, datagram, has_own_bound }) = self.mesh.outbox.pop_front() {
            let is_free = has_own_bound || hop::is_relayed(link.remote);
            if is_free || self.mesh.strangers.take(now, link.remote.ip()) {
                self.emit(now, link, &datagram, tx);
            } else {
                self.drops.count(Dropped::RateLimited);
            }
        }
    }

    /// Says something on the control channel of a member, if there is a session.
    fn send_record(&mut self, now: Instant, to: PeerIndex, record: &Record<'_>) {
        if let Some(session) = self.peers.get_mut(to).and_then(Peer::mesh_session) {
            // A peer that takes no control records does without.
            let _ = session.channels.send_control(now, &record.encode());
        }
        self.settle(now, to);
    }

    /// Sends the frames that wait for a peer.
    pub(super) fn send_mesh_frames(&mut self, now: Instant, index: PeerIndex, tx: &mut impl TxSink) {
        use super::session::{Lane, SessionRef};
        use crate::wire::data::DataWriter;
        use crate::wire::sealed::{HEADER, MAX_PLAINTEXT};
        loop {
            let Some(peer) = self.peers.get_mut(index) else { return };
            let Some(serial) = peer.active() else { return };
            let Some(contact) = peer.contact_mut().filter(|contact| contact.next_frame().is_some()) else { return };
            let mut writer = DataWriter::new(&mut self.scratch[HEADER..HEADER + MAX_PLAINTEXT]);
            while contact.next_frame().is_some_and(|frame| frame.write(&mut writer)) {
                contact.pop_frame();
            }
            if writer.frames() == 0 {
                // It fits no packet: none of this node's own making is so long.
                contact.pop_frame();
                continue;
            }
            let len = writer.finish();
            self.send_scratch(now, SessionRef { peer: index, serial }, Lane::User, len, None, tx);
        }
    }
}

/// What comes in.
impl Node {
    /// A frame of a peer that concerns others.
    pub(super) fn handle_mesh_frame(
        &mut self,
        now: Instant,
        from: PeerIndex,
        link: Link,
        frame: MeshFrame,
        tx: &mut impl TxSink,
        tun: &mut impl TunSink,
    ) -> Result<(), Dropped> {
        match frame {
            MeshFrame::ListRequest { version, .. } => self.on_list_request(now, from, version),
            MeshFrame::Request { number, ephemeral, target, signature } => {
                self.on_request(now, from, number, ephemeral, target, signature)
            }
            MeshFrame::Introduction { number, ephemeral, asker, signature, address } => {
                let introduction = answer::Introduction { number, ephemeral, asker, signature, address };
                self.on_introduction(now, from, &introduction)
            }
            MeshFrame::Acknowledgement { number, status } => self.on_acknowledgement(now, from, number, status),
            MeshFrame::Relayed { .. } | MeshFrame::RelayedPart { .. } => {
                self.on_relayed(now, from, link, frame, tx, tun)
            }
        }
    }

    /// Counts what was refused to a peer.
    fn count(&mut self, from: PeerIndex, result: Result<(), Dropped>) {
        if let (Err(reason), Some(peer)) = (result, self.peers.get_mut(from)) {
            peer.drops.count(reason);
        }
    }

    /// A control record of a peer, if it concerns others; false if it does not.
    pub(super) fn handle_mesh_record(&mut self, now: Instant, from: PeerIndex, record: &[u8]) -> bool {
        match Record::decode(record) {
            Ok(Record::PeersList { version, flags, entries }) => self.on_peers_list(now, from, version, flags, entries),
            Ok(Record::Find(keys)) => {
                let result = self.on_find(now, from, keys);
                self.count(from, result);
            }
            Ok(Record::About { flags, nonce, seen }) => self.on_about(now, from, flags, *nonce, seen),
            Ok(Record::Candidates(candidates)) => self.on_candidates(now, from, candidates),
            Ok(Record::Spray { state, token }) => {
                let result = self.on_spray(now, from, state, token);
                self.count(from, result);
            }
            Ok(Record::Knock { state, token, besides }) => {
                let result = self.on_knock(now, from, state, token, besides);
                self.count(from, result);
            }
            Ok(Record::KnockFor { address, token }) => {
                let result = self.on_knock_for(now, from, address, token);
                self.count(from, result);
            }
            Ok(Record::EchoAfter { seconds, token }) => {
                let result = self.on_echo_after(now, from, seconds, token);
                self.count(from, result);
            }
            Ok(
                Record::Offer { .. }
                | Record::Finish { .. }
                | Record::Rekey { .. }
                | Record::RekeyAnswer { .. }
                | Record::Close(_)
                | Record::Unknown(_),
            )
            | Err(_) => return false,
        }
        true
    }
}
