//! Bytes that must not leak: into a log, into a copy, or into memory that is given back.

use std::fmt;

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::base::Rng;

/// N secret bytes on the heap, so that moving the value leaves no copy behind; erased on drop.
///
/// It can be neither cloned nor compared: comparisons of secrets are made by [`super::equal`].
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Makes a secret by letting `write` fill the final place of its bytes, which start as zeros.
    pub fn fill(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        write(&mut secret.0);
        secret
    }

    /// Draws a secret.
    pub fn random(rng: &mut Rng) -> Self {
        Self::fill(|bytes| rng.fill(bytes))
    }

    /// The bytes; the name is long enough to be found in a review.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_its_bytes() {
        assert_eq!(format!("{:?}", Secret::<2>::fill(|bytes| *bytes = [0xab, 0xcd])), "Secret(..)");
    }

    #[test]
    fn the_same_generator_state_gives_the_same_secret() {
        let [mut one, mut other] = [Rng::from_number(1), Rng::from_number(1)];
        let first = Secret::<32>::random(&mut one);
        assert_eq!(first.expose(), Secret::<32>::random(&mut other).expose());
        assert_ne!(first.expose(), Secret::<32>::random(&mut one).expose());
    }
}
