//! Authenticated encryption: one key per direction and epoch, a nonce that cannot repeat, in place and without allocation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Hands out the counters of one sealing key, each once, to any thread.
#[derive(Debug, Default)]
pub struct TxCounter(AtomicU64);

impl TxCounter {
    /// The counter of a new key.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The nonce of the next packet.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] at [`COUNTER_LIMIT`], and from then on.
    pub fn next(&self) -> Result<TxNonce, Exhausted> {
        // Adding without looking would pass the limit, and one day wrap.
        let step = |counter| (counter < COUNTER_LIMIT).then(|| counter + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).map(TxNonce).map_err(|_| Exhausted)
    }

    /// How many nonces were handed out.
    pub fn sealed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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

/// Seals one direction of one epoch. It and its [`TxCounter`] may be shared between threads.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    const BOTH: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
    const HEADER: &[u8] = b"fourteen bytes";

    fn secret() -> Secret<32> {
        Secret::fill(|bytes| *bytes = [9; 32])
    }

    fn sealed(cipher: Cipher, counter: u64, plaintext: &[u8]) -> Vec<u8> {
        let mut packet = [plaintext, &[0; TAG_LEN]].concat();
        SealKey::new(cipher, &secret()).seal(TxNonce(counter), HEADER, &mut packet);
        packet
    }

    /// Under any nonce, as the published vectors have it.
    fn known_answer(cipher: Cipher, key: [u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut packet = plaintext.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        less_safe(cipher, &key).seal_in_place_append_tag(nonce, Aad::from(aad), &mut packet).unwrap();
        packet
    }

    #[test]
    fn chacha20_poly1305_matches_rfc_8439() {
        let sealed = known_answer(
            Cipher::ChaCha20Poly1305,
            hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
            hex("070000004041424344454647"),
            &hex::<12>("50515253c0c1c2c3c4c5c6c7"),
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
              sunscreen would be it.",
        );
        let expected = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
                        1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                        3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691";
        assert_eq!(sealed, hex::<130>(expected));
    }

    /// Test case 16 of the submission of GCM to NIST.
    #[test]
    fn aes_256_gcm_matches_its_specification() {
        let sealed = known_answer(
            Cipher::Aes256Gcm,
            hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
            hex("cafebabefacedbaddecaf888"),
            &hex::<20>("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
            &hex::<60>(
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0d\
                 e657ba637b39",
            ),
        );
        let expected = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                        c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b";
        assert_eq!(sealed, hex::<76>(expected));
    }

    #[test]
    fn what_is_sealed_opens_under_its_counter_and_header() {
        for cipher in BOTH {
            for plaintext in [&b""[..], b"x", &[3; 1198]] {
                let mut packet = sealed(cipher, 5, plaintext);
                let open = OpenKey::new(cipher, &secret());
                let (opened, proof) = open.open(5, HEADER, &mut packet).unwrap();
                assert_eq!(opened, plaintext);
                assert_eq!(proof.counter(), 5);
            }
        }
    }

    #[test]
    fn no_bit_of_a_packet_may_flip() {
        for cipher in BOTH {
            let packet = sealed(cipher, 5, b"plaintext");
            let open = OpenKey::new(cipher, &secret());
            for bit in 0..8 * packet.len() {
                let mut flipped = packet.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open.open(5, HEADER, &mut flipped).unwrap_err(), OpenFailed, "bit {bit}");
            }
        }
    }

    #[test]
    fn no_bit_of_the_header_may_flip() {
        for cipher in BOTH {
            let packet = sealed(cipher, 5, b"plaintext");
            let open = OpenKey::new(cipher, &secret());
            for bit in 0..8 * HEADER.len() {
                let mut flipped = HEADER.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open.open(5, &flipped, &mut packet.clone()).unwrap_err(), OpenFailed, "bit {bit}");
            }
        }
    }

    #[test]
    fn another_counter_key_or_cipher_does_not_open() {
        for cipher in BOTH {
            let packet = sealed(cipher, 5, b"plaintext");
            let open = OpenKey::new(cipher, &secret());
            assert_eq!(open.open(6, HEADER, &mut packet.clone()).unwrap_err(), OpenFailed);
            let other_key = OpenKey::new(cipher, &Secret::fill(|bytes| *bytes = [8; 32]));
            assert_eq!(other_key.open(5, HEADER, &mut packet.clone()).unwrap_err(), OpenFailed);
        }
        let mut packet = sealed(Cipher::Aes256Gcm, 5, b"plaintext");
        let other_cipher = OpenKey::new(Cipher::ChaCha20Poly1305, &secret());
        assert_eq!(other_cipher.open(5, HEADER, &mut packet).unwrap_err(), OpenFailed);
    }

    #[test]
    fn what_is_shorter_than_a_tag_does_not_open() {
        for cipher in BOTH {
            for len in 0..TAG_LEN {
                let open = OpenKey::new(cipher, &secret());
                assert_eq!(open.open(0, HEADER, &mut vec![0; len]).unwrap_err(), OpenFailed);
            }
        }
    }

    #[test]
    fn nonces_count_up_from_zero() {
        let counter = TxCounter::new();
        let counters: Vec<_> = (0..3).map(|_| counter.next().unwrap().counter()).collect();
        assert_eq!(counters, [0, 1, 2]);
        assert_eq!(counter.sealed(), 3);
    }

    #[test]
    fn the_last_8192_counters_are_neither_sealed_nor_opened() {
        assert_eq!(u64::MAX - COUNTER_LIMIT, 8191);
        let counter = TxCounter(AtomicU64::new(COUNTER_LIMIT - 1));
        assert_eq!(counter.next().unwrap().counter(), COUNTER_LIMIT - 1);
        assert_eq!(counter.next().unwrap_err(), Exhausted);
        assert_eq!(counter.next().unwrap_err(), Exhausted);

        for cipher in BOTH {
            let open = OpenKey::new(cipher, &secret());
            open.open(COUNTER_LIMIT - 1, HEADER, &mut sealed(cipher, COUNTER_LIMIT - 1, b"last")).unwrap();
            let mut beyond = sealed(cipher, COUNTER_LIMIT, b"beyond");
            assert_eq!(open.open(COUNTER_LIMIT, HEADER, &mut beyond).unwrap_err(), OpenFailed);
        }
    }

    #[test]
    fn aes_is_chosen_when_both_prefer_it() {
        assert_eq!(Cipher::choose(true), Cipher::Aes256Gcm);
        assert_eq!(Cipher::choose(false), Cipher::ChaCha20Poly1305);
    }

    #[test]
    fn keys_may_go_to_other_threads_and_do_not_print() {
        fn shareable<T: Send + Sync>(key: &T) -> &T {
            key
        }
        let seal = SealKey::new(Cipher::Aes256Gcm, &secret());
        assert_eq!(format!("{:?}", shareable(&seal)), "SealKey(Aes256Gcm, ..)");
        let open = OpenKey::new(Cipher::ChaCha20Poly1305, &secret());
        assert_eq!(format!("{:?}", shareable(&open)), "OpenKey(ChaCha20Poly1305, ..)");
    }
}
