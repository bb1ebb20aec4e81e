//! The one reader of the clock.

use std::io;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::dataplane::Present;

/// A clock that never goes back, and goes on while the machine is suspended.
///
/// The standard library's `Instant` is `CLOCK_MONOTONIC`, which stands still during suspend: a session would look as young after a night as before it, while
/// the peer has long erased it. So one `Instant` is read at the start, and what `CLOCK_BOOTTIME` has gone since then is added to it. The result may be compared
/// only with others of the same clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    boot_time: Duration,
}

impl Clock {
    /// # Errors
    /// When the kernel has no `CLOCK_BOOTTIME`.
    pub(super) fn start() -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let origin = Instant::now();
        Ok(Self { origin, boot_time: boot_time()? })
    }

    /// The present.
    pub(super) fn now(&self) -> Instant {
        // What could be read at the start can be read again.
        self.origin + boot_time().unwrap_or(self.boot_time).saturating_sub(self.boot_time)
    }

    /// The present by this clock and the wall clock.
    pub(super) fn present(&self) -> Present {
        // The wall clock can always be read.
        let since_epoch = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
        Present { now: self.now(), since_epoch }
    }

    /// How long the clock has been running.
    pub(super) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }
}

/// Notices that the machine, or this process, has stood still.
#[derive(Debug)]
pub(super) struct Standstill {
    /// What was slept through since the machine started.
    slept: Duration,
}

impl Standstill {
    /// How long nothing may happen without anyone having to know.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// Begins to notice.
    pub(super) fn watch() -> Self {
        Self { slept: slept() }
    }

    /// Whether more was slept since the last call than can be passed over; `late` is by how much an alarm came too late: a virtual machine that stands still knows of no suspend.
    pub(super) fn has_been(&mut self, late: Duration) -> bool {
        self.is_over(slept(), late)
    }

    fn is_over(&mut self, slept: Duration, late: Duration) -> bool {
        let since = slept.saturating_sub(self.slept);
        self.slept = slept;
        since.max(late) > Self::PATIENCE
    }
}

/// How long this machine was suspended since it started: `CLOCK_MONOTONIC` does not count that.
fn slept() -> Duration {
    let awake = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::MAX, Duration::from);
    boot_time().unwrap_or_default().saturating_sub(awake)
}

fn boot_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_machine_and_a_late_alarm_are_noticed_once() {
        let second = Duration::from_secs(1);
        let mut standstill = Standstill { slept: 100 * second };
        assert!(!standstill.is_over(100 * second, Duration::ZERO));
        assert!(!standstill.is_over(103 * second, Duration::ZERO), "a nap");
        assert!(standstill.is_over(110 * second, Duration::ZERO));
        assert!(!standstill.is_over(110 * second, Duration::ZERO));
        assert!(!standstill.is_over(110 * second, 3 * second));
        assert!(standstill.is_over(110 * second, 4 * second));
        assert!(!Standstill::watch().has_been(Duration::ZERO), "this machine is awake");
    }

    #[test]
    fn the_clock_runs_and_never_goes_back() {
        let clock = Clock::start().unwrap();
        let mut before = clock.now();
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now() >= before + Duration::from_millis(5));
        assert!(clock.uptime(clock.now()) >= Duration::from_millis(5));
    }
}
