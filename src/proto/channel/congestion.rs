//! CUBIC (RFC 9438), counted in messages: how many may be under way at once. Knows nothing of what they carry.

use std::time::{Duration, Instant};

/// Window of a new session, and of one that was idle (PROTOCOL §10; RFC 5681 §4.1).
const INITIAL: f64 = 10.0;
/// Window after a timeout (RFC 5681 §3.1).
const AFTER_TIMEOUT: f64 = 1.0;
/// No reduction goes below.
const LEAST: f64 = 2.0;
/// Far above what the memory of a session lets anybody use.
const MOST: f64 = 8192.0;
/// `C` of RFC 9438, in messages per cubic second.
const AGGRESSION: f64 = 0.4;
/// `β_cubic`.
const REMAINING: f64 = 0.7;
/// `α_cubic` until the window that Reno would have reaches the one before the reduction.
const RENO_SLOPE: f64 = 3.0 * (1.0 - REMAINING) / (1.0 + REMAINING);

/// The congestion window of a session.
#[derive(Debug)]
pub(super) struct Cubic {
    window: f64,
    /// Slow start below this.
    threshold: f64,
    /// `W_max`: where the last reduction happened; the plateau of the curve.
    plateau: f64,
    /// `cwnd_prior`: the window before the last reduction.
    prior: f64,
    avoidance: Option<Avoidance>,
}

/// One stretch of congestion avoidance.
#[derive(Debug)]
struct Avoidance {
    began: Instant,
    /// `K`: seconds from `began` until the curve reaches its plateau.
    to_plateau: f64,
    plateau: f64,
    /// `W_est`: what Reno would have.
    reno: f64,
}

impl Cubic {
    pub(super) const fn new() -> Self {
        Self { window: INITIAL, threshold: f64::INFINITY, plateau: 0.0, prior: 0.0, avoidance: None }
    }

    /// How many messages may be under way.
    pub(super) const fn window(&self) -> usize {
        self.window as usize
    }

    /// `arrived` messages were acknowledged, when `flight` were under way.
    pub(super) fn on_arrived(&mut self, now: Instant, arrived: u32, flight: usize, rtt: Duration) {
        let arrived = f64::from(arrived);
        let flight = flight as f64;
        if self.window < self.threshold {
            // RFC 9438 §5.8: a window that is not filled has proved nothing. In slow start it may run ahead by its doubling.
            if flight * 2.0 >= self.window {
                self.window = (self.window + arrived).min(self.threshold.max(LEAST)).min(MOST);
            }
            return;
        }
        if flight + 1.0 < self.window {
            // The curve stands still as well, or it would leap once there is something to send.
            self.avoidance = None;
            return;
        }
        let (window, plateau, prior) = (self.window, self.plateau, self.prior);
        let avoidance = self.avoidance.get_or_insert_with(|| Avoidance::new(now, window, plateau));
        let elapsed = now.saturating_duration_since(avoidance.began).as_secs_f64();
        let target = avoidance.curve(elapsed + rtt.as_secs_f64()).clamp(window, 1.5 * window);
        let slope = if avoidance.reno >= prior { 1.0 } else { RENO_SLOPE };
        avoidance.reno += slope * arrived / window;
        self.window = if avoidance.curve(elapsed) < avoidance.reno {
            avoidance.reno.max(window)
        } else {
            window + (target - window) * arrived / window
        };
        self.window = self.window.min(MOST);
    }

    /// Something was lost; called at most once per round trip.
    pub(super) fn on_loss(&mut self) {
        // RFC 9438 §4.7, fast convergence: whoever has to back off twice in a row makes room for a new flow.
        self.plateau = if self.window < self.plateau { self.window * (1.0 + REMAINING) / 2.0 } else { self.window };
        self.prior = self.window;
        self.threshold = (self.window * REMAINING).max(LEAST);
        self.window = self.threshold;
        self.avoidance = None;
    }

    /// The retransmission timer expired; `again` if it is not the first time since anything arrived.
    pub(super) fn on_timeout(&mut self, again: bool) {
        if !again {
            self.on_loss();
            // RFC 9438 §4.8: the curve after a timeout begins at its plateau.
            self.plateau = 0.0;
        }
        self.window = AFTER_TIMEOUT;
        self.avoidance = None;
    }

