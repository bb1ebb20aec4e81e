//! Being introduced (PROTOCOL §12.3): a member that this node does not know the way to wants to reach it, and an introducer vouches for its address.
//!
//! The checks come in the order of their cost, and nothing is sent to anybody but the introducer before the signature was verified.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::contact::{ASKERS, Answering, INTRODUCTIONS};
use super::{MAX_SEEN, MAX_SEEN_OF_ONE, SEEN, Token, predict};
use crate::base::{Link, PeerId, PeerIndex};
use crate::crypto::mesh::{Introduced, PunchedBy};
use crate::proto::command::{CandidateKind, Step};
use crate::proto::event::Dropped;
use crate::proto::handshake::responder::{self, Accepted};
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::proto::session::{Opening, Serial, Session};
use crate::wire::frame::IntroductionStatus;

/// When the answer leaves, after the introduction.
const ANSWERS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// Addresses that get it.
const MAX_ADDRESSES: usize = 16;
/// While an introduction is so fresh, others of the same asker only bring further addresses: it asks several introducers at once, and one session is enough.
const FRESH: Duration = Duration::from_secs(3);
/// The same while the asker was heard in the session that came of it and has not confirmed it: introducers are not equally fast, and one that is slow must not end what another has begun. It
/// gives up by itself by then.
const FRESH_IF_HEARD: Duration = Duration::from_secs(5);
/// Further keys of one asker that are acknowledged like the first: of introducers that were asked at the same time.
const MAX_JOINED: usize = 4;
/// Relays that get it besides.
const MAX_RELAYS: usize = 4;
/// Tokens of the asker are waited for.
const WAITS: Duration = Duration::from_secs(10);

/// One introduction, as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Introduction {
    pub(super) number: u32,
    pub(super) ephemeral: [u8; 32],
    pub(super) asker: PeerId,
    pub(super) signature: [u8; 64],
    pub(super) address: SocketAddr,
}

impl Node {
    /// An introducer says that a member wants to reach this node.
    pub(super) fn on_introduction(
        &mut self,
        now: Instant,
        from: PeerIndex,
        introduction: &Introduction,
    ) -> Result<(), Dropped> {
        let status = match self.judge(now, from, introduction) {
            Ok(Some(status)) => status,
            // A further address of an introduction that was acknowledged already.
            Ok(None) => return Ok(()),
            Err((status, reason)) => {
                if let Some(status) = status {
                    self.acknowledge(now, from, introduction.number, status);
                }
                return Err(reason);
            }
        };
        self.acknowledge(now, from, introduction.number, status);
        Ok(())
    }

    fn judge(
        &mut self,
        now: Instant,
        from: PeerIndex,
        introduction: &Introduction,
    ) -> Result<Option<IntroductionStatus>, (Option<IntroductionStatus>, Dropped)> {
        let Introduction { ephemeral, asker, signature, address, .. } = introduction;
        let refused = |reason| (Some(IntroductionStatus::Refused), reason);
        if self.stopping || *asker == self.local.id {
            return Err(refused(Dropped::OwnIdentity));
        }
        let introducer = self.peers.get_mut(from).ok_or((None, Dropped::UnknownPeer))?;
        let introducer_id = introducer.id;
        let Some(index) = self.member(asker).map(|peer| peer.index).filter(|index| *index != from) else {
            return Err((Some(IntroductionStatus::UnknownTarget), Dropped::UnknownPeer));
        };
        if self.mesh.seen.get(ephemeral) == Some(&index) {
            self.add_address(now, index, from, ephemeral, *address);
            return Ok(self.answers_to(index, ephemeral).map(|_| IntroductionStatus::Accepted));
        }
        let taken = |bucket: bool| if bucket { Ok(()) } else { Err(refused(Dropped::RateLimited)) };
        taken(self.peers.get_mut(from).is_some_and(|peer| peer.contact().introductions.take(now, INTRODUCTIONS)))?;
        if self.mesh.seen.contains_key(ephemeral) {
            return Err(refused(Dropped::Replayed));
        }
        let of_asker = self.peers.get_mut(index).and_then(Peer::contact_mut).map_or(0, |contact| contact.seen_keys);
        taken(self.mesh.seen.len() < MAX_SEEN && of_asker < MAX_SEEN_OF_ONE)?;
        if !self.may_use(*address, from, index) {
            return Err(refused(Dropped::Ignored));
        }
        let introduced =
            |nonce| Introduced { asker, introducer: &introducer_id, target: &self.local.id, ephemeral, nonce };
        let net = &self.local.net;
        let nonces = [&self.mesh.nonce, &self.mesh.previous_nonce];
        let valid = nonces.into_iter().find(|nonce| net.verify_introduction(&introduced(nonce), signature).is_ok());
        let Some(nonce) = valid else {
            // The asker may have an old nonce; the introducer is told the present one.
            if let Some(peer) = self.peers.get_mut(from) {
                peer.forget_told();
            }
            return Err((Some(IntroductionStatus::BadSignature), Dropped::BadSignature));
        };
        let hash = net.introduction_hash(&introduced(nonce), signature);
        // After the signature, or an introducer could keep askers and addresses from being served at all.
        taken(self.mesh.targets.take(now, address.ip()))?;
        taken(self.peers.get_mut(index).is_some_and(|peer| peer.contact().asked_for.take(now, ASKERS)))?;
        if let Some(peer) = self.peers.get_mut(index) {
            // What is named first is where the introducer hears the asker.
            peer.contact().on_heard_at(*address);
        }
        if self.is_fresh(now, index) {
            self.remember_key(now, index, ephemeral);
            self.join(index, from, ephemeral);
            let through = self.relayed_by(from, asker);
            for address in [Some(*address), through].into_iter().flatten() {
                self.answer_there_too(now, index, address);
            }
            return Ok(Some(IntroductionStatus::Accepted));
        }
        let accepted = responder::answer_to(&self.local, asker, ephemeral, &hash, &mut self.rng).map_err(refused)?;
        self.begin_answer(now, index, from, introduction, accepted);
        Ok(Some(IntroductionStatus::Accepted))
    }

