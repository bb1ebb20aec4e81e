//! What other threads must know of a session to carry its bytes.
//!
//! Only confirmed sessions are published, and of those only keys that both sides have shown to have: whatever is still being negotiated stays with the
//! node, which opens it, and decides.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use super::peer::Peer;
use super::session::Session;
use crate::envelope::{Counters, Published, Receiving, Sending};

impl Peer {
    /// What is published of this peer now.
    pub(crate) fn published(&mut self) -> Published {
        let counters = &Arc::clone(self.shared_counters());
        let confirmed = || self.sessions.iter().filter(|session| session.is_confirmed());
        // What goes through a relay is sealed twice, and data threads have the common sockets only: both are the node's business.
        let mut sending = confirmed().filter(|session| !session.path.is_relayed() && session.path.link().socket == 0);
        let sending = sending.find(|session| Some(session.serial) == self.active());
        Published {
            sending: sending.map(|session| session.to_send(counters)),
            receiving: confirmed().flat_map(|session| session.to_receive(counters)).collect(),
        }
    }

    /// A number that changes when [`Self::published`] does; 0 if nothing is published.
    fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut any = false;
        for session in self.sessions.iter().filter(|session| session.is_confirmed()) {
            any = true;
            session.serial.0.hash(&mut hasher);
            session.path.link().hash(&mut hasher);
            (session.datagram_limit(), session.inner_mtu()).hash(&mut hasher);
            session.published_epochs().for_each(|epoch| epoch.number.hash(&mut hasher));
            (Some(session.serial) == self.active()).hash(&mut hasher);
        }
        if any { hasher.finish().max(1) } else { 0 }
    }

    /// Whether what is published has changed since this was asked last.
    pub(crate) fn must_publish(&mut self) -> bool {
        let stamp = self.stamp();
        std::mem::replace(&mut self.published_stamp, stamp) != stamp
    }
}

impl Session {
    fn to_send(&self, counters: &Arc<Counters>) -> Sending {
        Sending {
            sealer: Arc::clone(&self.present().sealer),
            link: self.path.link(),
            limit: self.datagram_limit(),
            inner_mtu: self.inner_mtu(),
            takes_partial: self.takes_partial(),
            splitter: self.takes_parts().then(|| Arc::clone(&self.splitter)),
            activity: Arc::clone(&self.activity),
            counters: Arc::clone(counters),
        }
    }

    fn to_receive(&self, counters: &Arc<Counters>) -> impl Iterator<Item = Receiving> {
        self.published_epochs().map(|epoch| Receiving {
            index: epoch.receive(),
            opener: Arc::clone(&epoch.opener),
            session: self.serial.0,
            path: self.path.link(),
            activity: Arc::clone(&self.activity),
            counters: Arc::clone(counters),
        })
    }
}
