//! The lines of a world: how long they take, what they lose, and how much they carry.

use std::time::{Duration, Instant};

/// One direction between two hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) delay: Duration,
    /// Up to this much is added at random; more than the distance between packets, it reorders them.
    pub(crate) jitter: Duration,
    /// Of a thousand datagrams, so many are lost.
    pub(crate) loss: u32,
    /// Of a thousand, so many arrive twice.
    pub(crate) duplicates: u32,
    pub(crate) up: bool,
    /// Longer IP packets are lost without a word.
    pub(crate) mtu: usize,
    /// Of a thousand ECN-capable datagrams, so many are marked: congestion experienced.
    pub(crate) marks: u32,
    /// How much it carries; without limit if `None`.
    pub(crate) rate: Option<Rate>,
}

impl Line {
    /// A line that loses nothing.
    pub(crate) const fn clean(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0, duplicates: 0, up: true, mtu: 1500, marks: 0, rate: None }
    }

    /// A line that loses, repeats and reorders.
    pub(crate) const fn rough(delay: Duration, loss: u32) -> Self {
        Self { jitter: delay, loss, duplicates: 10, ..Self::clean(delay) }
    }
}

/// What a link carries, and how much waits in front of it before it loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) bytes_per_second: u64,
    /// In bytes of IP packets.
    pub(crate) queue: u64,
}

/// The queue in front of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    /// When the last byte of what waits will have left.
    empty_at: Instant,
}

impl Queue {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// When the last byte of a packet that comes now leaves; `None` if the queue has no room for it.
    pub(crate) fn admit(&mut self, now: Instant, rate: Rate, len: usize) -> Option<Instant> {
        let waiting = self.empty_at.saturating_duration_since(now);
        let bytes_waiting = waiting.as_nanos() * u128::from(rate.bytes_per_second) / 1_000_000_000;
        if bytes_waiting + len as u128 > u128::from(rate.queue) {
            return None;
        }
        let takes = Duration::from_nanos(len as u64 * 1_000_000_000 / rate.bytes_per_second.max(1));
        self.empty_at = self.empty_at.max(now) + takes;
        Some(self.empty_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_rate_and_loses_what_finds_the_queue_full() {
        #[expect(clippy::disallowed_methods, reason = "a test needs one arbitrary moment to start from")]
        let begin = Instant::now();
        let rate = Rate { bytes_per_second: 100_000, queue: 5_000 };
        let mut queue = Queue::new(begin);
        let leave: Vec<_> = (0..7).map(|_| queue.admit(begin, rate, 1000)).collect();
        let expected = (1..=5).map(|number| Some(begin + Duration::from_millis(10 * number)));
        assert_eq!(leave, expected.chain([None, None]).collect::<Vec<_>>());
        let later = begin + Duration::from_millis(20);
        assert_eq!(queue.admit(later, rate, 1000), Some(begin + Duration::from_millis(60)), "two have left");
        let much_later = begin + Duration::from_secs(10);
        assert_eq!(queue.admit(much_later, rate, 1000), Some(much_later + Duration::from_millis(10)));
    }
}
