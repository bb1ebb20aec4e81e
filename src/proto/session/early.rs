//! User data that left before the peer was known to hear it (PROTOCOL §8.1).
//!
//! After an introduction the first way may lead in one direction only. What went there is sent again on the next one, byte for byte: so the peer's replay window takes it once,
//! whichever way it came.

use std::collections::VecDeque;

use super::{Session, Stage};
use crate::base::Link;

/// Datagrams that are kept; of more, the first are what the peer waits for.
const MAX_DATAGRAMS: usize = 32;

/// Sealed datagrams of a session that is not confirmed.
#[derive(Debug, Default)]
pub(super) struct Early {
    sent: Vec<Box<[u8]>>,
    due: VecDeque<Box<[u8]>>,
}

impl Early {
    pub(super) fn keep(&mut self, datagram: &[u8]) {
        if self.sent.len() < MAX_DATAGRAMS {
            self.sent.push(datagram.into());
        }
    }

    pub(super) fn repeat(&mut self) {
        self.due = self.sent.iter().cloned().collect();
    }
}

impl Session {
    /// The next datagram that is sent once more, and where. To be asked after control records have left: the peer cannot open user data before it has `finish`.
    pub(crate) fn poll_early(&mut self) -> Option<(Link, Box<[u8]>)> {
        let link = self.path.link();
        let early = self.early.as_mut().filter(|_| matches!(self.stage, Stage::Finishing))?;
        early.due.pop_front().map(|datagram| (link, datagram))
    }
}
