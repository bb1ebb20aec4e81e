//! A timer of the kernel that goes on counting while the machine is suspended, and is exact to the microsecond.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::watch;

/// One alarm on `CLOCK_BOOTTIME`.
///
/// The runtime's own timers count milliseconds of `CLOCK_MONOTONIC`, which stands still during suspend: after a night a laptop would wait for the rest
/// of its last timer before it noticed that every session is gone.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// A second descriptor of the timer.
    watched: AsyncFd<Arc<OwnedFd>>,
}

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let second = std::os::fd::AsFd::as_fd(&timer).try_clone_to_owned()?;
        Ok(Self { timer, watched: watch(Arc::new(second), Interest::READABLE)? })
    }

    /// Sets the alarm to go off once, `delay` from now; what was set before is forgotten.
    ///
    /// # Errors
    /// Never in practice.
    pub fn set(&self, delay: Duration) -> io::Result<()> {
        // Zero would stop the timer.
        let delay = TimeSpec::from(delay.max(Duration::from_nanos(1)));
        Ok(self.timer.set(Expiration::OneShot(delay), TimerSetTimeFlags::empty())?)
    }

    /// Ready once when the alarm has gone off.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.watched.poll_read_ready(cx))?;
            let mut expirations = [0; 8];
            match guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut expirations)?)) {
                Ok(result) => return Poll::Ready(result.map(drop)),
                // Not expired after all: wait again.
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_alarm_goes_off_once_and_the_last_setting_counts() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Duration::from_secs(3600)).unwrap();
        alarm.set(Duration::from_millis(1)).unwrap();
        poll_fn(|cx| alarm.poll_expired(cx)).await.unwrap();
        let again = tokio::time::timeout(Duration::from_millis(20), poll_fn(|cx| alarm.poll_expired(cx))).await;
        assert!(again.is_err(), "it does not go off twice");
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_goes_off_at_once() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Duration::ZERO).unwrap();
        poll_fn(|cx| alarm.poll_expired(cx)).await.unwrap();
    }
}
