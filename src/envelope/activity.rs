//! When a session was used, and how much: noted by whoever carries its bytes, read by its owner.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::{Dropped, Drops, SharedDrops};

/// A point in time that threads share; microseconds since an origin, from 1 on, so that 0 is none.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn get(&self, origin: Instant) -> Option<Instant> {
        let micros = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(origin + Duration::from_micros(micros))
    }

    fn set(&self, origin: Instant, at: Instant) {
        self.0.store(at.saturating_duration_since(origin).as_micros() as u64 + 1, Ordering::Relaxed);
    }

    fn set_if_none(&self, origin: Instant, at: Instant) {
        self.set_if_before(&Self::default(), origin, at);
    }

    /// Sets it if there is none, or one before `other`.
    fn set_if_before(&self, other: &Self, origin: Instant, at: Instant) {
        let own = self.0.load(Ordering::Relaxed);
        if own == 0 || own < other.0.load(Ordering::Relaxed) {
            self.set(origin, at);
        }
    }

    fn clear(&self) {
        // A value that stays the same stays in the caches of all threads.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

/// The life signs of one session (PROTOCOL §8.3).
///
/// Threads may note things at the same time: a moment that is off by one packet does no harm, since all that hangs on it are timers of seconds.
///
/// The owner looks at a session that is awake once a second, and not at all at one that sleeps; whoever notes something on a sleeping session is told
/// to wake the owner. So neither an idle session nor a packet costs the owner anything.
#[derive(Debug)]
pub struct Activity {
    origin: Instant,
    sent: Moment,
    received: Moment,
    /// Since user data was sent that nothing has answered.
    unanswered: Moment,
    /// Since something was received that wants a sign of life, and nothing was sent.
    owing: Moment,
    /// User data was sent or received.
    user: Moment,
    /// The largest datagram sent since the owner looked, in bytes.
    largest: AtomicU32,
    events: AtomicU64,
    awake: AtomicBool,
}

impl Activity {
    /// A session that begins `now`: what it sent and received last is its handshake.
    pub fn new(now: Instant) -> Self {
        let activity = Self {
            origin: now,
            sent: Moment::default(),
            received: Moment::default(),
            unanswered: Moment::default(),
            owing: Moment::default(),
            user: Moment::default(),
            largest: AtomicU32::new(0),
            events: AtomicU64::new(0),
            awake: AtomicBool::new(false),
        };
        activity.sent.set(now, now);
        activity.received.set(now, now);
        activity
    }

    /// Anything was sealed.
    pub fn on_sealed(&self, now: Instant) {
        self.sent.set(self.origin, now);
        self.owing.clear();
    }

    /// User data was sealed, in datagrams of at most `largest` bytes.
    pub fn on_user_sent(&self, now: Instant, largest: usize) {
        // A thread that is late may have noted what is answered already: left to stand, it would hide all that is not.
        self.unanswered.set_if_before(&self.received, self.origin, now);
        self.user.set(self.origin, now);
        let largest = largest as u32;
        if self.largest.load(Ordering::Relaxed) < largest {
            self.largest.fetch_max(largest, Ordering::Relaxed);
        }
    }

    /// A valid packet arrived.
    pub fn on_received(&self, now: Instant) {
        self.received.set(self.origin, now);
        self.unanswered.clear();
    }

    /// It held user data or control frames: the peer waits for a sign of life.
    pub fn on_content(&self, now: Instant) {
        self.owing.set_if_none(self.origin, now);
    }

    /// User data was received.
    pub fn on_user_received(&self, now: Instant) {
        self.user.set(self.origin, now);
    }

    /// When user data was sent or received last.
    pub fn user(&self) -> Option<Instant> {
        self.user.get(self.origin)
    }

    /// Notes that something was noted. True if the owner sleeps and must be woken.
    pub fn must_wake(&self) -> bool {
        self.events.fetch_add(1, Ordering::SeqCst);
        !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst)
    }

    /// The owner goes to sleep over this session, unless something was noted since it had seen `events`.
    pub fn sleep(&self, events: u64) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        // Whoever noted something after the store sees that the owner sleeps; whoever did before is seen here.
        if self.events() != events {
            self.awake.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// How often something was noted.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::SeqCst)
    }

    /// Whether somebody has woken the owner.
    pub fn is_awake(&self) -> bool {
        self.awake.load(Ordering::SeqCst)
    }

    /// When anything was sent last.
    pub fn sent(&self) -> Instant {
        self.sent.get(self.origin).unwrap_or(self.origin)
    }

    /// When a valid packet arrived last.
    pub fn received(&self) -> Instant {
        self.received.get(self.origin).unwrap_or(self.origin)
    }

    /// Since when user data is unanswered.
    pub fn unanswered(&self) -> Option<Instant> {
        self.unanswered.get(self.origin)
    }

    /// What was sent so far needs no answer any more.
    pub fn forgive(&self) {
        self.unanswered.clear();
    }

    /// Since when the peer waits for a sign of life.
    pub fn owing(&self) -> Option<Instant> {
        self.owing.get(self.origin)
    }

    /// The largest datagram with user data since this was asked last, in bytes.
    pub fn take_largest(&self) -> usize {
        self.largest.swap(0, Ordering::Relaxed) as usize
    }
}

