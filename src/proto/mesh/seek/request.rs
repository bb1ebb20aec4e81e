//! What is said for one introduction: the request and its repetitions, the tokens that open NATs, and the answer that comes of it (PROTOCOL §12.3, §12.4).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{ANSWERS_WITHIN, CALL, Key, LOOK, MAX_TARGETS, NEAR_HOPS, PATIENCE, REPEAT, Requested, Stage};
use crate::base::{Link, PeerIndex};
use crate::crypto::keys::EphemeralSecret;
use crate::crypto::mesh::{Introduced, PunchedBy};
use crate::proto::command::{CandidateKind, Step};
use crate::proto::event::Dropped;
use crate::proto::hop;
use crate::proto::mesh::frame::MeshFrame;
use crate::proto::mesh::{Token, predict};
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::proto::session::Session;
use crate::wire::frame::IntroductionStatus;
use crate::wire::hello::Hello;

impl Node {
    /// Asks for an introduction, and opens the own NAT.
    pub(super) fn request(&mut self, now: Instant, target: PeerIndex, introducer: PeerIndex) {
        let number = self.mesh.number();
        let Some(introducer_id) = self.peers.get_mut(introducer).map(|peer| peer.id) else { return };
        let Some(peer) = self.peers.get_mut(target) else { return };
        let id = peer.id;
        let greetable = peer.greetable();
        let contact = peer.contact();
        let Some(nonce) = contact.nonce(now) else { return };
        let mut targets: Vec<SocketAddr> = Vec::new();
        for address in greetable.into_iter().chain(contact.addresses.iter().copied()) {
            if targets.len() < MAX_TARGETS && !targets.contains(&address) && !hop::is_relayed(address) {
                targets.push(address);
            }
        }
        for address in predict::next_ports(&targets) {
            if targets.len() < MAX_TARGETS {
                targets.push(address);
            }
        }
        let ephemeral = EphemeralSecret::generate(&mut self.rng);
        let public = ephemeral.public();
        let introduced = Introduced {
            asker: &self.local.id,
            introducer: &introducer_id,
            target: &id,
            ephemeral: &public,
            nonce: &nonce,
        };
        let net = &self.local.net;
        let signature = net.sign_introduction(&self.local.identity, &introduced);
        let hash = net.introduction_hash(&introduced, &signature);
        let token = |by| net.punch_token(&public, &self.local.id, &id, by);
        let (own, theirs) = (token(PunchedBy::Asker), token(PunchedBy::Target));
        let Some(inquiry) = contact.seeking.as_mut().and_then(|seeking| seeking.inquiry(introducer)) else { return };
        inquiry.since = now;
        inquiry.stage = Stage::Requested(Box::new(Requested {
            number,
            key: Key { introducer, ephemeral, hash },
            public,
            signature,
            token: own,
            requests: 1,
            request_at: now + REPEAT,
            accepted_at: None,
            punches: 0,
            targets: targets.clone(),
        }));
        contact.step(now, Step::Requested(introducer));
        self.mesh.expect_token(now, theirs, Token { peer: target, asked: true, until: now + PATIENCE });
        for address in targets {
            self.mesh.post_token(Link::to(address).within(NEAR_HOPS), &own);
        }
        if let Some(peer) = self.peers.get_mut(introducer) {
            // Where both are behind one router, the introducer passes on what this node has told it.
            peer.contact().send(MeshFrame::Request { number, ephemeral: public, target: id, signature });
        }
        self.settle(now, introducer);
        self.settle(now, target);
    }

    /// Repeats requests and pings that are due, and gives up introducers that are silent.
    pub(super) fn advance(&mut self, now: Instant, target: PeerIndex) {
        let mut repeat = Vec::new();
        let mut punch = Vec::new();
        let mut silent = Vec::new();
        let mut retired = Vec::new();
        let Some(peer) = self.peers.get_mut(target) else { return };
        let id = peer.id;
        let Some(seeking) = peer.contact_mut().and_then(|contact| contact.seeking.as_mut()) else { return };
        let mut next = now + LOOK;
        for inquiry in &mut seeking.inquiries {
            let introducer = inquiry.introducer;
            let over = match &mut inquiry.stage {
                Stage::Asked => now >= inquiry.since + ANSWERS_WITHIN,
                Stage::Requested(requested) => requested.advance(now, introducer, id, &mut repeat, &mut punch),
                Stage::Over => false,
            };
            if over {
                silent.push(introducer);
                retired.extend(inquiry.retire(now));
            } else if let Stage::Requested(requested) = &inquiry.stage {
                next = next.min(requested.deadline());
            }
        }
        seeking.next_at = next;
        retired.into_iter().for_each(|key| seeking.keep(Some(key)));
        let all_over = seeking.inquiries.iter().all(|inquiry| matches!(inquiry.stage, Stage::Over));
        // Nobody that was asked can help; but those that were called a moment ago may.
        if all_over && seeking.call_at <= now + CALL {
            seeking.call_at = seeking.call_at.min(now);
        }
        let call = seeking.takes_call(now);
        for introducer in silent {
            if let Some(contact) = self.peers.get_mut(target).and_then(Peer::contact_mut) {
                contact.step(now, Step::NoAnswer(introducer));
            }
            self.doubt(now, introducer);
        }
        for (introducer, frame) in repeat {
            if let Some(peer) = self.peers.get_mut(introducer).filter(|peer| peer.is_connected()) {
                peer.contact().send(frame);
            }
            self.settle(now, introducer);
        }
        for (address, token) in punch {
            self.mesh.post_token(Link::to(address), &token);
        }
        if call {
            self.call_introducers(now, target);
        }
    }

