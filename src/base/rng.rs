//! The only source of randomness below the daemon: one seed goes in, all randomness comes out.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use zeroize::{Zeroize as _, optimization_barrier};

/// Deterministic, cryptographically strong generator (ChaCha20).
///
/// The daemon seeds it from the operating system; simulations and tests seed it with a number, so that the same inputs give the same bytes.
///
/// It replaces its own key whenever bytes were drawn: whoever reads the memory of a node later must not be able to compute the ephemeral keys of sessions that
/// are over (PROTOCOL §14).
pub struct Rng(Box<ChaCha20Rng>);

impl Rng {
    /// A generator from 32 bytes of seed.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let generator = Box::new(ChaCha20Rng::from_seed(seed));
        seed.zeroize();
        Self(generator)
    }

    /// A generator for tests and simulations.
    pub fn from_number(seed: u64) -> Self {
        Self(Box::new(ChaCha20Rng::seed_from_u64(seed)))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
        self.forget();
    }

    /// Goes on with a key out of its own stream; key and buffer of before are overwritten.
    fn forget(&mut self) {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        *self.0 = ChaCha20Rng::from_seed(seed);
        optimization_barrier(&*self.0);
        seed.zeroize();
    }

    /// An array of random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number; not for secrets, for it can be drawn again until the next bytes are.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_cannot_be_drawn_again_from_what_is_left_in_memory() {
        let mut rng = Rng::from_number(1);
        let drawn: [u8; 32] = rng.bytes();
        let mut stolen = rng.0.clone();
        // Whoever reads the generator later winds it back to its beginning.
        stolen.set_word_pos(0);
        let mut again = [0; 32];
        stolen.fill_bytes(&mut again);
        assert_ne!(drawn, again);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let [mut one, mut other] = [Rng::from_number(1), Rng::from_number(1)];
        for _ in 0..3 {
            assert_eq!(one.bytes::<100>(), other.bytes::<100>());
            assert_eq!((one.number(), one.below(7)), (other.number(), other.below(7)));
        }
    }
}