    /// Opens the session that an introduction leads to; its answer leaves as soon as may be, and again until the asker is heard.
    fn begin_answer(
        &mut self,
        now: Instant,
        index: PeerIndex,
        from: PeerIndex,
        introduction: &Introduction,
        accepted: Accepted,
    ) {
        let Introduction { ephemeral, asker, address, .. } = introduction;
        let token = |by| self.local.net.punch_token(ephemeral, asker, &self.local.id, by);
        let (own, theirs) = (token(PunchedBy::Target), token(PunchedBy::Asker));
        self.remember_key(now, index, ephemeral);
        self.mesh.expect_token(now, theirs, Token { peer: index, asked: false, until: now + WAITS });
        let mut addresses = vec![*address];
        addresses.extend(self.relayed_by(from, asker));
        let (serial, answer) = (self.next_serial(), accepted.answer);
        let opening = Opening::Introduction(ephemeral);
        let link = Link::to(*address);
        let mut session = Session::offered(now, serial, link, opening, accepted, &self.local, &mut self.rng);
        for &other in addresses.iter().skip(1) {
            session.path.add(now, Link::to(other), CandidateKind::Observed);
        }
        self.add_half_open(now, index, session);
        if let Some(peer) = self.peers.get_mut(index) {
            let contact = peer.contact();
            contact.introduced = Some((serial, now));
            contact.step(now, Step::Answered(from));
            contact.answering = Some(Box::new(Answering {
                keys: vec![(*ephemeral, from)],
                answer,
                token: own,
                serial,
                addresses,
                sent: 0,
                next_at: now,
            }));
        }
        self.settle(now, index);
    }

    /// The answer that is under way, and whose session is still half-open.
    fn answering(&mut self, index: PeerIndex) -> Option<&mut Answering> {
        let peer = self.peers.get_mut(index)?;
        let serial = peer.contact_mut()?.answering.as_ref()?.serial;
        let is_over = !peer.session(serial).is_some_and(Session::is_half_open);
        let answering = &mut peer.contact_mut()?.answering;
        answering.take_if(|_| is_over);
        answering.as_deref_mut()
    }

    /// The introducer that brought this key, if it is answered now.
    fn answers_to(&mut self, index: PeerIndex, ephemeral: &[u8; 32]) -> Option<PeerIndex> {
        let keys = &self.answering(index)?.keys;
        keys.iter().find(|(key, _)| key == ephemeral).map(|&(_, introducer)| introducer)
    }

    /// A further key of an asker that is answered already: its introducer may repeat it, and bring further addresses.
    fn join(&mut self, index: PeerIndex, from: PeerIndex, ephemeral: &[u8; 32]) {
        if let Some(answering) = self.answering(index).filter(|answering| answering.keys.len() <= MAX_JOINED) {
            answering.keys.push((*ephemeral, from));
        }
    }

    /// No introduction with this key is accepted again.
    fn remember_key(&mut self, now: Instant, index: PeerIndex, ephemeral: &[u8; 32]) {
        self.mesh.seen.insert(*ephemeral, index);
        self.mesh.seen_order.push_back((now, *ephemeral));
        if let Some(peer) = self.peers.get_mut(index) {
            peer.contact().seen_keys += 1;
        }
    }

    /// Those that are older than any nonce that is accepted.
    pub(super) fn forget_keys(&mut self, now: Instant) {
        while self.mesh.seen_order.front().is_some_and(|&(at, _)| now >= at + SEEN) {
            let key = self.mesh.seen_order.pop_front().and_then(|(_, key)| self.mesh.seen.remove(&key));
            if let Some(contact) = key.and_then(|asker| self.peers.get_mut(asker)).and_then(Peer::contact_mut) {
                contact.seen_keys = contact.seen_keys.saturating_sub(1);
            }
        }
    }