    /// What became of an introduction that this node asked for.
    pub(in crate::proto::mesh) fn on_acknowledged(
        &mut self,
        now: Instant,
        introducer: PeerIndex,
        number: u32,
        status: IntroductionStatus,
    ) -> Result<(), Dropped> {
        let target = self.peers.seeking().into_iter().find(|&index| {
            self.peers
                .get_mut(index)
                .and_then(Peer::contact_mut)
                .and_then(|contact| contact.seeking.as_mut())
                .is_some_and(|seeking| {
                    seeking.inquiry(introducer).is_some_and(
                        |inquiry| matches!(&inquiry.stage, Stage::Requested(requested) if requested.number == number),
                    )
                })
        });
        let target = target.ok_or(Dropped::Unexpected)?;
        let Some(contact) = self.peers.get_mut(target).and_then(Peer::contact_mut) else { return Ok(()) };
        contact.step(now, Step::Acknowledged(introducer, status.byte()));
        let Some(seeking) = contact.seeking.as_mut() else { return Ok(()) };
        seeking.hurry(now);
        let Some(inquiry) = seeking.inquiry(introducer) else { return Ok(()) };
        let mut ask_again = false;
        match status {
            IntroductionStatus::Accepted => {
                if let Stage::Requested(requested) = &mut inquiry.stage {
                    requested.accepted_at.get_or_insert(now);
                }
            }
            IntroductionStatus::BadSignature if !inquiry.renewed => {
                (inquiry.renewed, inquiry.stage, inquiry.since) = (true, Stage::Asked, now);
                ask_again = true;
            }
            IntroductionStatus::BadSignature
            | IntroductionStatus::UnknownTarget
            | IntroductionStatus::Refused
            | IntroductionStatus::Unreachable => {
                let key = inquiry.retire(now);
                seeking.keep(key);
            }
        }
        if ask_again {
            contact.forget_nonce();
            self.ask(now, target, introducer);
        }
        self.settle(now, target);
        Ok(())
    }

    /// A hello answer that is no answer to a hello: the member was introduced.
    pub(in crate::proto) fn handle_introduced_answer(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Hello<'_>,
    ) -> Result<(), Dropped> {
        let peer = self.peers.by_id(&answer.identity()).ok_or(Dropped::UnknownPeer)?;
        let (index, id) = (peer.index, peer.id);
        // A relay says who sends through it, so one member cannot use up what another may have examined.
        if !self.is_behind(link, index) {
            return Err(Dropped::Ignored);
        }
        let peer = self.peers.get_mut(index).ok_or(Dropped::UnknownPeer)?;
        let contact = peer.contact_mut().ok_or(Dropped::Unexpected)?;
        let seeking = contact.seeking.as_mut().ok_or(Dropped::Unexpected)?;
        let (epoch, introducer) = seeking.verify_answer(now, link.remote, &self.local, &id, answer)?;
        let (targets, rtt) = (seeking.targets(), now.saturating_duration_since(seeking.since));
        // The search goes on until the session is confirmed: what brought the answer may be a way in one direction.
        seeking.on_answered(now);
        contact.step(now, Step::Introduced(introducer));
        // The answer may have come on a way on which nothing goes back.
        let relays = self.relayed_ways(&id);
        let serial = self.next_serial();
        let mut session = Session::initiated(
            now,
            serial,
            Link::to(link.remote),
            epoch,
            rtt.min(Duration::from_secs(1)),
            &mut self.rng,
        );
        session.greet(now);
        for (relay, capacity) in relays {
            session.path.add_relayed(now, relay, capacity);
        }
        for address in targets {
            session.path.add(now, Link::to(address), CandidateKind::Observed);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.add_initiated(now, session);
        }
        self.settle(now, index);
        Ok(())
    }

    /// A ping with a token that is waited for: the other end of an introduction is there.
    pub(in crate::proto) fn on_token(&mut self, now: Instant, link: Link, cookie: &[u8; 32]) -> bool {
        let Some(token) = self.mesh.tokens.get(cookie).copied().filter(|token| now < token.until) else { return false };
        if token.asked {
            self.on_token_of_target(now, link, token.peer);
        } else {
            self.on_token_of_asker(now, link, token.peer);
        }
        true
    }

    /// The target was heard from `link`: its answer may come from there, and this node's pings should go there.
    fn on_token_of_target(&mut self, now: Instant, link: Link, target: PeerIndex) {
        let Some(peer) = self.peers.get_mut(target) else { return };
        if let Some(session) = peer.newest_session() {
            session.path.hear(now, Link::to(link.remote));
            self.settle(now, target);
            return;
        }
        let Some(seeking) = peer.contact_mut().and_then(|contact| contact.seeking.as_mut()) else { return };
        let mut answer = Vec::new();
        for inquiry in &mut seeking.inquiries {
            if let Stage::Requested(requested) = &mut inquiry.stage
                && requested.targets.len() < MAX_TARGETS
                && !requested.targets.contains(&link.remote)
            {
                requested.targets.push(link.remote);
                answer.push(requested.token);
            }
        }
        for token in answer {
            self.mesh.post_token(Link::to(link.remote), &token);
        }
    }

    /// A peer can introduce now: whoever is sought may be known to it. It is asked anew: it may have lost an older session, and the question with it.
    pub(in crate::proto::mesh) fn on_introducer(&mut self, now: Instant, introducer: PeerIndex) {
        for index in self.peers.seeking().into_iter().filter(|index| *index != introducer) {
            if let Some(seeking) =
                self.peers.get_mut(index).and_then(Peer::contact_mut).and_then(|contact| contact.seeking.as_mut())
            {
                seeking.inquiries.retain(|inquiry| inquiry.introducer != introducer || inquiry.is_accepted());
                seeking.hurry(now);
            }
            self.settle(now, index);
        }
    }
}
