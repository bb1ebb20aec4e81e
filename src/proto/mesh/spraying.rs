//! When ports are tried at random, with whom, and what becomes of it (PROTOCOL §12.8).
//!
//! Only a node that is seen at several ports of one address asks for it, and only one that is seen at the same port by all agrees: so of two, exactly one has the extra sockets, and where both have many
//! ports nothing is tried. It takes a session in use whose packets have gone through a relay for a while.
//!
//! Thousands of datagrams to addresses that somebody names would be a weapon. So nobody names one: each side asks introducers of its own choice where they see the other, and all that see it must agree.
//! One search at a time, a pause for the whole node after one that found nothing, and a longer one each time for that peer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::outlets::{Kept, Outlets};
use super::spray::{Due, MAX_ASKED, Role, SOCKETS, Spray};
use crate::base::{Link, PeerIndex};
use crate::proto::command::{CandidateKind, Step};
use crate::proto::event::{Dropped, Event};
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::proto::session::Serial;
use crate::wire::member::Keys;
use crate::wire::record::{Record, SprayState};

/// Packets go through a relay for so long before ports are tried: by then the pings to all candidates have had their time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two searches with one peer, if the last one has found a path or was not made.
const AGAIN: Duration = Duration::from_secs(60);
/// The same after one, two, and more that have found nothing.
const AFTER_FAILURES: [Duration; 3] = [AGAIN, Duration::from_secs(300), Duration::from_secs(1800)];
/// After one that has found nothing, this node makes none with anybody for so long.
const REST: Duration = Duration::from_secs(60);

/// What a node has to do with it: one search at a time.
#[derive(Debug, Default)]
pub(in crate::proto) struct Spraying {
    present: Option<Present>,
    outlets: Outlets,
    rests_until: Option<Instant>,
}

/// The search that is under way, and with whom.
#[derive(Debug)]
struct Present {
    peer: PeerIndex,
    session: Serial,
    spray: Spray,
}

/// What is remembered of one member.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    relayed_since: Option<Instant>,
    failures: usize,
    not_before: Option<Instant>,
}

/// At how many ports of one IPv4 address this node is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    One,
    Many,
}

impl Spraying {
    /// When [`Node::tend_spraying`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let present = self.present.as_ref().map(|present| present.spray.deadline());
        [present, self.outlets.deadline()].into_iter().flatten().min()
    }

    fn is_free(&self, now: Instant) -> bool {
        self.present.is_none() && self.rests_until.is_none_or(|until| now >= until)
    }

    /// The search with this peer, if it is the one under way.
    fn with(&mut self, peer: PeerIndex) -> Option<&mut Spray> {
        self.present.as_mut().filter(|present| present.peer == peer).map(|present| &mut present.spray)
    }
}

impl Attempts {
    fn may_begin(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn on_over(&mut self, now: Instant, found: bool, has_failed: bool) {
        let wait = AFTER_FAILURES.get(self.failures).or(AFTER_FAILURES.last()).copied().unwrap_or(AGAIN);
        self.not_before = Some(now + if has_failed { wait } else { AGAIN });
        self.failures = if found { 0 } else { self.failures + usize::from(has_failed) };
    }
}

impl super::Mesh {
    /// `None` if too few see it, or at several addresses.
    fn ports(&self) -> Option<Ports> {
        let seen = self.seen_outside(true);
        let first = *seen.first()?;
        let own = |seen: &SocketAddr| self.local.iter().any(|(own, _)| own.ip() == seen.ip());
        if seen.iter().all(own) {
            return Some(Ports::One);
        }
        if seen.len() < 2 || seen.iter().any(|other| other.ip() != first.ip()) {
            return None;
        }
        Some(if seen.iter().all(|other| *other == first) { Ports::One } else { Ports::Many })
    }
}

/// Beginning.
impl Node {
    /// Looks whether the peer should be searched for at random ports. It costs next to nothing, and traffic through a relay asks again and again.
    pub(super) fn consider_spraying(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(session) = peer.mesh_session() else { return };
        let (serial, is_used) = (session.serial, !session.has_cooled(now));
        if !session.path.is_relayed() {
            if let Some(contact) = peer.contact_mut() {
                contact.spraying.relayed_since = None;
            }
            return;
        }
        self.offer_outlets(now, index, serial);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let attempts = &mut peer.contact().spraying;
        let since = *attempts.relayed_since.get_or_insert(now);
        let may = is_used && now >= since + PATIENCE && attempts.may_begin(now);
        if may && !self.stopping && self.mesh.spraying.is_free(now) && self.mesh.ports() == Some(Ports::Many) {
            let token = self.rng.bytes();
            self.begin_spraying(now, index, serial, Role::Hard, token);
        }
    }

