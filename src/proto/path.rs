//! Where the packets of a session go, and how another address proves itself (PROTOCOL §8.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Rate};
use crate::base::{Link, Rng};

/// Between two pings of one check.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Pings of one check.
const CHECK_PINGS: u8 = 3;
/// Sealed pings that are answered.
const ANSWERS: Rate = Rate { per_second: 10, burst: 10 };

/// The proven address of the peer, and at most one that is being checked.
#[derive(Debug)]
pub(crate) struct Path {
    link: Link,
    check: Option<Check>,
    answers: Bucket,
}

/// A sealed ping is under way to an address from which valid packets came.
#[derive(Debug)]
struct Check {
    link: Link,
    cookie: [u8; 32],
    sent: u8,
    next_at: Instant,
}

impl Path {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, check: None, answers: Bucket::default() }
    }

    /// A valid packet arrived over `link`; `highest` says that no later one of its epoch was seen.
    ///
    /// Traffic does not move yet: whoever copies packets and sends them on from elsewhere would otherwise steer the session.
    pub(crate) fn on_packet(&mut self, now: Instant, link: Link, highest: bool, rng: &mut Rng) {
        if link.remote == self.link.remote {
            if highest && self.link.local.is_some() {
                self.link.local = link.local;
            }
            return;
        }
        if highest && self.check.is_none() {
            self.check = Some(Check { link, cookie: rng.bytes(), sent: 0, next_at: now });
        }
    }

    /// A sealed answer arrived over `link`. True if traffic moves there.
    pub(crate) fn on_answer(&mut self, link: Link, cookie: &[u8; 32]) -> bool {
        // The cookie came sealed from the peer: comparing it needs no constant time.
        let proven =
            self.check.as_ref().is_some_and(|check| check.link.remote == link.remote && check.cookie == *cookie);
        if proven {
            self.link = link;
            self.check = None;
        }
        proven
    }

    /// Whether one more sealed ping may be answered now.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        self.answers.take(now, ANSWERS)
    }

    /// The next ping of the check, if it is due.
    pub(crate) fn poll_ping(&mut self, now: Instant) -> Option<(Link, [u8; 32])> {
        let check = self.check.as_mut().filter(|check| check.next_at <= now)?;
        if check.sent == CHECK_PINGS {
            self.check = None;
            return None;
        }
        check.sent += 1;
        check.next_at = now + CHECK_INTERVAL;
        Some((check.link, check.cookie))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.check.as_ref().map(|check| check.next_at)
    }

    /// Where packets go.
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.link.remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(port: u16) -> Link {
        Link::to(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn traffic_moves_only_when_the_new_address_answers() {
        let (now, mut rng) = (crate::proto::tests::start(), Rng::from_number(1));
        let mut path = Path::new(link(1));
        path.on_packet(now, link(2), false, &mut rng);
        assert!(path.poll_ping(now).is_none(), "an old packet starts nothing");
        path.on_packet(now, link(2), true, &mut rng);
        let (to, cookie) = path.poll_ping(now).unwrap();
        assert_eq!((to, path.link()), (link(2), link(1)));
        assert!(!path.on_answer(link(3), &cookie), "the right cookie from elsewhere");
        assert!(!path.on_answer(link(2), &[0; 32]), "the wrong cookie from there");
        assert_eq!(path.link(), link(1));
        assert!(path.on_answer(link(2), &cookie));
        assert_eq!(path.link(), link(2));
    }

    #[test]
    fn a_silent_address_is_pinged_three_times() {
        let (now, mut rng) = (crate::proto::tests::start(), Rng::from_number(1));
        let mut path = Path::new(link(1));
        path.on_packet(now, link(2), true, &mut rng);
        let pings = (0..100).filter(|&i| path.poll_ping(now + CHECK_INTERVAL * i / 4).is_some()).count();
        assert_eq!(pings, 3);
        assert_eq!(path.deadline(), None);
        assert_eq!(path.link(), link(1));
    }
}
