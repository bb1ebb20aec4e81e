//! ML-KEM-768 (FIPS 203): the secret that survives a quantum computer.

use std::fmt;

use ml_kem::{Decapsulate as _, DecapsulationKey768, EncapsulationKey768, KeyExport as _};
use thiserror::Error;
use zeroize::Zeroize as _;

use super::secret::Secret;
use crate::base::Rng;

/// Bytes of an encapsulation key (`ek`).
pub const PUBLIC_LEN: usize = 1184;
/// Bytes of a ciphertext (`ct`).
pub const CIPHERTEXT_LEN: usize = 1088;

/// A decapsulation key for one handshake or rekey.
pub struct KemSecret(Box<DecapsulationKey768>);

impl KemSecret {
    /// Makes a new key.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(&Secret::random(rng))
    }

    /// The key made from the 64 bytes `d | z` of FIPS 203 §7.1.
    pub fn from_seed(seed: &Secret<64>) -> Self {
        Self(Box::new(DecapsulationKey768::from_seed((*seed.expose()).into())))
    }

    /// The encapsulation key.
    pub fn public(&self) -> Box<[u8; PUBLIC_LEN]> {
        Box::new(self.0.encapsulation_key().to_bytes().into())
    }

    /// The secret in `ciphertext`.
    ///
    /// A wrong ciphertext gives a secret that its sender does not know, and no error (FIPS 203 §7.3): the keys derived from it open nothing.
    pub fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> Secret<32> {
        let mut shared = self.0.decapsulate(ciphertext.into());
        let secret = Secret::fill(|bytes| bytes.copy_from_slice(&shared));
        shared.as_mut_slice().zeroize();
        secret
    }
}

impl fmt::Debug for KemSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemSecret(..)")
    }
}

/// The encapsulation key has a coefficient that is not reduced modulo q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid ML-KEM encapsulation key")]
pub struct InvalidKemKey;

/// Draws a secret for the holder of `public`; returns its ciphertext and the secret.
///
/// # Errors
///
/// [`InvalidKemKey`] if `public` fails the modulus check of FIPS 203 §7.2.
pub fn encapsulate(
    public: &[u8; PUBLIC_LEN],
    rng: &mut Rng,
) -> Result<(Box<[u8; CIPHERTEXT_LEN]>, Secret<32>), InvalidKemKey> {
    encapsulate_with(public, &Secret::random(rng))
}

/// As [`encapsulate`], with the 32 bytes `m` of FIPS 203 §7.2 given: for test vectors. An `m` must be random and used once.
///
/// # Errors
///
/// [`InvalidKemKey`] as [`encapsulate`].
pub fn encapsulate_with(
    public: &[u8; PUBLIC_LEN],
    message: &Secret<32>,
) -> Result<(Box<[u8; CIPHERTEXT_LEN]>, Secret<32>), InvalidKemKey> {
    let public = EncapsulationKey768::new(public.into()).map_err(|_| InvalidKemKey)?;
    let (ciphertext, mut shared) = public.encapsulate_deterministic(message.expose().into());
    let secret = Secret::fill(|bytes| bytes.copy_from_slice(&shared));
    shared.as_mut_slice().zeroize();
    Ok((Box::new(ciphertext.into()), secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash::digest;
    use crate::crypto::hex;

    fn counting<const N: usize>(first: u8) -> Secret<N> {
        Secret::fill(|bytes| (first..).zip(bytes).for_each(|(number, byte)| *byte = number))
    }

    /// The expected values were computed with two other implementations of FIPS 203.
    #[test]
    fn ml_kem_768_matches_other_implementations() {
        let secret = KemSecret::from_seed(&counting(0));
        assert_eq!(digest(&*secret.public()), hex("0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9"));

        let (mut ciphertext, shared) = encapsulate_with(&secret.public(), &counting(64)).unwrap();
        assert_eq!(digest(&*ciphertext), hex("dbf4e9aa48b078ad46ec1c9c47bda8c2d2fec9d0e7a21bd48d2238a2abedb856"));
        assert_eq!(shared.expose(), &hex("9cddd089ffe70e3996e76f7c8d06746df34d07e8657bc0fcf2bb0e1c3084aea1"));
        assert_eq!(secret.decapsulate(&ciphertext).expose(), shared.expose());

        ciphertext[0] ^= 1;
        assert_eq!(
            secret.decapsulate(&ciphertext).expose(),
            &hex("dcfc80c6db46ff7028e3a4398651c063ae7a42c107a6dc8cb07141861698ab92")
        );
    }

    #[test]
    fn both_sides_get_the_same_secret() {
        let mut rng = Rng::from_number(1);
        let secret = KemSecret::generate(&mut rng);
        let (ciphertext, shared) = encapsulate(&secret.public(), &mut rng).unwrap();
        assert_eq!(secret.decapsulate(&ciphertext).expose(), shared.expose());
    }

    #[test]
    fn a_flipped_ciphertext_gives_another_secret() {
        let mut rng = Rng::from_number(1);
        let secret = KemSecret::generate(&mut rng);
        let (ciphertext, shared) = encapsulate(&secret.public(), &mut rng).unwrap();
        for position in [0, CIPHERTEXT_LEN / 2, CIPHERTEXT_LEN - 1] {
            let mut flipped = ciphertext.clone();
            flipped[position] ^= 0x80;
            assert_ne!(secret.decapsulate(&flipped).expose(), shared.expose());
        }
    }

    #[test]
    fn a_key_with_a_coefficient_of_q_or_more_is_refused() {
        let mut rng = Rng::from_number(1);
        let public = KemSecret::generate(&mut rng).public();
        // Two coefficients of 12 bits stand in three bytes, lowest bits first; q is 3329 = 0xd01.
        for (bytes, valid) in [([0x00, 0x0d, 0x00], true), ([0x01, 0x0d, 0x00], false), ([0x00, 0x10, 0xd0], false)] {
            for position in [0, 3 * 128 * 2, 3 * 383] {
                let mut changed = public.clone();
                changed[position..position + 3].copy_from_slice(&bytes);
                assert_eq!(encapsulate(&changed, &mut rng).is_ok(), valid, "{bytes:x?} at {position}");
            }
        }
    }

    #[test]
    fn a_decapsulation_key_does_not_print() {
        assert_eq!(format!("{:?}", KemSecret::generate(&mut Rng::from_number(1))), "KemSecret(..)");
    }
}
