//! Which counters of one opening key have been seen (PROTOCOL §6, after RFC 6479).

use thiserror::Error;

use super::aead::Authentic;

/// How many counters the window spans.
pub const WINDOW: u64 = 8192;

const BLOCK_BITS: u64 = u64::BITS as u64;
/// One block more than the window fills, so that the block of the highest counter may be partly ahead of it.
const BLOCKS: usize = (WINDOW / BLOCK_BITS) as usize + 1;

/// A bit for each of the last [`WINDOW`] counters, in blocks that are reused in a ring: moving forward clears whole blocks and shifts nothing.
///
/// Counters begin at 0, and most keys see few of them. So blocks come as counters do, and the ring closes when all are there: before that, each block stands at its own number.
#[derive(Debug)]
pub struct ReplayWindow {
    highest: Option<u64>,
    seen: Box<[u64]>,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self { highest: None, seen: Box::default() }
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
            Some(behind) => {
                behind >= WINDOW || self.seen.get(slot(counter)).is_some_and(|seen| seen & bit(counter) != 0)
            }
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
        if self.highest.is_some_and(|highest| highest - counter < WINDOW)
            && let Some(seen) = self.seen.get_mut(slot(counter))
        {
            *seen |= bit(counter);
        }
    }

    /// The highest counter that was committed.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn advance(&mut self, counter: u64) {
        let block = counter / BLOCK_BITS;
        let last = self.highest.map_or(0, |highest| highest / BLOCK_BITS);
        if self.seen.len() < BLOCKS && block >= self.seen.len() as u64 {
            self.grow(block);
        }
        if block - last >= BLOCKS as u64 {
            self.seen.fill(0);
        } else {
            for fresh in last + 1..=block {
                if let Some(seen) = self.seen.get_mut((fresh % BLOCKS as u64) as usize) {
                    *seen = 0;
                }
            }
        }
        self.highest = Some(counter);
    }

    /// Makes room for `block`, in steps that double.
    #[cold]
    fn grow(&mut self, block: u64) {
        let wanted = usize::try_from(block).map_or(BLOCKS, |block| block.min(BLOCKS - 1) + 1);
        let mut seen = vec![0; wanted.next_power_of_two().min(BLOCKS)].into_boxed_slice();
        for (new, old) in seen.iter_mut().zip(&self.seen) {
            *new = *old;
        }
        self.seen = seen;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn accept(window: &mut ReplayWindow, counter: u64) -> bool {
        match window.check(counter) {
            Ok(unseen) => {
                window.commit(unseen, &Authentic::forged(counter));
                true
            }
            Err(Replayed) => false,
        }
    }

    /// PROTOCOL §6 as a sentence, with memory without end.
    #[derive(Default)]
    struct Oracle(BTreeSet<u64>);

    impl Oracle {
        fn accept(&mut self, counter: u64) -> bool {
            let too_old = self.0.last().is_some_and(|&highest| highest >= counter && highest - counter >= WINDOW);
            !too_old && self.0.insert(counter)
        }
    }

    #[test]
    fn a_counter_is_accepted_once() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.highest(), None);
        assert!(accept(&mut window, 0));
        assert!(!accept(&mut window, 0));
        assert_eq!(window.highest(), Some(0));
    }

    #[test]
    fn a_check_changes_nothing() {
        let mut window = ReplayWindow::new();
        assert!(accept(&mut window, 10));
        for counter in [3, 1_000_000] {
            drop(window.check(counter).unwrap());
            assert_eq!(window.highest(), Some(10));
            drop(window.check(counter).unwrap());
        }
        assert_eq!(window.check(10).unwrap_err(), Replayed);
    }

    #[test]
    fn the_window_spans_8192_counters_wherever_it_stands() {
        for highest in (8192..8192 + 130).chain([u64::MAX - 1, u64::MAX]) {
            let mut window = ReplayWindow::new();
            assert!(accept(&mut window, highest));
            assert!(!accept(&mut window, highest - 8192), "8192 behind {highest}");
            assert!(accept(&mut window, highest - 8191), "8191 behind {highest}");
            assert!(!accept(&mut window, highest - 8191), "twice 8191 behind {highest}");
        }
    }

    #[test]
    fn everything_in_the_window_may_come_in_reverse_order_once() {
        let mut window = ReplayWindow::new();
        let (low, high) = (100_000, 100_000 + WINDOW);
        assert!((low..high).rev().all(|counter| accept(&mut window, counter)));
        assert!((0..high).all(|counter| !accept(&mut window, counter)));
    }

    #[test]
    fn a_window_grows_with_its_counters_and_no_further_than_it_spans() {
        let mut window = ReplayWindow::new();
        let mut blocks = Vec::new();
        for counter in 0..3 * WINDOW {
            assert!(accept(&mut window, counter) && !accept(&mut window, counter));
            blocks.push(window.seen.len());
        }
        assert!(blocks.is_sorted());
        blocks.dedup();
        assert_eq!(blocks, [1, 2, 4, 8, 16, 32, 64, 128, BLOCKS]);
        assert!((2 * WINDOW..3 * WINDOW).all(|counter| !accept(&mut window, counter)));
    }

    #[test]
    fn a_counter_that_the_window_left_behind_since_its_check_marks_no_other() {
        let mut window = ReplayWindow::new();
        let stale = window.check(5).unwrap();
        let highest = 5 + BLOCKS as u64 * BLOCK_BITS;
        assert!(accept(&mut window, highest));
        window.commit(stale, &Authentic::forged(5));
        assert_eq!(window.highest(), Some(highest));
        assert!((highest - WINDOW + 1..highest).all(|counter| window.check(counter).is_ok()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            start in prop_oneof![Just(0), Just(u64::MAX - 40_000), any::<u64>()],
            steps in prop::collection::vec(
                prop_oneof![
                    4 => -70_i64..70,
                    2 => -8_300_i64..-8_100,
                    2 => -8_300_i64..8_300,
                    1 => 8_100_i64..8_400,
                    1 => -100_000_i64..100_000,
                ],
                1..400,
            ),
        ) {
            let (mut window, mut oracle) = (ReplayWindow::new(), Oracle::default());
            let mut highest = start;
            for step in steps {
                let counter = highest.saturating_add_signed(step);
                prop_assert_eq!(accept(&mut window, counter), oracle.accept(counter), "counter {}", counter);
                highest = oracle.0.last().copied().unwrap_or(start);
                prop_assert_eq!(window.highest(), Some(highest));
            }
        }
    }
}