    /// Sending starts again after nothing was under way for longer than the retransmission timer (RFC 5681 §4.1).
    pub(super) fn on_idle(&mut self) {
        if self.window > INITIAL {
            self.threshold = self.threshold.min(self.window).max(self.window * 0.75);
            self.window = INITIAL;
        }
        self.avoidance = None;
    }
}

impl Avoidance {
    fn new(now: Instant, window: f64, plateau: f64) -> Self {
        let plateau = plateau.max(window);
        let to_plateau = ((plateau - window) / AGGRESSION).cbrt();
        Self { began: now, to_plateau, plateau, reno: window }
    }

    /// `W_cubic`, `elapsed` seconds after the beginning.
    fn curve(&self, elapsed: f64) -> f64 {
        AGGRESSION * (elapsed - self.to_plateau).powi(3) + self.plateau
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a virtual clock")]
    fn start() -> Instant {
        Instant::now()
    }

    /// One round trip in which the whole window is used and acknowledged, two messages at a time.
    fn round(cubic: &mut Cubic, now: Instant) {
        let flight = cubic.window();
        for _ in 0..flight.div_ceil(2) {
            cubic.on_arrived(now, 2, flight.max(cubic.window()), RTT);
        }
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let (mut cubic, now) = (Cubic::new(), start());
        assert_eq!(cubic.window(), 10);
        round(&mut cubic, now);
        assert_eq!(cubic.window(), 20);
        round(&mut cubic, now + RTT);
        assert_eq!(cubic.window(), 40);
    }

    #[test]
    fn a_reduction_keeps_seven_tenths_and_the_curve_comes_back_after_k_seconds() {
        let (mut cubic, mut now) = (Cubic::new(), start());
        while cubic.window() < 1000 {
            round(&mut cubic, now);
        }
        let before = cubic.window();
        cubic.on_loss();
        assert_eq!(cubic.window(), before * 7 / 10);
        let k = (before as f64 * 0.3 / 0.4).cbrt();
        let begin = now;
        while now < begin + Duration::from_secs_f64(k) {
            assert!(cubic.window() <= before + 1, "no faster than the curve");
            round(&mut cubic, now);
            now += RTT;
        }
        assert!(cubic.window() * 100 >= before * 98, "{} of {before}", cubic.window());
    }

    #[test]
    fn on_short_paths_it_grows_at_least_as_reno() {
        let (mut cubic, mut now) = (Cubic::new(), start());
        round(&mut cubic, now);
        cubic.on_loss();
        let from = cubic.window();
        for _ in 0..100 {
            let flight = cubic.window();
            cubic.on_arrived(now, flight as u32, flight, Duration::from_millis(1));
            now += Duration::from_millis(1);
        }
        assert!(cubic.window() >= from + 50, "{} after {from}", cubic.window());
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let (mut cubic, now) = (Cubic::new(), start());
        for _ in 0..1000 {
            cubic.on_arrived(now, 1, 2, RTT);
        }
        assert_eq!(cubic.window(), 10);
        cubic.on_loss();
        for second in 0..1000 {
            cubic.on_arrived(now + Duration::from_secs(second), 1, 2, RTT);
        }
        assert_eq!(cubic.window(), 7);
    }

    #[test]
    fn a_timeout_starts_over_up_to_the_reduced_window() {
        let (mut cubic, now) = (Cubic::new(), start());
        for _ in 0..3 {
            round(&mut cubic, now);
        }
        cubic.on_timeout(false);
        cubic.on_timeout(true);
        assert_eq!(cubic.window(), 1);
        for _ in 0..6 {
            round(&mut cubic, now);
        }
        assert!((56..60).contains(&cubic.window()), "{}", cubic.window());
    }

    #[test]
    fn after_a_pause_it_begins_with_the_initial_window_and_soon_has_the_old_one() {
        let (mut cubic, now) = (Cubic::new(), start());
        for _ in 0..5 {
            round(&mut cubic, now);
        }
        let before = cubic.window();
        cubic.on_idle();
        assert_eq!(cubic.window(), 10);
        for _ in 0..6 {
            round(&mut cubic, now);
        }
        assert!(cubic.window() * 4 >= before * 3);
    }

    #[test]
    fn the_window_stays_within_its_bounds() {
        let (mut cubic, now) = (Cubic::new(), start());
        for _ in 0..20 {
            round(&mut cubic, now);
        }
        assert_eq!(cubic.window(), 8192);
        for _ in 0..100 {
            cubic.on_loss();
        }
        assert_eq!(cubic.window(), 2);
    }
}
