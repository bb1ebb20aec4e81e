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
const CONCURRENT: usize = 8;

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

/// What became of one name of one peer.
#[derive(Debug)]
pub struct Answer {
    /// Whose it is.
    pub peer: PeerIndex,
    /// The name.
    pub name: Name,
    /// Its addresses, at least one and without doubles, or why there are none.
    pub found: io::Result<Vec<SocketAddr>>,
}

/// Looks names up in tasks of its own, a few at a time; a name that takes long does not hold up the others.
#[derive(Debug)]
pub struct Resolver {
    names: BTreeMap<PeerIndex, Vec<Name>>,
    running: BTreeSet<(PeerIndex, Name)>,
    permits: Arc<Semaphore>,
    // At most one answer for each name is under way, so the channel need not be bounded in itself.
    sender: mpsc::UnboundedSender<Answer>,
    receiver: mpsc::UnboundedReceiver<Answer>,
}

impl Resolver {
    /// A resolver for the names of these peers; who has none may be left out.
    pub fn new(names: impl IntoIterator<Item = (PeerIndex, Vec<Name>)>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            names: names.into_iter().filter(|(_, names)| !names.is_empty()).collect(),
            running: BTreeSet::new(),
            permits: Arc::new(Semaphore::new(CONCURRENT)),
            sender,
            receiver,
        }
    }

    /// Starts looking up the names of all peers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn resolve_all(&mut self) {
        let peers: Vec<PeerIndex> = self.names.keys().copied().collect();
        for peer in peers {
            self.resolve(peer);
        }
    }

    /// Starts looking up the names of `peer`, but for those that are being looked up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn resolve(&mut self, peer: PeerIndex) {
        for name in self.names.get(&peer).into_iter().flatten() {
            if self.running.insert((peer, name.clone())) {
                tokio::spawn(look_up(peer, name.clone(), Arc::clone(&self.permits), self.sender.clone()));
            }
        }
    }

    /// Whether look-ups are under way.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next answer.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        // The channel does not close, since a sender is kept here.
        let Some(answer) = ready!(self.receiver.poll_recv(cx)) else { return Poll::Pending };
        self.running.remove(&(answer.peer, answer.name.clone()));
        Poll::Ready(answer)
    }
}

async fn look_up(peer: PeerIndex, name: Name, permits: Arc<Semaphore>, answers: mpsc::UnboundedSender<Answer>) {
    // The semaphore is never closed.
    let _permit = permits.acquire().await;
    let found = look_up_one(&name).await;
    // Nobody listens any more when the daemon stops.
    let _ = answers.send(Answer { peer, name, found });
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
        let names = ["127.0.0.1", "no such host", "::1"].map(name);
        let mut resolver = Resolver::new([(peer, names.to_vec()), (PeerIndex(4), vec![])]);
        resolver.resolve_all();
        resolver.resolve(peer);
        let mut found = BTreeMap::new();
        while resolver.is_busy() {
            let answer = poll_fn(|cx| resolver.poll_answer(cx)).await;
            assert_eq!(answer.peer, peer);
            let again = found.insert(answer.name.host, answer.found.ok());
            assert!(again.is_none(), "the second request joined the first");
        }
        let expected = |address: &str| Some(vec![address.parse().unwrap()]);
        assert_eq!(found["127.0.0.1"], expected("127.0.0.1:18502"));
        assert_eq!(found["no such host"], None);
        assert_eq!(found["::1"], expected("[::1]:18502"));
    }

    #[tokio::test]
    async fn a_peer_can_be_asked_for_again_after_its_answer() {
        let mut resolver = Resolver::new([(PeerIndex(0), vec![name("127.0.0.1")])]);
        for _ in 0..2 {
            resolver.resolve(PeerIndex(0));
            assert!(poll_fn(|cx| resolver.poll_answer(cx)).await.found.is_ok());
        }
    }
}