    /// A new session goes on with the sockets that have led to the peer before.
    fn offer_outlets(&mut self, now: Instant, index: PeerIndex, serial: Serial) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        for kept in self.mesh.spraying.outlets.of(index).filter(|kept| kept.session != serial) {
            kept.session = serial;
            // Where it was last.
            let last = peer.greetable().into_iter().find(SocketAddr::is_ipv4);
            if let (Some(address), Some(session)) = (last, peer.session_mut(serial)) {
                session.path.add(now, Link::to(address).through(kept.socket), CandidateKind::Heard);
            }
        }
    }

    /// Asks those that see the peer where it is.
    fn begin_spraying(&mut self, now: Instant, index: PeerIndex, session: Serial, role: Role, token: [u8; 32]) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let id = peer.id;
        let relay = peer.mesh_session().and_then(|session| hop::through(session.path.remote())).map(|(relay, _)| relay);
        let is_again = peer.contact().spraying.failures % 2 == 1;
        // The relay in use has a session with both.
        let all = relay.into_iter().chain(self.peers.connected().into_iter().filter(|other| Some(*other) != relay));
        let mut asked: Vec<PeerIndex> = Vec::new();
        for other in all.collect::<Vec<_>>() {
            let sees = |peer: &mut Peer| peer.mesh_session().is_some_and(|session| !session.path.is_relayed());
            let introduces = |peer: &mut Peer| peer.contact_mut().is_some_and(|contact| contact.introduces);
            if other != index
                && asked.len() < MAX_ASKED
                && self.peers.get_mut(other).is_some_and(|peer| sees(peer) && introduces(peer))
            {
                asked.push(other);
            }
        }
        for &introducer in &asked {
            self.send_record(now, introducer, &Record::Find(Keys::new(id.as_bytes())));
        }
        let spray = Spray::new(now, role, token, &asked, is_again);
        self.mesh.spraying.present = Some(Present { peer: index, session, spray });
    }

    /// An introducer sees a member there itself.
    pub(super) fn on_seen_at(&mut self, introducer: PeerIndex, member: PeerIndex, address: SocketAddr) {
        if address.is_ipv4()
            && hop::is_public(address)
            && let Some(spray) = self.mesh.spraying.with(member)
        {
            spray.on_seen(introducer, address);
        }
    }

    /// An introducer has said where it sees a member.
    pub(super) fn on_located(&mut self, now: Instant, introducer: PeerIndex, member: PeerIndex) {
        if let Some(spray) = self.mesh.spraying.with(member) {
            spray.on_answered(now, introducer);
        }
    }

    /// The other side wants to begin, or says whether it takes part.
    pub(super) fn on_spray(
        &mut self,
        now: Instant,
        from: PeerIndex,
        state: SprayState,
        token: &[u8; 32],
    ) -> Result<(), Dropped> {
        match state {
            SprayState::Asked => {
                let result = self.judge_spray(now, from, token);
                if result.is_err() {
                    self.send_record(now, from, &Record::Spray { state: SprayState::Refused, token });
                }
                result
            }
            SprayState::Agreed => self.on_spray_agreed(now, from, token),
            SprayState::Refused => {
                let is_this = |present: &mut Present| present.peer == from && present.spray.is_asking(token);
                self.mesh.spraying.present.take_if(is_this).ok_or(Dropped::Unexpected)?;
                self.leave_alone(now, from);
                Ok(())
            }
        }
    }

    /// Whether ports of the address of this peer are to be tried.
    fn judge_spray(&mut self, now: Instant, from: PeerIndex, token: &[u8; 32]) -> Result<(), Dropped> {
        let is_free = !self.stopping && self.mesh.spraying.is_free(now);
        let has_one_port = self.mesh.ports() == Some(Ports::One);
        let peer = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
        let session = peer.mesh_session().ok_or(Dropped::UnknownSession)?;
        let (serial, is_relayed) = (session.serial, session.path.is_relayed());
        if !has_one_port || !is_relayed {
            return Err(Dropped::Ignored);
        }
        if !is_free || !peer.contact().spraying.may_begin(now) {
            return Err(Dropped::RateLimited);
        }
        self.begin_spraying(now, from, serial, Role::Easy, *token);
        Ok(())
    }

    fn on_spray_agreed(&mut self, now: Instant, from: PeerIndex, token: &[u8; 32]) -> Result<(), Dropped> {
        let spraying = &mut self.mesh.spraying;
        let is_asked = spraying.with(from).is_some_and(|spray| spray.is_asking(token));
        let first = spraying.outlets.reserve().filter(|_| is_asked).ok_or(Dropped::Unexpected)?;
        if spraying.with(from).is_some_and(|spray| spray.on_agreed(now, first)) {
            self.events.push(Event::OpenSockets { first, count: SOCKETS });
        }
        Ok(())
    }
}