    /// The same introduction, with another address.
    fn add_address(
        &mut self,
        now: Instant,
        index: PeerIndex,
        from: PeerIndex,
        ephemeral: &[u8; 32],
        address: SocketAddr,
    ) {
        if self.may_use(address, from, index) && self.answers_to(index, ephemeral) == Some(from) {
            self.answer_there_too(now, index, address);
        }
    }

    /// The member behind an introducer that relays.
    fn relayed_by(&mut self, introducer: PeerIndex, member: &PeerId) -> Option<SocketAddr> {
        let relays = self.peers.get_mut(introducer).is_some_and(|peer| peer.is_relay());
        relays.then(|| hop::relayed(introducer, self.local.net.tag(member)))
    }

    /// An introduction of this member was accepted a moment ago, and its session is still half-open.
    fn is_fresh(&mut self, now: Instant, index: PeerIndex) -> bool {
        let is_heard = self.answering(index).is_none();
        let Some(peer) = self.peers.get_mut(index) else { return false };
        let Some((serial, since)) = peer.contact_mut().and_then(|contact| contact.introduced) else { return false };
        let fresh = if is_heard { FRESH_IF_HEARD } else { FRESH };
        peer.session(serial).is_some_and(Session::is_half_open) && now < since + fresh
    }

    /// The answer that is under way goes to one more address, at once.
    fn answer_there_too(&mut self, now: Instant, index: PeerIndex, address: SocketAddr) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(answering) = peer.contact_mut().and_then(|contact| contact.answering.as_mut()) else { return };
        // Guessed ports never take the place of a relay, which is certain.
        let most = if hop::is_relayed(address) { MAX_ADDRESSES + MAX_RELAYS } else { MAX_ADDRESSES };
        if answering.addresses.len() >= most || answering.addresses.contains(&address) {
            return;
        }
        // Whoever names it, or pretends to be there, may mean somebody else.
        if !hop::is_relayed(address) && !self.mesh.targets.take(now, address.ip()) {
            return;
        }
        answering.addresses.push(address);
        let next: Vec<SocketAddr> = predict::next_ports(&answering.addresses)
            .into_iter()
            .filter(|next| !answering.addresses.contains(next))
            .take(MAX_ADDRESSES.saturating_sub(answering.addresses.len()))
            .collect();
        answering.addresses.extend(&next);
        let (answer, token, serial) = (answering.answer, answering.token, answering.serial);
        for next in next {
            self.mesh.post_token(Link::to(next), &token);
            self.mesh.post(Link::to(next), &answer);
        }
        if let Some(session) = peer.session_mut(serial) {
            session.path.add(now, Link::to(address), CandidateKind::Observed);
        }
        if !hop::is_relayed(address) {
            self.mesh.post_token(Link::to(address), &token);
        }
        self.mesh.post(Link::to(address), &answer);
    }

    /// The asker was heard from `link`: its NAT lets in what comes from there.
    pub(super) fn on_token_of_asker(&mut self, now: Instant, link: Link, asker: PeerIndex) {
        if self.answering(asker).is_none() {
            if let Some(session) = self.peers.get_mut(asker).and_then(Peer::newest_session) {
                session.path.hear(now, Link::to(link.remote));
                self.settle(now, asker);
            }
            return;
        }
        self.answer_there_too(now, asker, link.remote);
    }

    /// Sends the answer to an introduction once more, if it is time.
    pub(super) fn repeat_answer(&mut self, now: Instant, index: PeerIndex) {
        let Some(answering) = self.answering(index).filter(|answering| now >= answering.next_at) else { return };
        let Some(after) = ANSWERS.get(answering.sent) else {
            self.on_answered_enough(index);
            return;
        };
        answering.sent += 1;
        let wait = ANSWERS.get(answering.sent).map_or(WAITS, |next| *next - *after);
        answering.next_at = now + wait;
        let (answer, token, addresses) = (answering.answer, answering.token, answering.addresses.clone());
        for address in addresses {
            if !hop::is_relayed(address) {
                self.mesh.post_token(Link::to(address), &token);
            }
            self.mesh.post(Link::to(address), &answer);
        }
    }

    fn on_answered_enough(&mut self, index: PeerIndex) {
        if let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut) {
            contact.answering = None;
        }
    }

    /// A valid packet of the asker came in the session that the introduction made: the answer has arrived.
    pub(in crate::proto) fn on_introduced(&mut self, index: PeerIndex, serial: Serial) {
        if let Some(contact) = self.peers.get_mut(index).and_then(Peer::contact_mut) {
            contact.answering.take_if(|answering| answering.serial == serial);
        }
    }
}
