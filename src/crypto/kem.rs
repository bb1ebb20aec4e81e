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
