//! When a queue should tell its senders to slow down (RFC 8289).
//!
//! What counts is not how long a queue is but whether it ever empties: a burst that drains is what queues are for, one that stands delays everybody and
//! carries nothing more.

use std::time::{Duration, Instant};

/// The state of one queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codel {
    target: Duration,
    interval: Duration,
    /// When packets will have waited longer than the target for a whole interval, if that goes on.
    standing_at: Option<Instant>,
    /// When the next packet is told, and how many were since the queue began to stand.
    telling: Option<(Instant, u32)>,
    /// How many were told when it stood last, and until when that is worth knowing.
    last: (u32, Option<Instant>),
}

impl Codel {
    /// A queue in which packets may wait for `target`, and longer for at most an `interval`: about the round trip of those who send.
    pub(super) const fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, standing_at: None, telling: None, last: (0, None) }
    }

    /// A packet leaves the queue, after `waited`; `alone` if it was the last one. True if its sender should be told of congestion by it.
    pub(super) fn on_leave(&mut self, now: Instant, waited: Duration, alone: bool) -> bool {
        if !self.stands(now, waited, alone) {
            if let Some((at, count)) = self.telling.take() {
                self.last = (count, Some(at + 16 * self.interval));
            }
            return false;
        }
        match &mut self.telling {
            None => {
                // A queue that stands again soon goes on where it had got to, for that was nearly right.
                let (count, until) = self.last;
                let resumed = if until.is_some_and(|until| now < until) { count.saturating_sub(2).max(1) } else { 1 };
                self.telling = Some((now + spacing(self.interval, resumed), resumed));
                true
            }
            Some((at, count)) if now >= *at => {
                *count = count.saturating_add(1);
                // From the time it was due, but never in arrears: packets leave in bursts.
                *at = (*at + spacing(self.interval, *count)).max(now);
                true
            }
            Some(_) => false,
        }
    }

    fn stands(&mut self, now: Instant, waited: Duration, alone: bool) -> bool {
        if waited < self.target || alone {
            self.standing_at = None;
            return false;
        }
        now >= *self.standing_at.get_or_insert(now + self.interval)
    }
}

/// Senders halve with each packet lost, so their rate goes with the root of how often they lose one.
fn spacing(interval: Duration, count: u32) -> Duration {
    interval.div_f64(f64::from(count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn now() -> Instant {
        Instant::now()
    }

    /// Packets that leave every millisecond for `length` from `start`, each after `waited`: when one was told.
    fn told(codel: &mut Codel, start: Instant, length: u64, waited: Duration) -> Vec<u64> {
        (0..length).filter(|ms| codel.on_leave(start + Duration::from_millis(*ms), waited, false)).collect()
    }

    #[test]
    fn a_burst_that_drains_within_the_interval_is_left_alone() {
        let (mut codel, start) = (Codel::new(TARGET, INTERVAL), now());
        for round in 0..10 {
            let start = start + Duration::from_millis(100 * round);
            assert!(told(&mut codel, start, 99, Duration::from_millis(50)).is_empty());
            assert!(!codel.on_leave(start + Duration::from_millis(99), Duration::from_millis(1), false));
        }
    }

    #[test]
    fn a_standing_queue_is_told_more_and_more_often() {
        let (mut codel, start) = (Codel::new(TARGET, INTERVAL), now());
        let told = told(&mut codel, start, 1000, 2 * TARGET);
        assert_eq!(told[..4], [100, 200, 271, 329]);
        assert!(told.windows(3).all(|times| times[2] - times[1] <= times[1] - times[0]));
    }

    #[test]
    fn a_queue_that_stands_again_soon_goes_on_where_it_was() {
        let (mut codel, start) = (Codel::new(TARGET, INTERVAL), now());
        let first = told(&mut codel, start, 3000, 2 * TARGET).len();
        let later = start + Duration::from_secs(3);
        assert!(!codel.on_leave(later, Duration::ZERO, false));
        let again = told(&mut codel, later, 400, 2 * TARGET).len();
        assert!(first > 10 && again > 6, "{first} {again}");
        let much_later = later + Duration::from_secs(60);
        assert!(!codel.on_leave(much_later, Duration::ZERO, false));
        assert_eq!(told(&mut codel, much_later, 290, 2 * TARGET), [100, 200, 271]);
    }

    #[test]
    fn the_last_packet_of_a_queue_is_never_told() {
        let (mut codel, start) = (Codel::new(TARGET, INTERVAL), now());
        assert!((0..1000).all(|ms| !codel.on_leave(start + Duration::from_millis(ms), 9 * TARGET, true)));
    }
}
