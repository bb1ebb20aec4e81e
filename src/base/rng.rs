//! The only source of randomness below the daemon: one seed goes in, all randomness comes out.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Deterministic, cryptographically strong generator (ChaCha20).
///
/// The daemon seeds it from the operating system; simulations and tests seed it with a number, so that the same inputs give the same bytes.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator from 32 bytes of seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A generator for tests and simulations.
    pub fn from_number(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// An array of random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A random number below `end`; 0 if `end` is 0. The bias of the remainder is below 2^-32 for every `end` used here.
    pub fn below(&mut self, end: u32) -> u32 {
        let random = self.0.next_u64();
        if end == 0 { 0 } else { (random % u64::from(end)) as u32 }
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(..)")
    }
}
