//! Authenticated encryption: one key per direction and epoch, a nonce that cannot repeat, in place and without allocation.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::optimization_barrier;

use super::secret::Secret;

/// Bytes of the tag behind a ciphertext.
pub const TAG_LEN: usize = 16;

/// The first counter under which nothing is sealed or opened any more (PROTOCOL §5.3).
pub const COUNTER_LIMIT: u64 = u64::MAX - (1 << 13) + 1;

/// The two ciphers of version 1 (PROTOCOL §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// RFC 8439; always in epoch 0.
    ChaCha20Poly1305,
    /// NIST SP 800-38D.
    Aes256Gcm,
}

impl Cipher {
    /// The cipher from epoch 1 on (PROTOCOL §5.1).
    pub const fn choose(both_prefer_aes: bool) -> Self {
        if both_prefer_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// Whether this processor has instructions for AES and for the multiplication of GCM: bit 0 of `caps` (PROTOCOL §4.5).
pub fn hardware_prefers_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let prefers = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let prefers = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let prefers = false;
    prefers
}

/// Hands out the counters of one sealing key, each once.
#[derive(Debug, Default)]
pub struct TxCounter(u64);

impl TxCounter {
    /// The counter of a new key.
    pub const fn new() -> Self {
        Self(0)
    }

    /// The nonce of the next packet.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] at [`COUNTER_LIMIT`], and from then on.
    #[expect(clippy::should_implement_trait, reason = "an iterator would invite to collect nonces")]
    pub fn next(&mut self) -> Result<TxNonce, Exhausted> {
        if self.0 >= COUNTER_LIMIT {
            return Err(Exhausted);
        }
        let nonce = TxNonce(self.0);
        self.0 += 1;
        Ok(nonce)
    }

    /// How many nonces were handed out.
    pub const fn sealed(&self) -> u64 {
        self.0
    }
}

/// The right to seal one packet. [`SealKey::seal`] takes it by value, and it cannot be copied.
#[derive(Debug)]
pub struct TxNonce(u64);

impl TxNonce {
    /// The number that goes into the header.
    pub const fn counter(&self) -> u64 {
        self.0
    }
}

/// A sealing key has no counter left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("counter exhausted")]
pub struct Exhausted;

/// Seals one direction of one epoch. It may be shared between threads; its [`TxCounter`] may not.
#[derive(Debug)]
pub struct SealKey(Key);

impl SealKey {
    /// A sealing key from its 32 bytes.
    pub fn new(cipher: Cipher, secret: &Secret<32>) -> Self {
        Self(Key::new(cipher, secret))
    }

    /// Seals `plaintext_and_room` in place: all but its last [`TAG_LEN`] bytes are plaintext, those get the tag.
    ///
    /// # Panics
    ///
    /// If there is no room for the tag.
    #[expect(clippy::expect_used, reason = "the caller lays out the buffer; ring refuses only more than 2^36 bytes")]
    pub fn seal(&self, nonce: TxNonce, aad: &[u8], plaintext_and_room: &mut [u8]) {
        let (plaintext, room) = plaintext_and_room.split_last_chunk_mut::<TAG_LEN>().expect("room for the tag");
        let tag = self.0.ring.seal_in_place_separate_tag(nonce_of(nonce.0), Aad::from(aad), plaintext);
        room.copy_from_slice(tag.expect("a datagram is no longer than the cipher allows").as_ref());
    }
}

/// Opens one direction of one epoch. It may be shared between threads.
#[derive(Debug)]
pub struct OpenKey(Key);

impl OpenKey {
    /// An opening key from its 32 bytes.
    pub fn new(cipher: Cipher, secret: &Secret<32>) -> Self {
        Self(Key::new(cipher, secret))
    }

    /// Opens `ciphertext_and_tag` in place; returns the plaintext and the proof that the tag was right.
    ///
    /// # Errors
    ///
    /// [`OpenFailed`] if the tag is wrong, or the counter at or above [`COUNTER_LIMIT`]. The ciphertext is then lost: whoever has a second key
    /// to try needs a copy made before.
    pub fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        ciphertext_and_tag: &'a mut [u8],
    ) -> Result<(&'a mut [u8], Authentic), OpenFailed> {
        if counter >= COUNTER_LIMIT {
            return Err(OpenFailed);
        }
        let plaintext = self.0.ring.open_in_place(nonce_of(counter), Aad::from(aad), ciphertext_and_tag);
        plaintext.map(|plaintext| (plaintext, Authentic { counter })).map_err(|_| OpenFailed)
    }
}

/// Proof that a packet was opened; only [`OpenKey::open`] makes one.
#[derive(Debug)]
pub struct Authentic {
    counter: u64,
}

impl Authentic {
    /// The counter of the packet that was opened.
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// A proof out of nothing, for tests of what needs one.
    #[cfg(test)]
    pub(super) const fn forged(counter: u64) -> Self {
        Self { counter }
    }
}

/// A packet is not from the holder of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("packet does not open")]
pub struct OpenFailed;

/// ring's key, which does not erase itself, and the cipher it is for. It is boxed so that moving it leaves no copy behind.
struct Key {
    cipher: Cipher,
    ring: Box<LessSafeKey>,
}

impl Key {
    fn new(cipher: Cipher, secret: &Secret<32>) -> Self {
        Self { cipher, ring: Box::new(less_safe(cipher, secret.expose())) }
    }
}

/// Overwrites the expanded key with that of another key, all zeros, of the same cipher and therefore of the same shape.
impl Drop for Key {
    fn drop(&mut self) {
        *self.ring = less_safe(self.cipher, &[0; 32]);
        optimization_barrier(&*self.ring);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, ..", self.cipher)
    }
}

#[expect(clippy::expect_used, reason = "both ciphers have keys of 32 bytes")]
fn less_safe(cipher: Cipher, bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(cipher.algorithm(), bytes).expect("both ciphers have keys of 32 bytes"))
}

/// 4 zero bytes, then the counter (PROTOCOL §6).
fn nonce_of(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_be_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}
