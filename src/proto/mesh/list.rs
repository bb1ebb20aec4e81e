//! What members tell each other about themselves and others (PROTOCOL §12.2). Everything is asked for; nothing is sent to all because one has changed.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::contact::{OFFERS, QUESTIONS};
use super::frame::MeshFrame;
use super::{MAX_LOCAL, predict};
use crate::base::{Link, PeerId, PeerIndex};
use crate::proto::capacity::Capacity;
use crate::proto::command::CandidateKind;
use crate::proto::event::Dropped;
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::wire::member::{
    self, Candidates, Entries, Entry, FOUND, Keys, MORE, PAGE, Source, encode_candidates, encode_entries,
};
use crate::wire::record::Record;

/// Between two pulls of a list whose owner answered.
const PULL: Duration = Duration::from_secs(300);
/// Between two pages: no faster than questions are answered.
const PULL_MORE: Duration = Duration::from_millis(100);
/// Until a pull that was not answered is repeated.
const PULL_AGAIN: Duration = Duration::from_secs(5);
/// Further addresses of one member in the answer to a question, and in an introduction.
pub(super) const FURTHER: usize = 4;
/// Reports of where this node is seen that are kept.
const MAX_OBSERVED: usize = 8;

const ABOUT_RELAYS: u8 = 0x01;
const ABOUT_INTRODUCES: u8 = 0x02;

/// Between two times at which all peers are told where others see this node, and twice as long each time, until it was quiet for so long.
const PACE: Duration = Duration::from_millis(250);
const MAX_PACE: Duration = Duration::from_secs(64);
const QUIET: Duration = Duration::from_secs(120);

