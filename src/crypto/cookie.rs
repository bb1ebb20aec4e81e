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
