//! What the data threads may do: where packets go, with which keys, and which keys may open what arrives.
//!
//! The control thread changes one peer at a time. A data thread holds the lock for one burst of packets, so the other waits for a fraction of a millisecond, and
//! only then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::base::{PeerIndex, SessionIndex};
use crate::envelope::{Published, Receiving, Sending};
use crate::overlay::routes::RouteTable;

/// See the module.
#[derive(Debug)]
pub struct Table(RwLock<View>);

impl Table {
    /// A table of `routes`, without any session.
    pub fn new(routes: RouteTable) -> Self {
        Self(RwLock::new(View { generation: 0, routes, sending: Vec::new(), receiving: HashMap::new() }))
    }

    /// For one burst of packets.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        // A panic of a reader leaves the table whole, and the one writer ends with the daemon.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is published of `peer`.
    pub fn publish(&self, peer: PeerIndex, published: Published) {
        let mut view = self.write();
        view.generation += 1;
        if view.sending.len() <= peer.slot() {
            view.sending.resize_with(peer.slot() + 1, || None);
        }
        let old = view.sending.get_mut(peer.slot()).and_then(Option::take);
        for index in old.into_iter().flat_map(|old| old.indexes) {
            if let Some(owners) = view.receiving.get_mut(&index) {
                owners.retain(|owner| owner.peer != peer);
                if owners.is_empty() {
                    view.receiving.remove(&index);
                }
            }
        }
        let indexes = published.receiving.iter().map(|receiving| receiving.index).collect();
        for receiving in published.receiving {
            let owners = view.receiving.entry(receiving.index).or_insert_with(|| Vec::with_capacity(1));
            owners.push(Owner { peer, receiving });
        }
        if let Some(slot) = view.sending.get_mut(peer.slot()) {
            *slot = Some(Slot { sending: published.sending, indexes });
        }
    }
}

/// The table as a data thread sees it.
#[derive(Debug)]
pub struct View {
    /// Grows with every change: what was looked up before may be different now.
    pub generation: u64,
    routes: RouteTable,
    sending: Vec<Option<Slot>>,
    /// Nearly always one a session index.
    receiving: HashMap<SessionIndex, Vec<Owner>>,
}

#[derive(Debug)]
struct Slot {
    sending: Option<Sending>,
    /// Under which the peer stands in `receiving`.
    indexes: Vec<SessionIndex>,
}

/// An epoch and whose it is.
#[derive(Debug)]
pub struct Owner {
    /// Whose.
    pub peer: PeerIndex,
    /// What opens.
    pub receiving: Receiving,
}

impl View {
    /// The peer to which packets for `destination` go.
    pub fn route(&self, destination: IpAddr) -> Option<PeerIndex> {
        self.routes.route(destination)
    }

    /// Whether `peer` may send from `source` (PROTOCOL §11.3).
    pub fn permits(&self, peer: PeerIndex, source: IpAddr) -> bool {
        self.routes.permits(peer, source)
    }

    /// How to send to `peer`, if it has a session.
    pub fn sending(&self, peer: PeerIndex) -> Option<&Sending> {
        self.sending.get(peer.slot())?.as_ref()?.sending.as_ref()
    }

    /// What opens datagrams with this index. If two sessions share it, nobody here: the control thread tries each.
    pub fn owner(&self, index: SessionIndex) -> Option<&Owner> {
        match self.receiving.get(&index)?.as_slice() {
            [owner] => Some(owner),
            _ => None,
        }
    }
}