/// Where nobody is.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl Node {
    /// Tells a peer what it does not know of this node yet.
    pub(super) fn tell(&mut self, now: Instant, index: PeerIndex) {
        let relays = self.mesh.relaying.capacity().map_or(0, |capacity| ABOUT_RELAYS | capacity.flags());
        let flags = ABOUT_INTRODUCES | relays;
        let nonce = self.mesh.nonce;
        let is_untold = self.peers.get_mut(index).is_some_and(|peer| peer.take_untold());
        if !is_untold {
            return;
        }
        self.add_private(now, index);
        let candidates = self.own_candidates(index);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(session) = peer.mesh_session() else { return };
        let mut seen: Vec<SocketAddr> =
            Some(session.path.remote()).filter(|remote| !hop::is_relayed(*remote)).into_iter().collect();
        // One address of each family is what it can make use of.
        let other = session
            .path
            .alive_besides()
            .into_iter()
            .find(|other| seen.first().is_none_or(|first| first.is_ipv4() != other.is_ipv4()));
        seen.extend(other);
        if seen.is_empty() {
            seen.push(NOWHERE);
        }
        let about = (flags, nonce, seen.clone());
        let contact = peer.contact();
        let tell_about = contact.about.as_ref() != Some(&about);
        let tell_candidates = contact.candidates.as_ref() != Some(&candidates);
        let mut records = Vec::new();
        if tell_about {
            contact.about = Some(about);
            records.extend(seen.into_iter().map(|seen| Record::About { flags, nonce: &nonce, seen }.encode()));
        }
        if tell_candidates {
            records.push(Record::Candidates(Candidates::new(&encode_candidates(&candidates))).encode());
            contact.candidates = Some(candidates);
        }
        let Some(session) = peer.mesh_session() else { return };
        if records.iter().any(|record| session.channels.send_control(now, record).is_err()) {
            // It takes no control records now. What was not told is told when it does.
            peer.forget_told();
        }
    }

    /// All peers with sessions learn what has changed.
    pub(super) fn tell_all(&mut self, now: Instant) {
        for index in self.peers.connected() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.set_untold();
            }
            self.settle(now, index);
        }
    }

    /// Where this node may be reached, as far as the peer should know: addresses of the own network only if it shares that network, or the router in front of it.
    pub(super) fn own_candidates(&mut self, index: PeerIndex) -> Vec<(SocketAddr, Source)> {
        let shares = self.shares_network(index);
        let mut all: Vec<(SocketAddr, Source)> = Vec::new();
        let mut push = |address: SocketAddr, source| {
            let told = hop::is_public(address) || (shares && hop::is_private(address));
            if told && all.len() < MAX_LOCAL && !all.iter().any(|(known, _)| *known == address) {
                all.push((address, source));
            }
        };
        for &(address, kind) in &self.mesh.local {
            push(address, if kind == CandidateKind::Mapped { Source::Mapped } else { Source::Local });
        }
        for &(_, address) in &self.mesh.observed {
            push(address, Source::Observed);
        }
        // It is kept as what the peer was told.
        all.shrink_to_fit();
        all
    }

    /// Whether the peer is seen at an address at which this node is seen, too, or on the own network.
    fn shares_network(&mut self, index: PeerIndex) -> bool {
        let own: Vec<_> = self.mesh.observed_ips().collect();
        let Some(peer) = self.peers.get_mut(index) else { return false };
        let remote = peer.mesh_session().map(|session| session.path.remote());
        if remote.is_some_and(|remote| hop::is_near(remote) || own.contains(&remote.ip())) {
            return true;
        }
        let Some(contact) = peer.contact_mut() else { return false };
        let told = contact.told.iter().filter(|(_, source)| *source != Source::Local).map(|(address, _)| address);
        told.chain(&contact.addresses).any(|address| own.contains(&address.ip()))
    }

    /// Whether something may be sent to an address at which `by` says that `whose` is. A private one is on the network of this node, and would let somebody far away look around there: so one
    /// of the two has to be there as well.
    pub(super) fn may_use(&mut self, address: SocketAddr, by: PeerIndex, whose: PeerIndex) -> bool {
        hop::is_public(address) || hop::is_private(address) && (self.is_neighbour(by) || self.is_neighbour(whose))
    }

    /// Whether the peer is heard on the own network, or is heard, by this node or by an introducer, at an IP address at which this node is seen as well. Its own word does not count.
    fn is_neighbour(&mut self, index: PeerIndex) -> bool {
        let Some(peer) = self.peers.get_mut(index) else { return false };
        let remote = peer.mesh_session().map(|session| session.path.remote());
        let heard_at = peer.contact_mut().map_or([None; 2], |contact| contact.heard_at);
        let mut heard = heard_at.into_iter().flatten().chain(remote.map(|remote| remote.ip()));
        remote.is_some_and(hop::is_near) || heard.any(|ip| self.mesh.observed_ips().any(|own| own == ip))
    }

    /// Private addresses that a peer has told, and that it was not known then to be near: now it may be.
    fn add_private(&mut self, now: Instant, index: PeerIndex) {
        let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut) else { return };
        let private = contact.told.iter().filter(|(address, _)| hop::is_private(*address));
        let private: Vec<(SocketAddr, CandidateKind)> =
            private.map(|&(address, source)| (address, kind(source))).collect();
        self.add_named(now, index, &private);
    }

    /// Pulls what has changed in the list of a standing peer.
    pub(super) fn ask_for_list(&mut self, now: Instant, index: PeerIndex) {
        let number = self.mesh.number();
        let Some(peer) = self.peers.get_mut(index) else { return };
        if !peer.is_standing() {
            if let Some(contact) = peer.contact_mut() {
                contact.list.next_at = None;
            }
            return;
        }
        let Some(serial) = peer.mesh_session().map(|session| session.serial) else {
            if let Some(contact) = peer.contact_mut() {
                contact.list.next_at = None;
            }
            return;
        };
        let list = &mut peer.contact().list;
        if list.session != Some(serial) {
            // Versions are of one session: the peer may have been restarted.
            (list.session, list.version, list.next_at) = (Some(serial), 0, Some(now));
        }
        if list.next_at.is_none_or(|at| now < at) {
            return;
        }
        list.next_at = Some(now + PULL_AGAIN);
        let version = list.version;
        peer.contact().send(MeshFrame::ListRequest { number, version });
    }

    /// A peer asks what has changed (PROTOCOL §12.2).
    pub(super) fn on_list_request(&mut self, now: Instant, from: PeerIndex, version: u32) -> Result<(), Dropped> {
        self.may_ask(now, from)?;
        let changed: Vec<(u32, PeerIndex)> = self.peers.changed_since(version).take(PAGE + 1).collect();
        let flags = if changed.len() > PAGE { MORE } else { 0 };
        let mut entries = Vec::new();
        let mut upto = version;
        for (change, index) in changed.into_iter().take(PAGE) {
            upto = change;
            let entry = self.entry(index, from).filter(|entry| index != from && (entry.connected || version > 0));
            entries.extend(entry);
        }
        let bytes = encode_entries(&entries);
        self.send_list(now, from, upto, flags, &bytes);
        Ok(())
    }

    /// A peer asks for certain members (PROTOCOL §12.2).
    pub(super) fn on_find(&mut self, now: Instant, from: PeerIndex, keys: Keys<'_>) -> Result<(), Dropped> {
        self.may_ask(now, from)?;
        let mut entries = Vec::new();
        for id in keys.iter() {
            let index = self.peers.by_id(&id).map(|peer| peer.index).filter(|index| *index != from);
            let Some(entry) = index.and_then(|index| self.entry(index, from)) else {
                entries.push(absent(id));
                continue;
            };
            entries.push(entry);
            if let Some(index) = index.filter(|_| entry.connected) {
                let seen = self.seen_at(index);
                let further = self.places(index, from).into_iter().skip(1);
                entries.extend(further.map(|address| Entry { address, claimed: !seen.contains(&address), ..entry }));
            }
        }
        let bytes = encode_entries(entries.get(..PAGE).unwrap_or(&entries));
        self.send_list(now, from, 0, FOUND, &bytes);
        Ok(())
    }

    fn may_ask(&mut self, now: Instant, from: PeerIndex) -> Result<(), Dropped> {
        let peer = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
        if peer.contact().questions.take(now, QUESTIONS) { Ok(()) } else { Err(Dropped::RateLimited) }
    }

    fn send_list(&mut self, now: Instant, to: PeerIndex, version: u32, flags: u8, entries: &[u8]) {
        let Ok(record) = Record::decode(&[&[0x06][..], &version.to_be_bytes(), &[flags], entries].concat())
            .map(|record| record.encode())
        else {
            return;
        };
        if let Some(session) = self.peers.get_mut(to).and_then(Peer::mesh_session) {
            // Whoever does not take the answers asks again.
            let _ = session.channels.send_control(now, &record);
        }
    }

    /// What this node says of a member to another one.
    fn entry(&mut self, index: PeerIndex, towards: PeerIndex) -> Option<Entry> {
        let peer = self.peers.get_mut(index)?;
        let (id, relays) = (peer.id, peer.is_relay());
        // Through another relay it cannot be introduced.
        if peer.mesh_session().is_none_or(|session| session.path.is_relayed()) {
            return Some(absent(id));
        }
        let nonce = peer.contact_mut().map_or([0; 16], |contact| contact.last_nonce());
        let address = self.places(index, towards).first().copied().unwrap_or(NOWHERE);
        let claimed = address != NOWHERE && !self.seen_at(index).contains(&address);
        Some(Entry { id, address, connected: nonce != [0; 16], relays, claimed, nonce })
    }

    /// Where this node sees a member itself.
    fn seen_at(&mut self, index: PeerIndex) -> Vec<SocketAddr> {
        let Some(session) = self.peers.get_mut(index).and_then(Peer::mesh_session) else { return Vec::new() };
        [vec![session.path.remote()], session.path.alive_besides()].concat()
    }

    /// Where a member is, for another one: where it is heard, then where it says that it is. Addresses of a private network are for those who are in it, too, or behind the same router.
    pub(super) fn places(&mut self, of: PeerIndex, towards: PeerIndex) -> Vec<SocketAddr> {
        let mut remote =
            |index| self.peers.get_mut(index).and_then(Peer::mesh_session).map(|session| session.path.remote());
        let neighbours = match (remote(of), remote(towards)) {
            (Some(one), Some(other)) => one.ip() == other.ip() || hop::is_near(one) && hop::is_near(other),
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        let Some(peer) = self.peers.get_mut(of) else { return Vec::new() };
        let mut all = Vec::new();
        if let Some(session) = peer.mesh_session() {
            all.push(session.path.remote());
            all.extend(session.path.alive_besides());
        }
        if let Some(contact) = peer.contact_mut() {
            all.extend(contact.told.iter().map(|(address, _)| *address));
        }
        let mut places: Vec<SocketAddr> = Vec::new();
        for address in all {
            let means = hop::is_public(address) || (neighbours && hop::is_private(address));
            if means && places.len() <= FURTHER && !places.contains(&address) {
                places.push(address);
            }
        }
        places
    }

    /// A page of a list, or the answer to a question.
    pub(super) fn on_peers_list(
        &mut self,
        now: Instant,
        from: PeerIndex,
        version: u32,
        flags: u8,
        entries: Entries<'_>,
    ) {
        let found = flags & FOUND != 0;
        let mut answers: Vec<(PeerIndex, bool)> = Vec::new();
        for entry in entries.iter() {
            // Somebody who is no member of this mesh is of no interest.
            let Some(peer) = self.peers.by_id(&entry.id).filter(|peer| peer.index != from) else { continue };
            let index = peer.index;
            peer.on_known_by(from, entry.connected);
            // Whoever is not asked could fill this node with nonces that are none, and with addresses of others.
            let is_asked = peer.contact_mut().is_some_and(|contact| contact.has_asked(from));
            if found && is_asked && entry.connected {
                let contact = peer.contact();
                contact.on_nonce(now, entry.nonce);
                if !entry.claimed {
                    contact.on_heard_at(entry.address);
                }
                if self.may_use(entry.address, from, index)
                    && let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut)
                {
                    contact.on_address(entry.address);
                }
            }
            if found && entry.connected && !entry.claimed {
                self.on_seen_at(from, index, entry.address);
            }
            if found && answers.last().is_none_or(|(last, _)| *last != index) {
                answers.push((index, entry.connected));
            }
        }
        // When all addresses are known: the request that follows opens the way to each.
        for (index, connected) in answers {
            self.on_found(now, from, index, connected);
            self.on_located(now, from, index);
        }
        // Only standing peers are asked; a list that nobody asked for sets no timer.
        let asked = self.peers.get_mut(from).filter(|peer| peer.is_standing() && !found);
        if let Some(contact) = asked.and_then(Peer::contact_mut) {
            contact.list.version = contact.list.version.max(version);
            contact.list.next_at = Some(now + if flags & MORE != 0 { PULL_MORE } else { PULL });
        }
    }

    /// What a peer says of itself, and where it sees this node.
    pub(super) fn on_about(&mut self, now: Instant, from: PeerIndex, flags: u8, nonce: [u8; 16], seen: SocketAddr) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let is_standing = peer.is_standing();
        let contact = peer.contact();
        contact.on_nonce(now, nonce);
        contact.seen = Some(seen).filter(|seen| seen.port() != 0);
        let relays = (flags & ABOUT_RELAYS != 0).then(|| Capacity::from_flags(flags));
        self.on_offers(now, from, relays, flags & ABOUT_INTRODUCES != 0);
        self.on_observed(now, from, Some(seen).filter(|seen| seen.port() != 0), is_standing);
    }

    /// What a peer does for others. It says so whenever it likes; only what has changed is news, to those who search and to sessions in use, and not too often.
    fn on_offers(&mut self, now: Instant, from: PeerIndex, relays: Option<Capacity>, introduces: bool) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let knew = (peer.relay_capacity(), peer.contact().introduces);
        if knew == (relays, introduces) {
            return;
        }
        if !peer.contact().offers.take(now, OFFERS) {
            peer.drops.count(Dropped::RateLimited);
            return;
        }
        peer.set_relay(relays);
        peer.contact().introduces = introduces;
        // With a new session it has been away, perhaps, and given up as a way.
        if let Some(capacity) = relays {
            self.offer_relay(now, from, capacity);
        }
        if introduces && !knew.1 {
            self.on_introducer(now, from);
        }
    }

    /// A peer says where it sees this node. Those that are not asked to introduce it may say it too, but push nobody out.
    fn on_observed(&mut self, now: Instant, by: PeerIndex, seen: Option<SocketAddr>, is_standing: bool) {
        let before = self.mesh.observed.clone();
        let same_family = |address: &SocketAddr| seen.is_none_or(|seen| seen.is_ipv4() == address.is_ipv4());
        self.mesh.observed.retain(|(index, address)| *index != by || !same_family(address));
        let Some(seen) = seen.filter(|seen| hop::is_public(*seen) || hop::is_private(*seen)) else { return };
        if is_standing {
            self.mesh.observed.insert(0, (by, seen));
        } else {
            self.mesh.observed.push((by, seen));
        }
        self.mesh.observed.truncate(MAX_OBSERVED);
        let mut addresses = [before, self.mesh.observed.clone()].map(|list| {
            let mut list: Vec<SocketAddr> = list.into_iter().map(|(_, address)| address).collect();
            list.sort_unstable();
            list.dedup();
            list
        });
        addresses.sort_unstable();
        if addresses[0] != addresses[1] {
            self.tell_all_soon(now);
            self.on_seen_elsewhere(now);
        }
    }

    /// The same for what others say of this node: one who says something else all the time must not have everybody told, and every address that he invents be pinged by everybody.
    fn tell_all_soon(&mut self, now: Instant) {
        let at = self.mesh.told_at.map_or(now, |told_at| now.max(told_at + self.mesh.pace));
        self.mesh.tell_at = Some(at);
        self.tell_all_due(now);
    }

    /// Tells all peers what has waited for it.
    pub(super) fn tell_all_due(&mut self, now: Instant) {
        if self.mesh.tell_at.is_none_or(|at| now < at) {
            return;
        }
        let is_quiet = self.mesh.told_at.is_none_or(|told_at| now >= told_at + QUIET);
        self.mesh.pace = if is_quiet { PACE } else { (self.mesh.pace * 2).min(MAX_PACE) };
        (self.mesh.tell_at, self.mesh.told_at) = (None, Some(now));
        self.tell_all(now);
    }

    /// Where a peer may be reached besides, as it says itself: each address is pinged in the session.
    pub(super) fn on_candidates(&mut self, now: Instant, from: PeerIndex, candidates: Candidates<'_>) {
        let told: Vec<(SocketAddr, Source)> = candidates.iter().take(member::MAX_CANDIDATES).collect();
        let Some(peer) = self.peers.get_mut(from) else { return };
        peer.contact().told = told.clone();
        // It may share the network, and be told more of this node now.
        peer.set_untold();
        let observed: Vec<SocketAddr> =
            told.iter().filter(|(_, source)| *source == Source::Observed).map(|(address, _)| *address).collect();
        let foretold = predict::next_ports(&observed).into_iter().map(|address| (address, CandidateKind::Predicted));
        let named: Vec<(SocketAddr, CandidateKind)> =
            told.into_iter().map(|(address, source)| (address, kind(source))).chain(foretold).collect();
        self.add_named(now, from, &named);
    }

    /// Addresses that a peer says it has become candidates.
    fn add_named(&mut self, now: Instant, from: PeerIndex, named: &[(SocketAddr, CandidateKind)]) {
        for &(address, kind) in named {
            // A port of one's own address: a node must not ping itself.
            let is_own = self.mesh.local.iter().any(|(own, _)| *own == address);
            if is_own || !self.may_use(address, from, from) {
                continue;
            }
            let Some(peer) = self.peers.get_mut(from) else { return };
            let received = peer.received();
            let Some(session) = peer.mesh_session() else { return };
            // Each has somebody pinged who may have nothing to do with it.
            if session.path.would_ask(now, address) && !peer.contact().may_name(now, received) {
                peer.drops.count(Dropped::RateLimited);
                continue;
            }
            if let Some(session) = peer.mesh_session() {
                session.path.add(now, Link::to(address), kind);
            }
        }
    }
}

const fn kind(source: Source) -> CandidateKind {
    match source {
        Source::Local => CandidateKind::Local,
        Source::Observed => CandidateKind::Observed,
        Source::Mapped => CandidateKind::Mapped,
    }
}

const fn absent(id: PeerId) -> Entry {
    Entry { id, address: NOWHERE, connected: false, relays: false, claimed: false, nonce: [0; 16] }
}
