//! Token buckets: how often strangers may make this node work.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::Rng;

/// Buckets of one table. Constant memory whatever the number of sources; sources that fall into one bucket share it.
const BUCKETS: usize = 1024;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Tokens per second; at least one.
    pub(crate) per_second: u32,
    /// Tokens that a rested bucket holds.
    pub(crate) burst: u32,
}

/// A bucket that starts full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When it is full again, if nothing is taken: what is missing until then is missing now.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let token = Duration::from_secs(1) / rate.per_second;
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + token;
        let allowed = full_at.saturating_duration_since(now) <= token * rate.burst;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }
}

/// Buckets by source prefix: IPv4 /32, IPv6 /56 (PROTOCOL §4.1).
#[derive(Debug)]
pub(crate) struct PrefixBuckets {
    rate: Rate,
    /// Unknown to strangers, so that nobody can choose addresses that share a victim's bucket.
    key: u64,
    buckets: Box<[Bucket]>,
}

impl PrefixBuckets {
    pub(crate) fn new(rate: Rate, rng: &mut Rng) -> Self {
        Self { rate, key: rng.number(), buckets: vec![Bucket::default(); BUCKETS].into_boxed_slice() }
    }

    /// A second table for another purpose, with the same secret.
    pub(crate) fn at_rate(&self, rate: Rate) -> Self {
        Self { rate, key: self.key, buckets: vec![Bucket::default(); BUCKETS].into_boxed_slice() }
    }

    /// Takes one token from the bucket of `source`.
    pub(crate) fn take(&mut self, now: Instant, source: IpAddr) -> bool {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        match source {
            IpAddr::V4(v4) => v4.octets().hash(&mut hasher),
            IpAddr::V6(v6) => v6.octets()[..7].hash(&mut hasher),
        }
        let slot = (hasher.finish() % self.buckets.len() as u64) as usize;
        self.buckets.get_mut(slot).is_some_and(|bucket| bucket.take(now, self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = crate::proto::tests::start();
        let rate = Rate { per_second: 10, burst: 5 };
        let mut bucket = Bucket::default();
        assert_eq!((0..20).filter(|_| bucket.take(start, rate)).count(), 5);
        assert_eq!(size_of::<Bucket>(), 16, "there are many of them");
        let taken = (1..=100).filter(|&i| bucket.take(start + Duration::from_millis(i * 100), rate)).count();
        assert_eq!(taken, 100, "ten a second for ten seconds");
        assert!(!bucket.take(start, rate), "a clock that goes back gives nothing");
    }

    #[test]
    fn neighbours_in_one_ipv6_site_share_a_bucket() {
        let start = crate::proto::tests::start();
        let mut buckets = PrefixBuckets::new(Rate { per_second: 1, burst: 1 }, &mut Rng::from_number(1));
        assert!(buckets.take(start, "2001:db8:0:1::1".parse().unwrap()));
        assert!(!buckets.take(start, "2001:db8:0:2::1".parse().unwrap()), "same /56");
        assert!(buckets.take(start, "2001:db8:0:1000::1".parse().unwrap()), "another /56");
    }
}
