//! One set of keys of a session, both directions (PROTOCOL §5.3, §6).

use std::time::{Duration, Instant};

use crate::base::{Rng, SessionIndex};
use crate::crypto::aead::{Cipher, OpenKey, SealKey, TxCounter};
use crate::crypto::replay::ReplayWindow;
use crate::crypto::schedule::{EpochKeys, Role};
use crate::proto::event::Dropped;
use crate::wire::sealed::{HEADER, SealedHeader, TAG};

/// A rekey starts at this age, plus up to [`REKEY_JITTER`].
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Keeps both ends from starting at the same moment.
const REKEY_JITTER: Duration = Duration::from_secs(5);
/// Keys are refused from this age on.
const REFUSED_AFTER: Duration = Duration::from_secs(180);
/// Cipher blocks after which a rekey starts, and after which nothing is sealed any more.
const REKEY_BLOCKS: u64 = 1 << 32;
const REFUSED_BLOCKS: u64 = 1 << 33;
/// Forgeries after which a rekey starts.
const REKEY_FORGERIES: u64 = 1 << 35;

/// Keys, counters and window of one epoch.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) cipher: Cipher,
    made: Instant,
    rekey_at: Instant,
    seal: SealKey,
    counter: TxCounter,
    send: SessionIndex,
    blocks: u64,
    open: OpenKey,
    window: ReplayWindow,
    pub(crate) receive: SessionIndex,
    forgeries: u64,
    /// User data or a configured keepalive was sealed: the epoch is worth a successor.
    pub(crate) used: bool,
    /// A valid packet of the peer arrived in it.
    pub(crate) heard: bool,
}

/// A datagram that opened: its plaintext stands at `HEADER..HEADER + len`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) len: usize,
    /// Number of the epoch that opened it.
    pub(crate) epoch: u64,
    /// No packet with a higher counter was seen in this epoch.
    pub(crate) highest: bool,
}

impl Epoch {
    pub(crate) fn new(now: Instant, number: u64, keys: EpochKeys, role: Role, cipher: Cipher, rng: &mut Rng) -> Self {
        let halves = keys.split(role, cipher);
        Self {
            number,
            cipher,
            made: now,
            rekey_at: now + REKEY_AFTER + REKEY_JITTER * rng.below(1000) / 1000,
            seal: halves.seal,
            counter: TxCounter::new(),
            send: halves.send,
            blocks: 0,
            open: halves.open,
            window: ReplayWindow::new(),
            receive: halves.receive,
            forgeries: 0,
            used: false,
            heard: false,
        }
    }

    /// Seals the plaintext at `HEADER..HEADER + len` of `buffer` in place and returns the length of the datagram.
    pub(crate) fn seal(&mut self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, Dropped> {
        if now >= self.refused_at() {
            return Err(Dropped::KeyExpired);
        }
        let total = HEADER + len + TAG;
        let datagram = buffer.get_mut(..total).ok_or(Dropped::TooLarge)?;
        let nonce = self.counter.next().map_err(|_| Dropped::KeyExpired)?;
        let header = SealedHeader { index: self.send, counter: nonce.counter() }.encode();
        let (head, body) = datagram.split_at_mut(HEADER);
        head.copy_from_slice(&header);
        self.seal.seal(nonce, &header, body);
        self.blocks += len.div_ceil(16) as u64 + 1;
        Ok(total)
    }

    /// Opens `datagram` in place (PROTOCOL §6): window, tag, commit, in this order.
    pub(crate) fn open(&mut self, now: Instant, header: &SealedHeader, datagram: &mut [u8]) -> Result<Opened, Dropped> {
        if now >= self.made + REFUSED_AFTER {
            return Err(Dropped::KeyExpired);
        }
        let unseen = self.window.check(header.counter).map_err(|_| Dropped::Replayed)?;
        let Some((head, body)) = datagram.split_at_mut_checked(HEADER) else {
            return Err(Dropped::Malformed);
        };
        let Ok((plaintext, authentic)) = self.open.open(header.counter, head, body) else {
            self.forgeries += 1;
            return Err(Dropped::Forged);
        };
        let highest = self.window.highest().is_none_or(|highest| header.counter > highest);
        self.window.commit(unseen, &authentic);
        self.heard = true;
        Ok(Opened { len: plaintext.len(), epoch: self.number, highest })
    }

    /// Whether a successor should be made now (PROTOCOL §5.2).
    pub(crate) fn wants_rekey(&self, now: Instant) -> bool {
        self.rekey_at().is_some_and(|at| now >= at)
    }

    /// When a successor becomes due: by age, or long ago, by the limits of the cipher.
    pub(crate) fn rekey_at(&self) -> Option<Instant> {
        if self.is_worn() { Some(self.made) } else { self.used.then_some(self.rekey_at) }
    }

    /// When these keys stop being usable: by age, or long ago, by the limit of the cipher.
    pub(crate) fn refused_at(&self) -> Instant {
        if self.blocks >= REFUSED_BLOCKS { self.made } else { self.made + REFUSED_AFTER }
    }

    fn is_worn(&self) -> bool {
        self.blocks >= REKEY_BLOCKS || self.forgeries >= REKEY_FORGERIES
    }
}

/// States that a test cannot reach in its time.
#[cfg(test)]
impl Epoch {
    /// Two sessions of a node come to the same index only once in four thousand million.
    pub(crate) fn force_indexes(&mut self, index: SessionIndex) {
        (self.send, self.receive) = (index, index);
    }

    pub(crate) fn force_blocks(&mut self, blocks: u64) {
        self.blocks = blocks;
    }

    pub(crate) fn force_rekey(&mut self, now: Instant) {
        (self.used, self.rekey_at) = (true, now);
    }
}
