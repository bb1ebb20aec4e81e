//! The sealing direction of one epoch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::base::{Dropped, SessionIndex};
use crate::crypto::aead::{SealKey, TxCounter};
use crate::wire::sealed::{HEADER, SealedHeader, TAG};

/// Cipher blocks of 16 bytes after which nothing is sealed any more (PROTOCOL §5.3).
pub const REFUSED_BLOCKS: u64 = 1 << 33;

/// Key, counter and limits of one epoch towards the peer.
#[derive(Debug)]
pub struct Sealer {
    key: SealKey,
    counter: TxCounter,
    index: SessionIndex,
    refused_at: Instant,
    blocks: AtomicU64,
    used: AtomicBool,
}

impl Sealer {
    /// Nothing is sealed from `refused_at` on.
    pub fn new(key: SealKey, index: SessionIndex, refused_at: Instant) -> Self {
        Self {
            key,
            counter: TxCounter::new(),
            index,
            refused_at,
            blocks: AtomicU64::new(0),
            used: AtomicBool::new(false),
        }
    }

    /// Seals `datagram` in place: room for the header, the plaintext, room for the tag.
    ///
    /// # Errors
    /// [`Dropped::KeyExpired`] when the key has reached a limit; [`Dropped::TooLarge`] if there is no room for header and tag. Nothing was written then.
    pub fn seal(&self, now: Instant, datagram: &mut [u8]) -> Result<(), Dropped> {
        if now >= self.refused_at || self.blocks() >= REFUSED_BLOCKS {
            return Err(Dropped::KeyExpired);
        }
        let len = datagram.len().checked_sub(HEADER + TAG).ok_or(Dropped::TooLarge)?;
        let nonce = self.counter.next().map_err(|_| Dropped::KeyExpired)?;
        let header = SealedHeader { index: self.index, counter: nonce.counter() }.encode();
        let (head, body) = datagram.split_at_mut(HEADER);
        head.copy_from_slice(&header);
        self.key.seal(nonce, &header, body);
        self.blocks.fetch_add(len.div_ceil(16) as u64 + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that user data, or a configured keepalive, was sealed: the epoch is worth a successor.
    pub fn mark_used(&self) {
        // Looked at first: a line of the cache that nobody writes is shared by all threads.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the epoch is worth a successor.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Cipher blocks sealed so far.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// For tests of limits that none reaches in its time.
    #[cfg(test)]
    pub(crate) fn force_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Ordering::Relaxed);
    }

    /// For tests of two sessions with one index.
    #[cfg(test)]
    pub(crate) fn force_index(&mut self, index: SessionIndex) {
        self.index = index;
    }
}
