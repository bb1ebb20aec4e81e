//! What a search at random ports asks of the paths: whether it has found one, and which extra sockets lead somewhere (PROTOCOL §12.8).

use std::net::IpAddr;
use std::time::Instant;

use super::Paths;
use super::candidate::Candidate;

impl Paths {
    /// The extra sockets that candidates need: those that are proven, or were given up no more than once.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = u16> {
        let needed = |known: &&Candidate| known.link.socket != 0 && (known.proven || known.may_come_back());
        self.candidates.iter().filter(needed).map(|known| known.link.socket)
    }

    /// Whether the peer was heard directly from this address, whatever the port, since `since`: then pings are on their way there.
    pub(crate) fn is_heard_at(&self, now: Instant, ip: IpAddr, since: Instant) -> bool {
        let heard = |known: &Candidate| known.heard.is_some_and(|at| at >= since) || known.is_asked(now);
        self.candidates.iter().any(|known| known.link.remote.ip() == ip && heard(known))
    }
}
