//! Proof that an address receives what is sent to it, without state per address (PROTOCOL §4.2).

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hash::{equal, short_mac};
use super::keys::Label;
use super::secret::Secret;
use crate::base::link::mapped;
use crate::base::{PeerId, Rng};

/// How long a cookie secret is the present one; it is then accepted for as long again.
pub const PERIOD: Duration = Duration::from_secs(60);

const COOKIE: Label = Label::new("cookie");

/// The secrets `K` from which a responder computes cookies, and computes them again when they come back.
#[derive(Debug)]
pub struct CookieJar {
    present: Secret<32>,
    previous: Secret<32>,
    until: Instant,
}

impl CookieJar {
    /// A jar with a new secret.
    pub fn new(now: Instant, rng: &mut Rng) -> Self {
        // Nobody has a cookie of the first "previous" secret, so that there need not be a jar without one.
        Self { present: Secret::random(rng), previous: Secret::random(rng), until: now + PERIOD }
    }

    /// A jar with a given present secret, for test vectors.
    pub fn with_secret(now: Instant, present: Secret<32>, rng: &mut Rng) -> Self {
        Self { present, ..Self::new(now, rng) }
    }

    /// Replaces the present secret if its time is over; else does nothing.
    pub fn rotate(&mut self, now: Instant, rng: &mut Rng) {
        let Some(late) = now.checked_duration_since(self.until) else { return };
        self.previous = mem::replace(&mut self.present, Secret::random(rng));
        if late >= PERIOD {
            self.previous = Secret::random(rng);
        }
        self.until = now + PERIOD;
    }

    /// When the next rotation is due.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// The cookie `ck` for a hello with these keys from `source`.
    pub fn retry(&self, source: SocketAddr, ephemeral: &[u8; 32], initiator: &PeerId) -> [u8; 16] {
        cookie(&self.present, source, ephemeral, initiator)
    }

    /// Whether `ck` is a cookie for these keys and `source` by the present or the previous secret, in constant time.
    pub fn verify(&self, source: SocketAddr, ephemeral: &[u8; 32], initiator: &PeerId, ck: &[u8; 16]) -> bool {
        let by_present = equal(&cookie(&self.present, source, ephemeral, initiator), ck);
        let by_previous = equal(&cookie(&self.previous, source, ephemeral, initiator), ck);
        by_present | by_previous
    }
}

fn cookie(secret: &Secret<32>, source: SocketAddr, ephemeral: &[u8; 32], initiator: &PeerId) -> [u8; 16] {
    let (ip, port) = (mapped(source.ip()).octets(), source.port().to_be_bytes());
    short_mac(secret, &[COOKIE.as_bytes(), &ip, &port, ephemeral, initiator.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: [u8; 32] = [1; 32];
    const S: PeerId = PeerId([2; 32]);

    struct Fixture {
        now: Instant,
        rng: Rng,
        jar: CookieJar,
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant can be made by the clock only")]
    fn fixture() -> Fixture {
        let (now, mut rng) = (Instant::now(), Rng::from_number(1));
        Fixture { now, jar: CookieJar::new(now, &mut rng), rng }
    }

    fn source() -> SocketAddr {
        "192.0.2.7:18502".parse().unwrap()
    }

    impl Fixture {
        fn rotate_after(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.jar.rotate(self.now, &mut self.rng);
        }
    }

    #[test]
    fn a_cookie_is_accepted_from_its_address_for_its_keys_only() {
        let Fixture { jar, .. } = fixture();
        let cookie = jar.retry(source(), &E, &S);
        assert!(jar.verify(source(), &E, &S, &cookie));
        assert!(!jar.verify("192.0.2.8:18502".parse().unwrap(), &E, &S, &cookie));
        assert!(!jar.verify("192.0.2.7:18503".parse().unwrap(), &E, &S, &cookie));
        assert!(!jar.verify(source(), &[3; 32], &S, &cookie));
        assert!(!jar.verify(source(), &E, &PeerId([3; 32]), &cookie));
    }

    #[test]
    fn no_bit_of_a_cookie_may_flip() {
        let Fixture { jar, .. } = fixture();
        let cookie = jar.retry(source(), &E, &S);
        for bit in 0..128 {
            let mut flipped = cookie;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!jar.verify(source(), &E, &S, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn ipv4_is_the_same_address_when_it_is_mapped() {
        let Fixture { jar, .. } = fixture();
        let cookie = jar.retry(source(), &E, &S);
        assert!(jar.verify("[::ffff:192.0.2.7]:18502".parse().unwrap(), &E, &S, &cookie));
    }

    #[test]
    fn a_cookie_outlives_one_rotation_and_not_two() {
        let mut it = fixture();
        let cookie = it.jar.retry(source(), &E, &S);
        it.rotate_after(60);
        assert!(it.jar.verify(source(), &E, &S, &cookie));
        assert_ne!(it.jar.retry(source(), &E, &S), cookie);
        it.rotate_after(60);
        assert!(!it.jar.verify(source(), &E, &S, &cookie));
    }

    #[test]
    fn nothing_rotates_before_it_is_due() {
        let mut it = fixture();
        let cookie = it.jar.retry(source(), &E, &S);
        let due = it.jar.deadline();
        assert_eq!(due, it.now + Duration::from_secs(60));
        it.rotate_after(59);
        assert_eq!(it.jar.retry(source(), &E, &S), cookie);
        assert_eq!(it.jar.deadline(), due);
        it.rotate_after(1);
        assert_eq!(it.jar.deadline(), due + Duration::from_secs(60));
    }

    #[test]
    fn a_rotation_that_comes_a_period_late_accepts_nothing_old() {
        let mut it = fixture();
        let cookie = it.jar.retry(source(), &E, &S);
        it.rotate_after(120);
        assert!(!it.jar.verify(source(), &E, &S, &cookie));
    }
}
