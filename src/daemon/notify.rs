//! What the service manager is told (sd_notify(3)). Without a service manager nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Sign of life for the service manager. It is given by the loop of the control thread when the data threads go round as well.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Half of the time after which the manager would act.
    interval: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    /// As the environment asks for.
    pub(super) fn start(now: Instant) -> Self {
        Self::every(now, sd_notify::watchdog_enabled().map(|patience| patience / 2))
    }

    fn every(now: Instant, interval: Option<Duration>) -> Self {
        Self { interval, due: now }
    }

    /// When it wants to be fed next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.interval.map(|_| self.due)
    }

    /// Whether it is time to ask for signs of life, and to [`Watchdog::feed`] it if there are any.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.interval.is_some() && now >= self.due
    }

    /// To be called when it is due; the manager is told if all is well.
    pub(super) fn feed(&mut self, now: Instant, well: bool) {
        let Some(interval) = self.interval else { return };
        self.due = now + interval;
        if well {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The interface is up.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon is on its way out.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::Clock;

    #[test]
    fn the_manager_is_told_at_once_and_then_at_every_interval() {
        let start = Clock::start().unwrap().now();
        let second = Duration::from_secs(1);
        let mut watchdog = Watchdog::every(start, Some(10 * second));
        let mut fed = Vec::new();
        for at in 0..25 {
            if watchdog.is_due(start + second * at) {
                watchdog.feed(start + second * at, true);
                fed.push(at);
            }
        }
        assert_eq!(fed, [0, 10, 20]);
        assert_eq!(watchdog.deadline(), Some(start + 30 * second));
    }

    #[test]
    fn without_a_watchdog_there_is_nothing_to_wait_for() {
        let start = Clock::start().unwrap().now();
        let watchdog = Watchdog::every(start, None);
        assert!(!watchdog.is_due(start + Duration::from_secs(3600)));
        assert_eq!(watchdog.deadline(), None);
    }
}
