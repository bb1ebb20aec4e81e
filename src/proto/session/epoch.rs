//! One set of keys of a session, both directions (PROTOCOL §5.3, §6).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Dropped, Rng, SessionIndex};
use crate::crypto::aead::Cipher;
use crate::crypto::schedule::{EpochKeys, Role};
use crate::envelope::{Opened, Opener, REFUSED_BLOCKS, Sealer};
use crate::wire::sealed::{HEADER, SealedHeader, TAG};

/// A rekey starts at this age, plus up to [`REKEY_JITTER`].
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Keeps both ends from starting at the same moment.
const REKEY_JITTER: Duration = Duration::from_secs(5);
/// The same for keys that no user data was sent under, of a session that is held.
const IDLE_REKEY_AFTER: Duration = Duration::from_secs(900);
/// Keys are refused from this age on.
const REFUSED_AFTER: Duration = Duration::from_secs(960);
/// Cipher blocks after which a rekey starts.
const REKEY_BLOCKS: u64 = 1 << 32;
/// Forgeries after which a rekey starts.
const REKEY_FORGERIES: u64 = 1 << 35;

/// Keys, counters and window of one epoch.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) cipher: Cipher,
    made: Instant,
    rekey_at: Instant,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) opener: Arc<Opener>,
}

impl Epoch {
    pub(crate) fn new(now: Instant, number: u64, keys: EpochKeys, role: Role, cipher: Cipher, rng: &mut Rng) -> Self {
        let halves = keys.split(role, cipher);
        let refused_at = now + REFUSED_AFTER;
        Self {
            number,
            cipher,
            made: now,
            rekey_at: now + REKEY_AFTER + REKEY_JITTER * rng.below(1000) / 1000,
            sealer: Arc::new(Sealer::new(halves.seal, halves.send, refused_at)),
            opener: Arc::new(Opener::new(halves.open, halves.receive, refused_at)),
        }
    }

    /// Seals the plaintext at `HEADER..HEADER + len` of `buffer` in place and returns the length of the datagram.
    pub(crate) fn seal(&self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, Dropped> {
        let total = HEADER + len + TAG;
        self.sealer.seal(now, buffer.get_mut(..total).ok_or(Dropped::TooLarge)?)?;
        Ok(total)
    }

    /// Opens `datagram` in place (PROTOCOL §6).
    pub(crate) fn open(&self, now: Instant, header: &SealedHeader, datagram: &mut [u8]) -> Result<Opened, Dropped> {
        self.opener.lock().open(now, header, datagram)
    }

    /// By which its datagrams are found.
    pub(crate) fn receive(&self) -> SessionIndex {
        self.opener.index()
    }

    /// When a successor becomes due: by age, or long ago, by the limits of the cipher. Of keys that are not used only if the session is held.
    pub(crate) fn rekey_at(&self, held: bool) -> Option<Instant> {
        if self.is_worn() {
            Some(self.made)
        } else if self.sealer.is_used() {
            Some(self.rekey_at)
        } else {
            held.then(|| self.rekey_at - REKEY_AFTER + IDLE_REKEY_AFTER)
        }
    }

    /// When these keys stop being usable: by age, or long ago, by the limit of the cipher.
    pub(crate) fn refused_at(&self) -> Instant {
        if self.sealer.blocks() >= REFUSED_BLOCKS { self.made } else { self.made + REFUSED_AFTER }
    }

    fn is_worn(&self) -> bool {
        self.sealer.blocks() >= REKEY_BLOCKS || self.opener.forgeries() >= REKEY_FORGERIES
    }
}

/// States that a test cannot reach in its time.
#[cfg(test)]
impl Epoch {
    /// Two sessions of a node come to the same index only once in four thousand million.
    pub(crate) fn force_indexes(&mut self, index: SessionIndex) {
        Arc::get_mut(&mut self.sealer).unwrap().force_index(index);
        Arc::get_mut(&mut self.opener).unwrap().force_index(index);
    }

    pub(crate) fn force_blocks(&self, blocks: u64) {
        self.sealer.force_blocks(blocks);
    }

    pub(crate) fn force_rekey(&mut self, now: Instant) {
        self.sealer.mark_used();
        self.rekey_at = now;
    }
}
