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

fn boot_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
