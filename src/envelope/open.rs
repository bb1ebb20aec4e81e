//! The opening direction of one epoch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::{Dropped, SessionIndex};
use crate::crypto::aead::OpenKey;
use crate::crypto::replay::ReplayWindow;
use crate::wire::sealed::{HEADER, SealedHeader};

/// Key, replay window and limits of one epoch from the peer.
#[derive(Debug)]
pub struct Opener {
    key: OpenKey,
    index: SessionIndex,
    refused_at: Instant,
    /// Datagrams of one peer nearly always come to one thread, so this is nearly never contended.
    window: Mutex<ReplayWindow>,
    forgeries: AtomicU64,
}

/// A datagram that opened: its plaintext stands at `HEADER..HEADER + len`.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Length of the plaintext.
    pub len: usize,
    /// No packet with a higher counter was seen in this epoch.
    pub highest: bool,
}

impl Opener {
    /// Nothing is opened from `refused_at` on.
    pub fn new(key: OpenKey, index: SessionIndex, refused_at: Instant) -> Self {
        Self { key, index, refused_at, window: Mutex::new(ReplayWindow::new()), forgeries: AtomicU64::new(0) }
    }

    /// The right to open, for one datagram or a train of them.
    pub fn lock(&self) -> Opening<'_> {
        // A window is whole whenever it can be seen: a panic elsewhere has not broken it.
        Opening { opener: self, window: self.window.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Under which datagrams for it arrive.
    pub fn index(&self) -> SessionIndex {
        self.index
    }

    /// Whether a valid packet of the peer arrived in this epoch.
    pub fn has_heard(&self) -> bool {
        self.lock().window.highest().is_some()
    }

    /// Datagrams that did not open.
    pub fn forgeries(&self) -> u64 {
        self.forgeries.load(Ordering::Relaxed)
    }

    /// For tests of two sessions with one index.
    #[cfg(test)]
    pub(crate) fn force_index(&mut self, index: SessionIndex) {
        self.index = index;
    }
}

/// See [`Opener::lock`].
#[derive(Debug)]
pub struct Opening<'a> {
    opener: &'a Opener,
    window: MutexGuard<'a, ReplayWindow>,
}

impl Opening<'_> {
    /// Opens `datagram` in place (PROTOCOL §6): window, tag, commit, in this order.
    ///
    /// # Errors
    /// Why it was dropped. Nothing has changed then but the bytes of the datagram, and the count of forgeries.
    pub fn open(&mut self, now: Instant, header: &SealedHeader, datagram: &mut [u8]) -> Result<Opened, Dropped> {
        if now >= self.opener.refused_at {
            return Err(Dropped::KeyExpired);
        }
        let unseen = self.window.check(header.counter).map_err(|_| Dropped::Replayed)?;
        let (head, body) = datagram.split_at_mut_checked(HEADER).ok_or(Dropped::Malformed)?;
        let Ok((plaintext, authentic)) = self.opener.key.open(header.counter, head, body) else {
            self.opener.forgeries.fetch_add(1, Ordering::Relaxed);
            return Err(Dropped::Forged);
        };
        let highest = self.window.highest().is_none_or(|highest| header.counter > highest);
        self.window.commit(unseen, &authentic);
        Ok(Opened { len: plaintext.len(), highest })
    }
}
