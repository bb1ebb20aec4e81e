//! What is under way, over all channels of a session: in which order it was transmitted, what of it is lost, and how much more may go
//! (PROTOCOL §10, "Loss" and "Congestion").
//!
//! Transmissions are numbered for the whole session; a repeated message gets a new number. A message is lost when three later transmissions
//! have passed it. Acknowledgements are only noted when they come and judged by [`Recovery::settle`], after the whole packet was read: one
//! packet may carry the frames of several channels, and the first of them must not make the messages of the second look lost.
//!
//! Two timers run while something is under way, none otherwise. The tail probe comes first: nothing follows the last messages of a burst
//! that could show their loss, so two of them are repeated; two, because the repetition of the last and the one before then passes
//! everything else by three. It is used once until a round trip was measured: on a path that became slower, a probe would otherwise spoil
//! each measurement. The retransmission timer then gives everything up that is older than a round trip, and starts over with a window of
//! one message.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::congestion::Cubic;
use super::rtt::Rtt;

/// How many later transmissions must have arrived before a message counts as lost.
const REORDERING: u64 = 3;
/// Expiries in a row, without any acknowledgement, after which the session is at its end.
const MAX_EXPIRIES: u32 = 12;

/// One transmission that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmission {
    pub(super) channel: u8,
    /// The message.
    pub(super) number: u64,
    at: Instant,
    repeated: bool,
    probe: bool,
}

/// The newest transmission that one acknowledgement names: the one to measure the round trip by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    transmission: u64,
    at: Instant,
    repeated: bool,
}

/// The sender's view of the path.
#[derive(Debug)]
pub(super) struct Recovery {
    under_way: BTreeMap<u64, Transmission>,
    next: u64,
    /// The newest transmission that is known to have arrived.
    newest: Option<u64>,
    /// Losses of transmissions before this one belong to a reduction that was made already.
    reduced_at: u64,
    /// Noted since the last settlement: arrivals in all, those that may widen the window, and a loss that a tail probe has healed.
    arrived: usize,
    counted: u32,
    healed: Option<u64>,
    rtt: Rtt,
    congestion: Cubic,
    /// When something was last acknowledged, or the tail probe was sent.
    progress: Instant,
    /// When something last left or arrived.
    active: Instant,
    doublings: u32,
    expiries: u32,
    tail_allowed: bool,
    /// Transmissions that wait to be repeated as the tail probe.
    tail: [Option<u64>; 2],
}

impl Recovery {
    pub(super) const fn new(now: Instant, rtt: Rtt) -> Self {
        Self {
            under_way: BTreeMap::new(),
            next: 0,
            newest: None,
            reduced_at: 0,
            arrived: 0,
            counted: 0,
            healed: None,
            rtt,
            congestion: Cubic::new(),
            progress: now,
            active: now,
            doublings: 0,
            expiries: 0,
            tail_allowed: true,
            tail: [None; 2],
        }
    }

    /// Notes that message `number` of `channel` leaves now; returns the number of the transmission.
    pub(super) fn on_transmit(&mut self, now: Instant, channel: u8, number: u64, repeated: bool) -> u64 {
        if self.under_way.is_empty() && now.saturating_duration_since(self.active) > self.rtt.timeout(0) {
            self.congestion.on_idle();
        }
        self.active = now;
        let transmission = self.next;
        self.next += 1;
        self.under_way.insert(transmission, Transmission { channel, number, at: now, repeated, probe: false });
        transmission
    }

    /// Notes that a transmission was acknowledged; `newest` collects over the acknowledgement.
    pub(super) fn on_arrived(&mut self, now: Instant, transmission: u64, newest: &mut Option<Newest>) {
        let Some(sent) = self.under_way.remove(&transmission) else { return };
        self.arrived += 1;
        // What was under way at a reduction says nothing about the window after it.
        self.counted += u32::from(transmission >= self.reduced_at);
        // Within less than any round trip it is an earlier transmission of the message that is acknowledged (RFC 8985 §6.2).
        let believed = !sent.repeated || now.saturating_duration_since(sent.at) >= self.rtt.least();
        if believed {
            self.newest = self.newest.max(Some(transmission));
            if sent.probe {
                self.healed = self.healed.max(Some(transmission));
            }
        }
        if newest.is_none_or(|newest| newest.transmission < transmission) {
            *newest = Some(Newest { transmission, at: sent.at, repeated: sent.repeated });
        }
    }

    /// Any acknowledgement at all came: the other side lives.
    pub(super) const fn on_sign_of_life(&mut self) {
        self.expiries = 0;
    }

    /// Ends one acknowledgement. `delay` is what the other side says it waited; `None` if it did not say, and then nothing is measured.
    pub(super) fn on_acknowledged(&mut self, now: Instant, newest: Newest, delay: Option<Duration>) {
        self.progress = now;
        self.active = now;
        self.expiries = 0;
        self.tail = [None; 2];
        if let (false, Some(delay)) = (newest.repeated, delay) {
            self.rtt.sample(now.saturating_duration_since(newest.at), delay);
            self.doublings = 0;
            self.tail_allowed = true;
        }
    }

