//! A few sessions that stay (PROTOCOL §12.1): whoever wants to be found keeps them with those that rendezvous hashing names, and whoever seeks asks the same.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::base::{Link, PeerIndex};
use crate::crypto::equal;
use crate::proto::command::CandidateKind;
use crate::proto::event::Event;
use crate::proto::handshake::initiator::split;
use crate::proto::hop;
use crate::proto::node::Node;
use crate::wire::hello::{CookieKind, encode_cookie_packet};
use crate::wire::packet::Packet;

use super::contact::NEWCOMERS;
use super::measure::RESTING;
use super::{ANNOUNCEMENTS, MAX_LOCAL};

/// Sessions that are kept.
pub(super) const STANDING: usize = 3;
/// Between two announcements on the link.
const ANNOUNCE: Duration = Duration::from_secs(60);
/// Newcomers are told so often at most that this node is here.
const ANSWER_AGAIN: Duration = Duration::from_secs(5);
/// Between the first hellos of a start.
const GREETING_PACE: Duration = Duration::from_millis(10);

impl Node {
    /// Puts the peers with endpoints in the order in which they are to introduce this node, and greets the first few; and everybody whose configuration asks for it.
    pub(in crate::proto) fn take_up_standing(&mut self, now: Instant) {
        let own = self.local.id;
        let mut ranked: Vec<(u64, PeerIndex)> = Vec::new();
        for index in self.peers.indexes() {
            if let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.has_endpoints()) {
                ranked.push((self.local.net.rank(&own, &peer.id), index));
            }
        }
        ranked.sort_unstable_by(|one, other| other.cmp(one));
        self.mesh.introducers = ranked.into_iter().map(|(_, index)| index).collect();
        if self.peers.len() > 1 {
            self.peers.holding = Some(RESTING);
            self.choose_standing(now);
        }
        let only = self.peers.len() == 1;
        let mut at = now;
        for index in self.peers.indexes() {
            let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_standing() || peer.is_kept() || only)
            else {
                continue;
            };
            peer.begin_attempt(at, &mut self.rng, &mut self.events);
            self.settle(now, index);
            at += GREETING_PACE;
        }
        self.mesh.announce_at = Some(now);
    }

    /// The first few that are not known to be away.
    fn choose_standing(&mut self, now: Instant) {
        let mut chosen = 0;
        let mut next: Option<Instant> = None;
        for index in self.mesh.introducers.clone() {
            let Some(peer) = self.peers.get_mut(index) else { continue };
            let away_until = peer.away_until().filter(|until| now < *until);
            let wanted = chosen < STANDING && away_until.is_none();
            chosen += usize::from(wanted);
            next = [next, away_until].into_iter().flatten().min();
            let changed = peer.set_standing(wanted);
            // A session that leads there directly is as good as another.
            let missing = wanted && peer.mesh_session().is_none_or(|session| session.path.is_relayed());
            if missing {
                peer.begin_attempt(now, &mut self.rng, &mut self.events);
            }
            if changed || missing {
                self.settle(now, index);
            }
        }
        self.mesh.choose_at = next;
    }

    /// Nobody keeps a session with this node by which it could be found.
    pub(in crate::proto) fn is_alone(&mut self) -> bool {
        let connected = self.peers.connected();
        !connected.into_iter().any(|index| self.peers.get_mut(index).is_some_and(|peer| peer.is_standing()))
    }

    /// What was said to a peer, or sent through it, goes unanswered: perhaps it is there no more. Nothing else would find out before its path is pinged the next time.
    pub(in crate::proto) fn doubt(&mut self, now: Instant, index: PeerIndex) {
        if let Some(session) = self.peers.get_mut(index).and_then(|peer| peer.mesh_session()) {
            session.path.on_doubt(now);
            self.settle(now, index);
        }
    }

    /// A standing peer did not answer: another one takes its place for now.
    pub(in crate::proto) fn on_away(&mut self, now: Instant) {
        self.mesh.choose_at = Some(now);
    }

    pub(super) fn tend_standing(&mut self, now: Instant) {
        if self.mesh.choose_at.is_some_and(|at| now >= at) {
            self.choose_standing(now);
        }
        if self.mesh.announce_at.is_some_and(|at| now >= at) {
            self.announce(now);
        }
    }

    /// Tells the link that this node is here (PROTOCOL §12.7). Only members can tell who it is.
    fn announce(&mut self, now: Instant) {
        let jitter = Duration::from_millis(self.rng.below(5000).into());
        self.mesh.announce_at = Some(now + ANNOUNCE + jitter);
        self.mesh.announced_at = Some(now);
        let n: [u8; 16] = self.rng.bytes();
        let mut cookie = [0; 32];
        cookie[..16].copy_from_slice(&n);
        cookie[16..].copy_from_slice(&self.local.net.announcement_mac(&self.local.id, &n));
        self.events.push(Event::Announce { datagram: encode_cookie_packet(CookieKind::Ping, &cookie) });
    }

    /// Somebody says on the link that it is here.
    pub(in crate::proto) fn on_announced(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(Packet::Ping(cookie)) = Packet::decode(datagram) else { return };
        if self.stopping || !self.mesh.announcements.take(now, ANNOUNCEMENTS) || hop::is_relayed(from) {
            return;
        }
        let (n, mac) = split(cookie);
        let mut who = None;
        for index in self.peers.indexes() {
            let Some(id) = self.peers.get_mut(index).map(|peer| peer.id) else { continue };
            if equal(&self.local.net.announcement_mac(&id, &n), &mac) {
                who = Some(index);
                break;
            }
        }
        let Some(peer) = who.and_then(|index| self.peers.get_mut(index)) else { return };
        let index = peer.index;
        let is_new = peer.set_nearby(from);
        if let Some(session) = peer.newest_session() {
            session.path.add_if_room(now, Link::to(from), CandidateKind::Local);
        }
        if is_new {
            // It has just come and does not know that this node is here.
            let soon = now + Duration::from_millis(self.rng.below(500).into());
            let answer_at = self.mesh.announced_at.map_or(soon, |last| soon.max(last + ANSWER_AGAIN));
            self.mesh.announce_at = self.mesh.announce_at.map(|at| at.min(answer_at));
            if let Some(peer) = self.peers.get_mut(index)
                && peer.contact().newcomers.take(now, NEWCOMERS)
            {
                peer.on_new_address(now, &mut self.rng);
            }
        }
        self.settle(now, index);
    }

    /// What the host says of its own addresses.
    pub(in crate::proto) fn set_local(&mut self, now: Instant, addresses: Vec<(SocketAddr, CandidateKind)>) {
        let mut local = addresses;
        local.truncate(MAX_LOCAL);
        if local != self.mesh.local {
            self.mesh.local = local;
            self.mesh.announce_at = Some(now);
            self.tell_all(now);
        }
    }

    /// There are neighbours who have not been told.
    pub(in crate::proto) fn on_link_joined(&mut self, now: Instant) {
        self.mesh.announce_at = Some(now);
    }

    /// The host has another network, or has slept.
    pub(in crate::proto) fn on_network_changed(&mut self, now: Instant) {
        self.mesh.announce_at = Some(now);
        self.mesh.observed.clear();
        self.forget_measured(now);
        self.abandon_spraying(now);
        for index in self.peers.connected() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.sessions.iter_mut().for_each(|session| session.path.on_network_changed(now));
                peer.set_untold();
            }
            self.settle(now, index);
        }
        for index in self.mesh.introducers.clone() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.forget_away();
            }
        }
        if self.peers.holding.is_some() {
            self.choose_standing(now);
        }
    }
}
