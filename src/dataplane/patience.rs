//! How long to look for the next packet before going to sleep.
//!
//! A processor that sleeps needs tens of microseconds to wake, which is most of what a round trip through an idle tunnel takes. The answer to
//! a packet often comes sooner than that. So a thread looks on for a moment, as long as it has not looked in vain for too much of its time.

use std::time::{Duration, Instant};

/// A near peer has answered within this time, and a processor has not gone to sleep deeply.
const MOMENT: Duration = Duration::from_micros(50);

/// A yield that takes longer went to somebody who had much to do.
const AWAY: Duration = Duration::from_micros(60);

/// Then nobody looks for so long.
const RESPITE: Duration = Duration::from_millis(100);

/// Of all time, the part that may be spent looking in vain: one in this many.
const SHARE: u32 = 20;

/// What may be saved up for it: a hundred moments.
const SAVINGS: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    counted: Instant,
    not_before: Instant,
}

impl Patience {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: SAVINGS, counted: now, not_before: now }
    }

    /// Until when to look on, from now.
    pub(super) fn until(&mut self, now: Instant) -> Instant {
        let earned = now.saturating_duration_since(self.counted) / SHARE;
        (self.left, self.counted) = ((self.left + earned).min(SAVINGS), now);
        if self.left < MOMENT || now < self.not_before { now } else { now + MOMENT }
    }

    /// Whether others want the processor: it was yielded at `last`, and came back only now.
    pub(super) fn is_unwelcome(&mut self, last: Instant, now: Instant) -> bool {
        let is_unwelcome = now.saturating_duration_since(last) > AWAY;
        if is_unwelcome {
            self.not_before = now + RESPITE;
        }
        is_unwelcome
    }

    /// Looked since `began`, and nothing came.
    pub(super) fn on_vain(&mut self, began: Instant, now: Instant) {
        self.left = self.left.saturating_sub(now.saturating_duration_since(began));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::sample::start;

    /// How long a thread looks in all of `rounds` rounds, between which `gap` passes, if nothing ever comes while it looks.
    fn looked(rounds: u32, gap: Duration) -> Duration {
        let mut now = start();
        let mut patience = Patience::new(now);
        let mut looked = Duration::ZERO;
        for _ in 0..rounds {
            let until = patience.until(now);
            patience.on_vain(now, until);
            looked += until - now;
            now = until + gap;
        }
        looked
    }

    #[test]
    fn a_thread_that_looks_in_vain_spends_a_twentieth_of_its_time_on_it() {
        let all = looked(100_000, Duration::from_micros(100));
        let time = Duration::from_micros(100) * 100_000 + all;
        assert!(all > time / 25 && all < time / 20 + SAVINGS, "{all:?} of {time:?}");
    }

    #[test]
    fn one_with_little_to_do_always_looks() {
        assert_eq!(looked(1000, Duration::from_millis(1)), 1000 * MOMENT);
    }

    #[test]
    fn who_finds_that_others_had_work_looks_no_more_for_a_while() {
        let now = start();
        let mut patience = Patience::new(now);
        assert!(!patience.is_unwelcome(now, now + AWAY));
        assert_eq!(patience.until(now), now + MOMENT);
        assert!(patience.is_unwelcome(now, now + 2 * AWAY));
        let soon = now + RESPITE;
        assert_eq!(patience.until(soon), soon);
        let later = now + RESPITE + 2 * AWAY;
        assert_eq!(patience.until(later), later + MOMENT);
    }

    #[test]
    fn looking_costs_nothing_when_something_comes() {
        let now = start();
        let mut patience = Patience::new(now);
        assert!((0..1000).all(|_| patience.until(now) == now + MOMENT));
    }
}
