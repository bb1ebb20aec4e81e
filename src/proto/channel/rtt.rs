//! The round-trip estimate and the timers that follow from it (RFC 6298, RFC 8985 §7).

use std::time::Duration;

/// How long the other side may keep an acknowledgement back (PROTOCOL §10).
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(20);
/// The shortest retransmission timer.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest, after any number of doublings.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// The timer before anything was measured (RFC 6298 §2.1).
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// Clock granularity `G` of RFC 6298.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Nobody lives behind a longer round trip; keeps the arithmetic far from overflow.
const MAX_SAMPLE: Duration = Duration::from_secs(60);

/// Smoothed round trip, its variation, and the shortest one seen.
#[derive(Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<(Duration, Duration)>,
    least: Option<Duration>,
}

impl Rtt {
    /// Takes one measured round trip, of which the other side spent `delay` waiting, as it says.
    pub(super) fn sample(&mut self, measured: Duration, delay: Duration) {
        // Believed as far as waiting is allowed, so a lie cannot shorten the round trip by more.
        let sample = measured.min(MAX_SAMPLE).saturating_sub(delay.min(MAX_ACK_DELAY));
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        self.smooth(sample);
    }

    /// Takes a round trip measured elsewhere, if there is none yet.
    pub(super) fn seed(&mut self, measured: Duration) {
        if self.smoothed.is_none() {
            self.smooth(measured.min(MAX_SAMPLE));
        }
    }

    fn smooth(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }

    /// The smoothed round trip.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, _)| smoothed)
    }

    /// The shortest round trip seen; zero before the first.
    pub(super) fn least(&self) -> Duration {
        self.least.unwrap_or_default()
    }

    /// The latest moment, counted from its transmission, at which the acknowledgement of a message is to be expected.
    pub(super) fn expected(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, variation)| smoothed + (variation * 4).max(GRANULARITY) + MAX_ACK_DELAY)
    }

    /// The retransmission timer after `doublings` expiries.
    pub(super) fn timeout(&self, doublings: u32) -> Duration {
        let first = self.expected().unwrap_or(FIRST_TIMEOUT).max(MIN_TIMEOUT);
        first.saturating_mul(1 << doublings.min(8)).min(MAX_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_timer_follows_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), ms(1000));
        rtt.sample(ms(200), ms(0));
        assert_eq!(rtt.smoothed(), Some(ms(200)));
        assert_eq!(rtt.timeout(0), ms(200 + 4 * 100 + 20));
        rtt.sample(ms(280), ms(0));
        assert_eq!(rtt.smoothed(), Some(ms(210)));
        assert_eq!(rtt.timeout(0), ms(210 + 4 * 95 + 20));
    }

    #[test]
    fn the_timer_has_a_floor_and_a_ceiling() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.sample(ms(5), ms(0));
        }
        assert_eq!(rtt.timeout(0), ms(100));
        assert_eq!(rtt.timeout(3), ms(800));
        assert_eq!(rtt.timeout(1000), ms(10_000));
    }

    #[test]
    fn a_peer_cannot_lie_the_round_trip_away() {
        let mut rtt = Rtt::default();
        for _ in 0..100 {
            rtt.sample(ms(60), ms(65_535));
        }
        assert_eq!(rtt.smoothed(), Some(ms(40)));
        rtt.sample(ms(5), ms(20));
        assert_eq!(rtt.least(), ms(0));
    }

    #[test]
    fn an_honest_delay_is_taken_off() {
        let mut rtt = Rtt::default();
        for delay in [20, 0, 7, 20, 1] {
            rtt.sample(ms(30 + delay), ms(delay));
        }
        assert_eq!((rtt.smoothed(), rtt.least()), (Some(ms(30)), ms(30)));
    }

    #[test]
    fn a_seed_yields_to_what_was_measured() {
        let mut rtt = Rtt::default();
        rtt.seed(ms(30));
        assert_eq!(rtt.smoothed(), Some(ms(30)));
        assert_eq!(rtt.least(), ms(0), "the handshake is not a message");
        rtt.seed(ms(3000));
        assert_eq!(rtt.smoothed(), Some(ms(30)));
    }
}
