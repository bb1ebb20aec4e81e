//! Ed25519 identities and X25519 ephemeral keys.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};

use super::secret::Secret;
use crate::base::{PeerId, Rng};

/// The 32 bytes that say what a hashed, signed or derived string is for: `L(s)` of PROTOCOL §1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label([u8; 32]);

impl Label {
    const PREFIX: &[u8] = b"handfast/1 ";

    /// `L(name)`.
    ///
    /// # Panics
    ///
    /// If `name` is longer than 21 bytes: labels are constants of the program, and this is then an error at compile time.
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(Self::PREFIX.len() + name.len() <= 32, "a label has 32 bytes with its prefix");
        let mut bytes = [0; 32];
        let (prefix, rest) = bytes.split_at_mut(Self::PREFIX.len());
        prefix.copy_from_slice(Self::PREFIX);
        rest.split_at_mut(name.len()).0.copy_from_slice(name);
        Self(bytes)
    }

    /// The label as it is hashed.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The private key of a node; its public half is the node's [`PeerId`].
pub struct IdentitySecret {
    seed: Secret<32>,
    signing: Box<SigningKey>,
}

impl IdentitySecret {
    /// Makes a new identity.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The identity whose RFC 8032 private key is `seed`.
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self { signing: Box::new(SigningKey::from_bytes(seed.expose())), seed }
    }

    /// The name by which other nodes know this one.
    pub fn id(&self) -> PeerId {
        PeerId(self.signing.verifying_key().to_bytes())
    }

    /// The private key, for the key file and nothing else.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// Signs `label | parts..`: that every signed string begins with a label is PROTOCOL §14.
    pub fn sign(&self, label: Label, parts: &[&[u8]]) -> [u8; 64] {
        self.signing.sign(&message(label, parts)).to_bytes()
    }
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentitySecret").field(&self.id()).finish()
    }
}

/// Proof that a signature was verified; only [`verify`] makes one.
#[derive(Debug)]
pub struct SignatureValid(());

/// A signature, or the key it should be by, is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad signature")]
pub struct BadSignature;

/// Verifies a signature of `label | parts..` strictly (PROTOCOL §14): the encodings of A, R and S must be canonical, and A and R not of small order.
///
/// # Errors
///
/// [`BadSignature`], without saying which of the conditions failed.
pub fn verify(
    signer: &PeerId,
    label: Label,
    parts: &[&[u8]],
    signature: &[u8; 64],
) -> Result<SignatureValid, BadSignature> {
    let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| BadSignature)?;
    // The library decodes a key whose y is not reduced modulo p; two peer ids would then name one key.
    if key.to_edwards().compress().as_bytes() != signer.as_bytes() {
        return Err(BadSignature);
    }
    key.verify_strict(&message(label, parts), &Signature::from_bytes(signature)).map_err(|_| BadSignature)?;
    Ok(SignatureValid(()))
}

fn message(label: Label, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::with_capacity(32 + parts.iter().map(|part| part.len()).sum::<usize>());
    message.extend_from_slice(label.as_bytes());
    parts.iter().for_each(|part| message.extend_from_slice(part));
    message
}

/// An X25519 private key for one attempt or one answer.
pub struct EphemeralSecret {
    secret: Box<StaticSecret>,
    public: [u8; 32],
}

impl EphemeralSecret {
    /// Makes a new key.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(&Secret::random(rng))
    }

    /// The key with these 32 bytes, which are clamped as RFC 7748 §5 says.
    pub fn from_seed(seed: &Secret<32>) -> Self {
        let secret = Box::new(StaticSecret::from(*seed.expose()));
        let public = PublicKey::from(&*secret).to_bytes();
        Self { secret, public }
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The secret shared with the holder of `theirs`.
    ///
    /// It borrows the key, because an initiator keeps it until an answer has proven itself (PROTOCOL §4.4).
    ///
    /// # Errors
    ///
    /// [`NonContributory`] if the result is all zeros: `theirs` has small order and the secret would be known to everyone.
    pub fn agree(&self, theirs: &[u8; 32]) -> Result<Secret<32>, NonContributory> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*theirs));
        if !shared.was_contributory() {
            return Err(NonContributory);
        }
        Ok(Secret::fill(|bytes| bytes.copy_from_slice(shared.as_bytes())))
    }
}

impl fmt::Debug for EphemeralSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralSecret(..)")
    }
}

/// The other side's X25519 key has small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("X25519 key of small order")]
pub struct NonContributory;