/// Counters of what was carried for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sealed datagrams received and opened.
    pub rx_datagrams: u64,
    /// Bytes of IP packets delivered.
    pub rx_bytes: u64,
    /// IP packets delivered.
    pub rx_packets: u64,
    /// Sealed datagrams sent.
    pub tx_datagrams: u64,
    /// Bytes of IP packets sent.
    pub tx_bytes: u64,
    /// IP packets sent.
    pub tx_packets: u64,
    /// Sessions confirmed.
    pub sessions: u64,
}

/// The same for several threads, and what they dropped.
#[derive(Debug, Default)]
pub struct Counters {
    rx_datagrams: AtomicU64,
    rx_bytes: AtomicU64,
    rx_packets: AtomicU64,
    tx_datagrams: AtomicU64,
    tx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    /// There is nothing before the first is counted: of most peers, nothing ever is.
    drops: OnceLock<Box<SharedDrops>>,
}

impl Counters {
    /// Counts a drop: of an authenticated packet, or of a packet for the peer.
    pub fn count_drop(&self, reason: Dropped) {
        self.count_drops(reason, 1);
    }

    /// Counts several.
    pub fn count_drops(&self, reason: Dropped, number: u64) {
        if number > 0 {
            self.drops.get_or_init(Box::default).count_many(reason, number);
        }
    }

    /// Adds what was dropped to `drops`.
    pub fn add_drops_to(&self, drops: &mut Drops) {
        if let Some(own) = self.drops.get() {
            own.add_to(drops);
        }
    }

    /// Adds to all of them but `sessions`, which is the owner's.
    pub fn add(&self, traffic: &Traffic) {
        let pairs = [
            (&self.rx_datagrams, traffic.rx_datagrams),
            (&self.rx_bytes, traffic.rx_bytes),
            (&self.rx_packets, traffic.rx_packets),
            (&self.tx_datagrams, traffic.tx_datagrams),
            (&self.tx_bytes, traffic.tx_bytes),
            (&self.tx_packets, traffic.tx_packets),
        ];
        for (counter, more) in pairs.into_iter().filter(|&(_, more)| more > 0) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Adds all of them to `traffic`.
    pub fn add_to(&self, traffic: &mut Traffic) {
        traffic.rx_datagrams += self.rx_datagrams.load(Ordering::Relaxed);
        traffic.rx_bytes += self.rx_bytes.load(Ordering::Relaxed);
        traffic.rx_packets += self.rx_packets.load(Ordering::Relaxed);
        traffic.tx_datagrams += self.tx_datagrams.load(Ordering::Relaxed);
        traffic.tx_bytes += self.tx_bytes.load(Ordering::Relaxed);
        traffic.tx_packets += self.tx_packets.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_answer_ends_what_was_unanswered_and_what_is_sent_ends_what_was_owing() {
        let now = start();
        let activity = Activity::new(now);
        activity.on_sealed(now + SECOND);
        activity.on_user_sent(now + SECOND, 1228);
        activity.on_user_sent(now + 2 * SECOND, 100);
        assert_eq!(activity.unanswered(), Some(now + SECOND), "the first counts");
        activity.on_received(now + 3 * SECOND);
        activity.on_content(now + 3 * SECOND);
        activity.on_content(now + 4 * SECOND);
        assert_eq!((activity.unanswered(), activity.owing()), (None, Some(now + 3 * SECOND)));
        activity.on_sealed(now + 5 * SECOND);
        assert_eq!((activity.owing(), activity.sent()), (None, now + 5 * SECOND));
        assert_eq!((activity.take_largest(), activity.take_largest()), (1228, 0));
    }

    /// Threads look at the clock before they do their work, so one may come with a moment that is past already.
    #[test]
    fn what_is_sent_after_the_last_answer_is_unanswered_whatever_a_late_thread_has_noted() {
        let now = start();
        let activity = Activity::new(now);
        activity.on_received(now + 2 * SECOND);
        activity.on_user_sent(now + SECOND, 100);
        activity.on_user_sent(now + 3 * SECOND, 100);
        activity.on_user_sent(now + 4 * SECOND, 100);
        assert_eq!(activity.unanswered(), Some(now + 3 * SECOND));
    }

    #[test]
    fn the_owner_is_woken_once_and_never_sleeps_over_what_was_noted_meanwhile() {
        let activity = Activity::new(start());
        assert!(activity.must_wake() && !activity.must_wake());
        let seen = activity.events();
        assert!(!activity.must_wake());
        assert!(!activity.sleep(seen), "something was noted since");
        assert!(activity.is_awake());
        assert!(activity.sleep(activity.events()) && !activity.is_awake());
        assert!(activity.must_wake());
    }
}
