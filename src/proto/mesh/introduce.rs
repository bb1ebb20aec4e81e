//! Introducing two members to each other (PROTOCOL §12.3): what one asks for, the other is told, with the address at which the first was heard.

use std::time::{Duration, Instant};

use super::contact::REQUESTS;
use super::frame::MeshFrame;
use crate::base::{PeerId, PeerIndex};
use crate::proto::event::Dropped;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::wire::frame::IntroductionStatus;

/// A target that has not acknowledged by then does not.
const WITHIN: Duration = Duration::from_secs(3);
/// Introductions under way.
const MAX_FORWARDED: usize = 1024;

/// An introduction that waits for its acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forwarded {
    asker: PeerIndex,
    /// As the asker numbered its request.
    request: u32,
    target: PeerIndex,
    /// As this node numbered the introduction.
    number: u32,
    pub(super) until: Instant,
}

impl Node {
    /// A peer wants to be introduced.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        from: PeerIndex,
        request: u32,
        ephemeral: [u8; 32],
        target: PeerId,
        signature: [u8; 64],
    ) -> Result<(), Dropped> {
        let asker = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
        let asker_id = asker.id;
        if !asker.contact().requests.take(now, REQUESTS) {
            return Err(Dropped::RateLimited);
        }
        if asker.mesh_session().is_none() {
            return Err(Dropped::UnknownSession);
        }
        let refuse = |node: &mut Self, status| {
            node.acknowledge(now, from, request, status);
            Ok(())
        };
        let Some(peer) = self.peers.by_id(&target).filter(|peer| peer.index != from) else {
            return refuse(self, IntroductionStatus::UnknownTarget);
        };
        let target = peer.index;
        if peer.mesh_session().is_none_or(|session| session.path.is_relayed()) {
            return refuse(self, IntroductionStatus::Unreachable);
        }
        // A request that was repeated is told again under its number: the first may be lost.
        let known =
            self.mesh.forwarded.iter().find(|old| (old.asker, old.request, old.target) == (from, request, target));
        let number = match known.map(|known| known.number) {
            Some(number) => number,
            None if self.mesh.forwarded.len() >= MAX_FORWARDED => return refuse(self, IntroductionStatus::Refused),
            None => {
                let number = self.mesh.number();
                let until = now + WITHIN;
                self.mesh.forwarded.push_back(Forwarded { asker: from, request, target, number, until });
                number
            }
        };
        let addresses = self.places(from, target);
        let mut sent = false;
        if let Some(peer) = self.peers.get_mut(target) {
            for address in addresses {
                sent |= peer.contact().send(MeshFrame::Introduction {
                    number,
                    ephemeral,
                    asker: asker_id,
                    signature,
                    address,
                });
            }
        }
        if !sent {
            self.mesh.forwarded.retain(|old| old.number != number);
            return refuse(self, IntroductionStatus::Refused);
        }
        self.settle(now, target);
        Ok(())
    }

    /// The target has acknowledged: the asker hears it. False if no introduction of this node has this number.
    pub(super) fn pass_on(&mut self, now: Instant, target: PeerIndex, number: u32, status: IntroductionStatus) -> bool {
        let position = self.mesh.forwarded.iter().position(|old| old.number == number && old.target == target);
        let Some(forwarded) = position.and_then(|position| self.mesh.forwarded.remove(position)) else { return false };
        self.acknowledge(now, forwarded.asker, forwarded.request, status);
        true
    }

    pub(super) fn acknowledge(&mut self, now: Instant, to: PeerIndex, number: u32, status: IntroductionStatus) {
        if let Some(peer) = self.peers.get_mut(to).filter(|peer| peer.is_connected()) {
            peer.contact().send(MeshFrame::Acknowledgement { number, status });
        }
        self.settle(now, to);
    }

    /// Targets that are silent.
    pub(super) fn expire_forwarded(&mut self, now: Instant) {
        while self.mesh.forwarded.front().is_some_and(|forwarded| now >= forwarded.until) {
            if let Some(Forwarded { asker, request, .. }) = self.mesh.forwarded.pop_front() {
                self.acknowledge(now, asker, request, IntroductionStatus::Unreachable);
            }
        }
    }

    /// An acknowledgement: of an introduction that this node made, or of one that it asked for.
    pub(super) fn on_acknowledgement(
        &mut self,
        now: Instant,
        from: PeerIndex,
        number: u32,
        status: IntroductionStatus,
    ) -> Result<(), Dropped> {
        if self.pass_on(now, from, number, status) {
            return Ok(());
        }
        self.on_acknowledged(now, from, number, status)
    }

    /// The connected peer with this key, for the checks of an introduction.
    pub(super) fn member(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.peers.by_id(id)
    }
}
