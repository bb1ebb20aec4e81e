//! Names of endpoints to addresses, beside the data loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::base::PeerIndex;
use crate::base::link::canonical;

/// Look-ups at a time. Each holds a thread while the system's resolver works; see [`THREADS`].
const CONCURRENT: usize = 4;

/// Threads that a runtime should allow for blocking work: a look-up that ran into [`PATIENCE`] keeps its thread until the system gives it up.
pub const THREADS: usize = 2 * CONCURRENT;

/// How long one name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses taken from one name; more are of no use to a handshake.
const MAX_ADDRESSES: usize = 8;

/// A host name and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// As configured.
    pub host: String,
    /// Of the endpoint.
    pub port: u16,
}

/// What became of the names of one peer.
#[derive(Debug)]
pub struct Answer {
    /// Whose they are.
    pub peer: PeerIndex,
    /// For each name its addresses, at least one and without doubles, or why there are none.
    pub names: Vec<(Name, io::Result<Vec<SocketAddr>>)>,
}

/// Looks names up in tasks of its own: one at a time for each peer, four at a time in all.
#[derive(Debug)]
pub struct Resolver {
    names: BTreeMap<PeerIndex, Arc<[Name]>>,
    running: BTreeSet<PeerIndex>,
    permits: Arc<Semaphore>,
    // At most one answer a peer is under way, so the channel need not be bounded in itself.
    sender: mpsc::UnboundedSender<Answer>,
    receiver: mpsc::UnboundedReceiver<Answer>,
}

impl Resolver {
    /// A resolver for the names of these peers; who has none may be left out.
    pub fn new(names: impl IntoIterator<Item = (PeerIndex, Vec<Name>)>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            names: names.into_iter().filter(|(_, names)| !names.is_empty()).map(|(p, n)| (p, n.into())).collect(),
            running: BTreeSet::new(),
            permits: Arc::new(Semaphore::new(CONCURRENT)),
            sender,
            receiver,
        }
    }

    /// Starts looking up the names of all peers.
    pub fn resolve_all(&mut self) {
        let peers: Vec<PeerIndex> = self.names.keys().copied().collect();
        for peer in peers {
            self.resolve(peer);
        }
    }

    /// Starts looking up the names of `peer`, unless that is under way or it has none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn resolve(&mut self, peer: PeerIndex) {
        let Some(names) = self.names.get(&peer) else { return };
        if !self.running.insert(peer) {
            return;
        }
        tokio::spawn(look_up(peer, Arc::clone(names), Arc::clone(&self.permits), self.sender.clone()));
    }

    /// Whether look-ups are under way.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next answer.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        // The channel does not close, since a sender is kept here.
        let Some(answer) = ready!(self.receiver.poll_recv(cx)) else { return Poll::Pending };
        self.running.remove(&answer.peer);
        Poll::Ready(answer)
    }
}

async fn look_up(peer: PeerIndex, names: Arc<[Name]>, permits: Arc<Semaphore>, answers: mpsc::UnboundedSender<Answer>) {
    // The semaphore is never closed.
    let _permit = permits.acquire().await;
    let mut answer = Answer { peer, names: Vec::with_capacity(names.len()) };
    for name in names.iter() {
        answer.names.push((name.clone(), look_up_one(name).await));
    }
    // Nobody listens any more when the daemon stops.
    let _ = answers.send(answer);
}

async fn look_up_one(name: &Name) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(PATIENCE, tokio::net::lookup_host((name.host.as_str(), name.port))).await;
    let mut addresses = Vec::new();
    for address in found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.map(canonical) {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn name(host: &str) -> Name {
        Name { host: host.into(), port: 18502 }
    }

    #[tokio::test]
    async fn what_resolves_is_answered_beside_what_does_not() {
        let peer = PeerIndex(3);
        let mut resolver =
            Resolver::new([(peer, vec![name("127.0.0.1"), name("no such host"), name("::1")]), (PeerIndex(4), vec![])]);
        resolver.resolve_all();
        resolver.resolve(peer);
        let answer = poll_fn(|cx| resolver.poll_answer(cx)).await;
        assert_eq!(answer.peer, peer);
        let found: Vec<_> = answer.names.into_iter().map(|(name, found)| (name.host, found.ok())).collect();
        let expected = |address: &str| Some(vec![address.parse().unwrap()]);
        assert_eq!(found[0], ("127.0.0.1".into(), expected("127.0.0.1:18502")));
        assert_eq!(found[1], ("no such host".into(), None));
        assert_eq!(found[2], ("::1".into(), expected("[::1]:18502")));
        assert!(!resolver.is_busy(), "the second request joined the first");
    }

    #[tokio::test]
    async fn a_peer_can_be_asked_for_again_after_its_answer() {
        let mut resolver = Resolver::new([(PeerIndex(0), vec![name("127.0.0.1")])]);
        for _ in 0..2 {
            resolver.resolve(PeerIndex(0));
            assert_eq!(poll_fn(|cx| resolver.poll_answer(cx)).await.names.len(), 1);
        }
    }
}
