//! Which counters of one opening key have been seen (PROTOCOL §6, after RFC 6479).

use thiserror::Error;

use super::aead::Authentic;

/// How many counters the window spans.
pub const WINDOW: u64 = 8192;

const BLOCK_BITS: u64 = u64::BITS as u64;
/// One block more than the window fills, so that the block of the highest counter may be partly ahead of it.
const BLOCKS: usize = (WINDOW / BLOCK_BITS) as usize + 1;

/// A bit for each of the last [`WINDOW`] counters, in blocks that are reused in a ring: moving forward clears whole blocks and shifts nothing.
#[derive(Debug)]
pub struct ReplayWindow {
    highest: Option<u64>,
    seen: Box<[u64; BLOCKS]>,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self { highest: None, seen: Box::new([0; BLOCKS]) }
    }

    /// Whether `counter` may still come; changes nothing, for the packet is not authentic yet.
    ///
    /// # Errors
    ///
    /// [`Replayed`] if it was seen, or is [`WINDOW`] or more behind the highest one seen.
    pub fn check(&self, counter: u64) -> Result<Unseen, Replayed> {
        let Some(highest) = self.highest else { return Ok(Unseen(counter)) };
        let seen = match highest.checked_sub(counter) {
            None => false,
            Some(behind) => behind >= WINDOW || self.seen[slot(counter)] & bit(counter) != 0,
        };
        if seen { Err(Replayed) } else { Ok(Unseen(counter)) }
    }

    /// Notes the counter that was checked, once its packet has been opened.
    pub fn commit(&mut self, unseen: Unseen, proof: &Authentic) {
        let Unseen(counter) = unseen;
        debug_assert_eq!(counter, proof.counter(), "the packet that was opened is not the one that was checked");
        if self.highest.is_none_or(|highest| counter > highest) {
            self.advance(counter);
        }
        // Between check and commit the window may have left this counter behind; its slot then belongs to another.
        if self.highest.is_some_and(|highest| highest - counter < WINDOW) {
            self.seen[slot(counter)] |= bit(counter);
        }
    }

    /// The highest counter that was committed.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn advance(&mut self, counter: u64) {
        let block = counter / BLOCK_BITS;
        let last = self.highest.map_or(0, |highest| highest / BLOCK_BITS);
        if block - last >= BLOCKS as u64 {
            self.seen.fill(0);
        } else {
            (last + 1..=block).for_each(|fresh| self.seen[(fresh % BLOCKS as u64) as usize] = 0);
        }
        self.highest = Some(counter);
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

fn slot(counter: u64) -> usize {
    (counter / BLOCK_BITS % BLOCKS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % BLOCK_BITS)
}

/// A counter that was not seen when it was checked; [`ReplayWindow::commit`] takes it.
#[derive(Debug)]
#[must_use = "commit it when the packet has been opened"]
pub struct Unseen(u64);

/// The counter was seen before, or is too old to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("replayed counter")]
pub struct Replayed;
