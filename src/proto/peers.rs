//! The peers of a node and every index over them.
//!
//! A peer stands in the schedule at most once, at a time that is never later than its next deadline: an entry that fires early costs one look, and a deadline that moves
//! back with every packet costs nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::command::PeerConfig;
use super::peer::{Holding, Peer};
use super::session::{Serial, Session, Which};
use crate::base::{PeerId, PeerIndex, SessionIndex};

/// The schedule is no finer than this, so that no peer can keep the node busy without time passing.
const GRANULARITY: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct PeerTable {
    peers: Vec<Peer>,
    by_id: BTreeMap<PeerId, PeerIndex>,
    by_session: BTreeSet<(SessionIndex, PeerIndex)>,
    by_greeted: BTreeSet<(SocketAddr, PeerIndex)>,
    schedule: BTreeSet<(Instant, PeerIndex)>,
    ready: VecDeque<PeerIndex>,
    /// Of which something else is published than before; `None` where nothing is published at all.
    published: Option<BTreeSet<PeerIndex>>,
    /// Peers with a session that is sent on, and those that are searched for.
    connected: BTreeSet<PeerIndex>,
    seeking: BTreeSet<PeerIndex>,
    /// By the last change of what others are told of them.
    changed: BTreeMap<u32, PeerIndex>,
    changes: u32,
    /// How often paths are pinged; `None` where a single peer leaves nobody to be introduced to.
    pub(crate) holding: Option<Holding>,
}

impl PeerTable {
    pub(crate) fn new(configs: &[PeerConfig], publishes: bool) -> Self {
        let peers: Vec<Peer> =
            configs.iter().zip(0..).map(|(config, index)| Peer::new(PeerIndex(index), config)).collect();
        let by_id = peers.iter().map(|peer| (peer.id, peer.index)).collect();
        Self {
            peers,
            by_id,
            by_session: BTreeSet::new(),
            by_greeted: BTreeSet::new(),
            schedule: BTreeSet::new(),
            ready: VecDeque::new(),
            published: publishes.then(BTreeSet::new),
            connected: BTreeSet::new(),
            seeking: BTreeSet::new(),
            changed: BTreeMap::new(),
            changes: 0,
            holding: None,
        }
    }

    pub(crate) fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.peers.get_mut(index.slot())
    }

    pub(crate) fn by_id(&mut self, id: &PeerId) -> Option<&mut Peer> {
        let index = *self.by_id.get(id)?;
        self.get_mut(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Every peer's place in the table.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = PeerIndex> + use<> {
        (0..self.peers.len() as u32).map(PeerIndex)
    }

    /// The epochs that open packets with this index; nearly always one.
    pub(crate) fn owners(&self, index: SessionIndex) -> impl Iterator<Item = (PeerIndex, Serial, Which)> + '_ {
        self.by_session
            .range((index, PeerIndex(0))..=(index, PeerIndex(u32::MAX)))
            .filter_map(|&(_, peer)| self.peers.get(peer.slot()))
            .flat_map(move |peer| peer.sessions.iter().map(move |session| (peer.index, session)))
            .flat_map(move |(peer, session)| session.epochs_of(index).map(move |which| (peer, session.serial, which)))
    }

    /// The peers that are greeted at this address; nearly always one.
    pub(crate) fn greeted_at(&self, address: SocketAddr) -> Vec<PeerIndex> {
        self.by_greeted.range((address, PeerIndex(0))..=(address, PeerIndex(u32::MAX))).map(|&(_, peer)| peer).collect()
    }

    /// After anything was done with a peer: brings indexes and schedule up to date.
    pub(crate) fn settle(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.slot()) else {
            return;
        };
        let changed =
            peer.sessions.iter_mut().filter_map(|session| session.take_indexes_changed().then_some(())).count() > 0;
        if changed || peer.sessions_removed() {
            for &old in &*peer.registered {
                self.by_session.remove(&(old, index));
            }
            peer.registered = peer.sessions.iter().flat_map(Session::indexes).collect();
            self.by_session.extend(peer.registered.iter().map(|&new| (new, index)));
        }
        let greeted = peer.attempt.as_ref().map_or(&[][..], |attempt| attempt.greeted());
        if *peer.registered_greeted != *greeted {
            for &old in &*peer.registered_greeted {
                self.by_greeted.remove(&(old, index));
            }
            peer.registered_greeted = greeted.into();
            self.by_greeted.extend(peer.registered_greeted.iter().map(|&new| (new, index)));
        }
        if let Some(published) = &mut self.published
            && peer.must_publish()
        {
            published.insert(index);
        }
        let listed = peer.listing();
        if peer.listed != listed {
            peer.listed = listed;
            self.changed.remove(&peer.change);
            self.changes += 1;
            peer.change = self.changes;
            self.changed.insert(self.changes, index);
        }
        put(&mut self.connected, index, peer.is_connected());
        put(&mut self.seeking, index, peer.is_seeking());
        if let Some(deadline) = peer.deadline(self.holding)
            && peer.scheduled.is_none_or(|scheduled| deadline < scheduled)
        {
            if let Some(old) = peer.scheduled {
                self.schedule.remove(&(old, index));
            }
            let at = deadline.max(now + GRANULARITY);
            peer.scheduled = Some(at);
            self.schedule.insert((at, index));
        }
    }

    /// Peers with a session that is sent on.
    pub(crate) fn connected(&self) -> Vec<PeerIndex> {
        self.connected.iter().copied().collect()
    }

    /// Peers that are searched for.
    pub(crate) fn seeking(&self) -> Vec<PeerIndex> {
        self.seeking.iter().copied().collect()
    }

    /// Peers of which others are told something else than at change `version`, in the order of their changes.
    pub(crate) fn changed_since(&self, version: u32) -> impl Iterator<Item = (u32, PeerIndex)> + '_ {
        self.changed.range(version.saturating_add(1)..).map(|(&change, &index)| (change, index))
    }

    /// The next peer of which something else is published than before.
    pub(crate) fn pop_published(&mut self) -> Option<PeerIndex> {
        self.published.as_mut()?.pop_first()
    }

    /// The peer may have something to send.
    pub(crate) fn wake(&mut self, index: PeerIndex) {
        if let Some(peer) = self.peers.get_mut(index.slot())
            && !std::mem::replace(&mut peer.ready, true)
        {
            self.ready.push_back(index);
        }
    }

    /// The next peer that may have something to send.
    pub(crate) fn pop_ready(&mut self) -> Option<PeerIndex> {
        let index = self.ready.pop_front()?;
        if let Some(peer) = self.get_mut(index) {
            peer.ready = false;
        }
        Some(index)
    }

    /// Takes all peers whose scheduled time has come out of the schedule; [`Self::settle`] puts them back.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PeerIndex> {
        let mut due = Vec::new();
        while let Some(&(at, index)) = self.schedule.first()
            && at <= now
        {
            self.schedule.pop_first();
            if let Some(peer) = self.get_mut(index) {
                peer.scheduled = None;
            }
            due.push(index);
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.schedule.first().map(|&(at, _)| at)
    }
}

fn put(set: &mut BTreeSet<PeerIndex>, index: PeerIndex, belongs: bool) {
    if belongs {
        set.insert(index);
    } else {
        set.remove(&index);
    }
}