/// Under way.
impl Node {
    /// What is due of the search, and of the sockets that earlier ones have left.
    pub(super) fn tend_spraying(&mut self, now: Instant) {
        self.release_outlets(now);
        let Some(mut present) = self.mesh.spraying.present.take_if(|present| now >= present.spray.deadline()) else {
            return;
        };
        let Present { peer: index, session: serial, .. } = present;
        let active = self.peers.get_mut(index).and_then(Peer::mesh_session).filter(|session| session.serial == serial);
        let is_direct = active.as_ref().map(|session| !session.path.is_relayed());
        if let (Some(session), Some((ip, since))) = (active, present.spray.watched())
            && session.path.is_heard_at(now, ip, since)
        {
            present.spray.settle(now);
        }
        let is_over = is_direct != Some(false) || self.stopping;
        match if is_over { Due::Over } else { present.spray.poll(now) } {
            Due::Located(address) => self.on_spray_located(now, present, address),
            Due::Dropped => self.drop_spray(now, &present),
            Due::Send(links) => {
                links.into_iter().for_each(|link| self.mesh.post_probe(link, &present.spray.token));
                self.mesh.spraying.present = Some(present);
            }
            Due::Over => self.end_spray(now, &present, is_direct == Some(true)),
        }
    }

    fn on_spray_located(&mut self, now: Instant, mut present: Present, address: SocketAddr) {
        let (peer, token) = (present.peer, present.spray.token);
        // Behind the same router, a port of it is no place of the other one.
        let is_own = self.mesh.seen_outside(true).iter().any(|own| own.ip() == address.ip());
        let state = match present.spray.role {
            _ if is_own => return self.drop_spray(now, &present),
            Role::Hard => {
                present.spray.on_asked(now, address);
                SprayState::Asked
            }
            Role::Easy if !self.mesh.targets.take(now, address.ip()) => return self.drop_spray(now, &present),
            Role::Easy => {
                present.spray.on_agreeing(now, address, &mut self.rng);
                SprayState::Agreed
            }
        };
        self.mesh.spraying.present = Some(present);
        self.send_record(now, peer, &Record::Spray { state, token: &token });
    }

