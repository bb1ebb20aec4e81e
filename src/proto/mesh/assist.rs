//! Helping others to measure the NAT in front of them (PROTOCOL §12.9).
//!
//! Who asks names no address: what is sent for it goes to where its own sealed packets come from. Only an introducer names one, and what it can have sent there is bounded by the same
//! buckets as its introductions.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::base::{Link, PeerIndex};
use crate::proto::bucket::Rate;
use crate::proto::event::Dropped;
use crate::proto::hop;
use crate::proto::node::Node;
use crate::proto::peer::Peer;
use crate::wire::member::Tags;
use crate::wire::record::{KnockState, Record};

/// An asker is served so often.
const KNOCK_PACE: Duration = Duration::from_secs(60);
/// Knocks for one introducer.
const KNOCKS: Rate = Rate { per_second: 1, burst: 2 };
/// Echoes that wait, in all and for one peer.
const MAX_ECHOES: usize = 256;
const MAX_ECHOES_OF_ONE: usize = 8;
/// So long is it remembered where this node has knocked: longer than a NAT remembers, and so many of the last.
const KNOCKED: Duration = Duration::from_secs(900);
const MAX_KNOCKED: usize = 64;
/// The longest time that is waited.
const LONGEST: u16 = 600;

/// Pings that were promised, and those that were sent at the word of others.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    waiting: BTreeMap<(Instant, u64), Echo>,
    number: u64,
    knocked: VecDeque<(Instant, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Echo {
    peer: PeerIndex,
    /// Where it was when it asked.
    address: SocketAddr,
    token: [u8; 32],
}

impl Echoes {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(&(at, _), _)| at)
    }
}

impl super::Mesh {
    /// Whether this node has pinged this address for another member, so that what comes from there passes its own NAT.
    pub(super) fn has_knocked_at(&self, now: Instant, ip: IpAddr) -> bool {
        self.echoes.knocked.iter().any(|&(at, knocked)| knocked == ip && now < at + KNOCKED)
    }
}

impl Node {
    /// A peer wants somebody to knock, or says what became of a knock that this node asked for.
    pub(in crate::proto) fn on_knock(
        &mut self,
        now: Instant,
        from: PeerIndex,
        state: KnockState,
        token: &[u8; 32],
        besides: Tags<'_>,
    ) -> Result<(), Dropped> {
        if state != KnockState::Asked {
            self.on_knock_answered(now, from, state, token);
            return Ok(());
        }
        let passed_on = self.pass_knock_on(now, from, token, besides);
        let state = if passed_on.is_ok() { KnockState::PassedOn } else { KnockState::Refused };
        self.send_record(now, from, &Record::Knock { state, token, besides: Tags::EMPTY });
        passed_on
    }

    fn pass_knock_on(
        &mut self,
        now: Instant,
        from: PeerIndex,
        token: &[u8; 32],
        besides: Tags<'_>,
    ) -> Result<(), Dropped> {
        let asker = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
        let address = asker.mesh_session().map(|session| session.path.remote()).ok_or(Dropped::UnknownSession)?;
        let served = &mut asker.contact().knocked_for;
        if served.is_some_and(|at| now < at + KNOCK_PACE) {
            return Err(Dropped::RateLimited);
        }
        *served = Some(now);
        if !hop::is_public(address) {
            return Err(Dropped::Ignored);
        }
        let besides: Vec<PeerIndex> =
            besides.iter().filter_map(|tag| self.mesh.tags.get(&tag)).copied().chain([from]).collect();
        let mut able = self.peers.connected();
        able.retain(|index| {
            let session = self.peers.get_mut(*index).and_then(Peer::mesh_session);
            let remote = session.map(|session| session.path.remote());
            let fits = |remote: SocketAddr| {
                remote.is_ipv4() == address.is_ipv4() && remote.ip() != address.ip() && hop::is_public(remote)
            };
            remote.is_some_and(fits) && !besides.contains(index)
        });
        let count = u32::try_from(able.len()).ok().filter(|count| *count > 0).ok_or(Dropped::UnknownPeer)?;
        let chosen = able.get(self.rng.below(count) as usize).copied().ok_or(Dropped::UnknownPeer)?;
        self.send_record(now, chosen, &Record::KnockFor { address, token });
        Ok(())
    }

    /// An introducer wants this node to knock.
    pub(in crate::proto) fn on_knock_for(
        &mut self,
        now: Instant,
        from: PeerIndex,
        address: SocketAddr,
        token: &[u8; 32],
    ) -> Result<(), Dropped> {
        let own = self.mesh.local.iter().any(|(own, _)| own.ip() == address.ip());
        if self.stopping || own || !hop::is_public(address) {
            return Err(Dropped::Ignored);
        }
        let introducer = self.peers.get_mut(from).ok_or(Dropped::UnknownPeer)?;
        if !introducer.contact().knocks.take(now, KNOCKS) || !self.mesh.targets.take(now, address.ip()) {
            return Err(Dropped::RateLimited);
        }
        self.mesh.post_token(Link::to(address), token);
        let knocked = &mut self.mesh.echoes.knocked;
        if knocked.len() == MAX_KNOCKED {
            knocked.pop_front();
        }
        knocked.push_back((now, address.ip()));
        Ok(())
    }

    /// A peer wants to be pinged when some time is over.
    pub(in crate::proto) fn on_echo_after(
        &mut self,
        now: Instant,
        from: PeerIndex,
        seconds: u16,
        token: &[u8; 32],
    ) -> Result<(), Dropped> {
        let session = self.peers.get_mut(from).and_then(Peer::mesh_session).ok_or(Dropped::UnknownSession)?;
        let address = session.path.remote();
        let waiting = &self.mesh.echoes.waiting;
        let of_it = waiting.values().filter(|echo| echo.peer == from).count();
        if seconds > LONGEST || waiting.len() >= MAX_ECHOES || of_it >= MAX_ECHOES_OF_ONE {
            return Err(Dropped::RateLimited);
        }
        if hop::is_relayed(address) {
            return Err(Dropped::Ignored);
        }
        self.mesh.echoes.number += 1;
        let at = now + Duration::from_secs(seconds.into());
        let key = (at, self.mesh.echoes.number);
        self.mesh.echoes.waiting.insert(key, Echo { peer: from, address, token: *token });
        Ok(())
    }

    /// Keeps what was promised, to those that are still there.
    pub(super) fn send_echoes(&mut self, now: Instant) {
        while let Some(entry) = self.mesh.echoes.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            let Echo { peer, address, token } = entry.remove();
            if self.peers.get_mut(peer).is_some_and(|peer| peer.is_connected()) {
                self.mesh.post_token(Link::to(address), &token);
            }
        }
    }
}
