//! Which extra sockets are in use, and for whom (PROTOCOL §12.8). The shell has them; here they are numbers.

use std::time::{Duration, Instant};

use super::spray::SOCKETS;
use crate::base::PeerIndex;
use crate::proto::session::Serial;

/// Sockets that carry a path, over all peers.
const MAX_KEPT: usize = 64;
/// How often it is looked whether they still do.
const LOOK: Duration = Duration::from_secs(10);

/// A socket that has found the way to a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) peer: PeerIndex,
    pub(super) socket: u16,
    /// The session that knows of it.
    pub(super) session: Serial,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    kept: Vec<Kept>,
    /// The number that was given out last.
    last: u16,
    look_at: Option<Instant>,
}

impl Outlets {
    /// When it is to be looked whether those that are kept are needed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// The first of [`SOCKETS`] numbers that follow each other and are not in use; `None` if enough sockets are kept already.
    pub(super) fn reserve(&mut self) -> Option<u16> {
        if self.kept.len() >= MAX_KEPT {
            return None;
        }
        // Each that is kept is in the way once, and the end of all numbers as well.
        for _ in 0..MAX_KEPT + 2 {
            let first = self.last.checked_add(SOCKETS).map_or(1, |_| self.last + 1);
            let range = first..=first + (SOCKETS - 1);
            self.last = *range.end();
            if !self.kept.iter().any(|kept| range.contains(&kept.socket)) {
                return Some(first);
            }
        }
        None
    }

    /// A socket is needed for longer. False if enough are kept: one search may have found the way through several.
    pub(super) fn keep(&mut self, now: Instant, kept: Kept) -> bool {
        let has_room = self.kept.len() < MAX_KEPT;
        if has_room {
            self.kept.push(kept);
            self.look_at.get_or_insert(now + LOOK);
        }
        has_room
    }

    /// Those that have led to a peer.
    pub(super) fn of(&mut self, peer: PeerIndex) -> impl Iterator<Item = &mut Kept> {
        self.kept.iter_mut().filter(move |kept| kept.peer == peer)
    }

    /// If it is time to look: gives up those that are not `needed`, and says which.
    pub(super) fn release(&mut self, now: Instant, mut needed: impl FnMut(&Kept) -> bool) -> Vec<u16> {
        if self.look_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut released = Vec::new();
        self.kept.retain(|kept| {
            let stays = needed(kept);
            released.extend((!stays).then_some(kept.socket));
            stays
        });
        self.look_at = (!self.kept.is_empty()).then(|| now + LOOK);
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerIndex = PeerIndex(3);

    #[test]
    fn numbers_are_never_0_and_never_those_of_a_socket_in_use() {
        let start = crate::proto::tests::start();
        let mut outlets = Outlets::default();
        let first = outlets.reserve().unwrap();
        let kept = Kept { peer: PEER, socket: first + 7, session: Serial(1) };
        assert!(outlets.keep(start, kept));
        for _ in 0..1000 {
            let first = outlets.reserve().unwrap();
            let last = first.checked_add(SOCKETS - 1).unwrap();
            assert!(first > 0 && !(first..=last).contains(&kept.socket));
        }
    }

    #[test]
    fn no_more_are_kept_than_stated_and_what_is_not_needed_is_given_up() {
        let start = crate::proto::tests::start();
        let mut outlets = Outlets::default();
        for _ in 0..MAX_KEPT {
            let socket = outlets.reserve().unwrap();
            assert!(outlets.keep(start, Kept { peer: PEER, socket, session: Serial(1) }));
        }
        assert_eq!(outlets.reserve(), None);
        assert!(!outlets.keep(start, Kept { peer: PEER, socket: 1, session: Serial(1) }), "a second one of a search");
        let at = outlets.deadline().unwrap();
        assert!(outlets.release(start, |_| false).is_empty(), "not yet");
        let one = outlets.of(PEER).next().unwrap().socket;
        assert_eq!(outlets.release(at, |kept| kept.socket == one).len(), MAX_KEPT - 1);
        assert!(outlets.reserve().is_some() && outlets.deadline() > Some(at));
        assert_eq!(outlets.release(at + LOOK, |_| false), [one]);
        assert_eq!(outlets.deadline(), None);
    }
}