    /// Whether acknowledgements wait to be judged.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.arrived > 0
    }

    /// Judges what was noted, and returns what is lost by it.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Transmission> {
        if !self.is_unsettled() {
            return Vec::new();
        }
        let flight = self.under_way.len() + self.arrived;
        let mut lost = Vec::new();
        let mut newest_lost = self.healed.take();
        while let Some(entry) = self.under_way.first_entry() {
            if self.newest.is_none_or(|newest| entry.key() + REORDERING > newest) {
                break;
            }
            newest_lost = newest_lost.max(Some(*entry.key()));
            lost.push(entry.remove());
        }
        if newest_lost.is_some_and(|newest| newest >= self.reduced_at) {
            self.congestion.on_loss();
            self.reduced_at = self.next;
        } else if self.counted > 0 {
            self.congestion.on_arrived(now, self.counted, flight, self.rtt.smoothed().unwrap_or_default());
        }
        self.arrived = 0;
        self.counted = 0;
        if self.under_way.is_empty() {
            // A tree that was emptied keeps its last node.
            self.under_way = BTreeMap::new();
        }
        lost
    }

    /// Whether the congestion window has room.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < self.congestion.window()
    }

    /// Acts on the timers that are due, and returns what the retransmission timer gives up. [`Recovery::settle`] comes before.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Transmission> {
        if self.tail_deadline().is_some_and(|deadline| deadline <= now) {
            self.tail_allowed = false;
            self.progress = now;
            let mut latest = self.under_way.keys().rev().copied();
            let last = latest.next();
            self.tail = [latest.next(), last];
            return Vec::new();
        }
        if self.timeout_deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        self.congestion.on_timeout(self.doublings > 0);
        self.reduced_at = self.next;
        self.doublings = self.doublings.saturating_add(1);
        self.expiries = self.expiries.saturating_add(1);
        self.tail = [None; 2];
        self.progress = now;
        let young = self.rtt.smoothed().unwrap_or_default();
        let mut lost = Vec::new();
        while let Some(entry) = self.under_way.first_entry() {
            if now.saturating_duration_since(entry.get().at) < young {
                break;
            }
            lost.push(entry.remove());
        }
        lost
    }

    /// Gives everything up that is under way: it went where nothing arrives any more. No congestion is seen in that.
    pub(super) fn on_new_path(&mut self, now: Instant) -> Vec<Transmission> {
        (self.tail, self.progress, self.doublings) = ([None; 2], now, 0);
        self.congestion.on_idle();
        self.reduced_at = self.next;
        std::mem::take(&mut self.under_way).into_values().collect()
    }

    /// Counts an expiry of the probe of a closed window, while that is all there is to wait for.
    pub(super) fn on_window_probe(&mut self) {
        if self.under_way.is_empty() {
            self.expiries = self.expiries.saturating_add(1);
        }
    }

    /// The first transmission that waits to be repeated as a tail probe and for whose channel `wanted` holds.
    pub(super) fn tail(&self, wanted: impl Fn(u8) -> bool) -> Option<(u64, Transmission)> {
        let mut waiting = self.tail.iter().flatten();
        waiting.find_map(|key| self.under_way.get(key).filter(|sent| wanted(sent.channel)).map(|sent| (*key, *sent)))
    }

    /// Notes that the tail probe for `transmission` leaves now; returns the number of the new transmission.
    pub(super) fn on_tail_transmit(&mut self, now: Instant, transmission: u64) -> Option<u64> {
        for slot in &mut self.tail {
            slot.take_if(|waiting| *waiting == transmission);
        }
        let sent = self.under_way.remove(&transmission)?;
        self.active = now;
        let again = self.on_transmit(now, sent.channel, sent.number, true);
        if let Some(sent) = self.under_way.get_mut(&again) {
            sent.probe = true;
        }
        Some(again)
    }

    /// When [`Recovery::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.tail_deadline().or_else(|| self.timeout_deadline())
    }

    fn tail_deadline(&self) -> Option<Instant> {
        if !self.tail_allowed || self.doublings > 0 {
            return None;
        }
        let (_, last) = self.under_way.last_key_value()?;
        let tail = last.at.max(self.progress) + self.rtt.expected()?;
        // The probe forestalls the timer, so it never comes later.
        self.timeout_deadline().map(|timeout| tail.min(timeout))
    }

    fn timeout_deadline(&self) -> Option<Instant> {
        let (_, first) = self.under_way.first_key_value()?;
        Some(first.at.max(self.progress) + self.rtt.timeout(self.doublings))
    }

    /// The smoothed round trip.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Takes a round trip measured elsewhere, if there is none yet.
    pub(super) fn seed_rtt(&mut self, measured: Duration) {
        self.rtt.seed(measured);
    }

    /// The retransmission timer, doubled `doublings` times.
    pub(super) fn timeout(&self, doublings: u32) -> Duration {
        self.rtt.timeout(doublings)
    }

    /// How often the timer expired since the last acknowledgement.
    pub(super) const fn expiries(&self) -> u32 {
        self.expiries
    }

    /// Whether the other side has been silent for too long.
    pub(super) const fn is_dead(&self) -> bool {
        self.expiries >= MAX_EXPIRIES
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    #[cfg(test)]
    pub(super) const fn window(&self) -> usize {
        self.congestion.window()
    }
}