    /// It ends before it has begun.
    fn drop_spray(&mut self, now: Instant, present: &Present) {
        if present.spray.role == Role::Easy {
            let record = Record::Spray { state: SprayState::Refused, token: &present.spray.token };
            self.send_record(now, present.peer, &record);
        }
        self.leave_alone(now, present.peer);
    }

    fn leave_alone(&mut self, now: Instant, index: PeerIndex) {
        if let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut) {
            contact.spraying.not_before = Some(now + AGAIN);
        }
    }

    /// A ping with the token of the search: the other side is there, if that is where it is looked for.
    pub(in crate::proto) fn on_sprayed(&mut self, now: Instant, link: Link, cookie: &[u8; 32]) -> bool {
        let Some(present) = self.mesh.spraying.present.as_mut().filter(|it| it.spray.token == *cookie) else {
            return false;
        };
        let (index, serial) = (present.peer, present.session);
        if present.spray.on_hit(now, link.remote.ip())
            && let Some(session) = self.peers.get_mut(index).and_then(|peer| peer.session_mut(serial))
        {
            session.path.add(now, Link::to(link.remote).through(link.socket), CandidateKind::Heard);
            self.settle(now, index);
        }
        true
    }
}

/// Ending.
impl Node {
    /// The search is over. What has found the path stays open, all else is closed.
    fn end_spray(&mut self, now: Instant, present: &Present, found: bool) {
        let Present { peer: index, session: serial, spray } = present;
        if let Some((first, count)) = spray.sockets() {
            let session = self.peers.get_mut(*index).and_then(|peer| peer.session_mut(*serial)).filter(|_| found);
            let mut kept: Vec<u16> = session.into_iter().flat_map(|session| session.path.sockets()).collect();
            let (opened, mut seen) = (first..first.saturating_add(count), BTreeSet::new());
            // The one in use comes first.
            kept.retain(|&socket| {
                let outlet = Kept { peer: *index, socket, session: *serial };
                opened.contains(&socket) && seen.insert(socket) && self.mesh.spraying.outlets.keep(now, outlet)
            });
            kept.sort_unstable();
            self.close_besides(first, count, &kept);
        }
        let Some(contact) = self.peers.get_mut(*index).and_then(Peer::contact_mut) else { return };
        let has_failed = !found && spray.sent > 0;
        contact.spraying.on_over(now, found, has_failed);
        if spray.sent > 0 {
            contact.step(now, Step::Sprayed { datagrams: spray.sent, found });
        }
        self.mesh.spraying.rests_until = has_failed.then_some(now + REST);
    }

    /// Closes `count` sockets from `first` on but those that are kept, which are in order.
    fn close_besides(&mut self, first: u16, count: u16, kept: &[u16]) {
        let end = first.saturating_add(count);
        let mut begin = first;
        for &stop in kept.iter().chain([&end]) {
            if stop > begin {
                self.events.push(Event::CloseSockets { first: begin, count: stop - begin });
            }
            begin = stop.saturating_add(1);
        }
    }

    /// Sockets through which no path of a session leads any more are closed.
    fn release_outlets(&mut self, now: Instant) {
        let peers = &mut self.peers;
        let released = self.mesh.spraying.outlets.release(now, |kept| {
            let sessions = peers.get_mut(kept.peer).map_or(&[][..], |peer| &peer.sessions);
            sessions.iter().any(|session| session.path.sockets().any(|socket| socket == kept.socket))
        });
        self.events.extend(released.into_iter().map(|first| Event::CloseSockets { first, count: 1 }));
    }

    /// The network is another one: what was opened is not there any more.
    pub(super) fn abandon_spraying(&mut self, now: Instant) {
        if let Some(present) = self.mesh.spraying.present.take() {
            self.end_spray(now, &present, false);
        }
    }
}
