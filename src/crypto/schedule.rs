//! The formulas of PROTOCOL §4 and §5: what is authenticated by which key, what is signed, and how keys follow from keys.
//!
//! [`Net`] holds what the mesh secret keys: MACs and signed statements. A [`Transcript`] is the public history of a session up to an epoch, a [`Chain`] its
//! secret history; together they give the [`EpochKeys`] of the next epoch.

use thiserror::Error;

use super::aead::{Cipher, OpenKey, SealKey};
use super::hash::{derive, digest, hash, hash_secret, mac, short_mac};
use super::kem::{CIPHERTEXT_LEN, PUBLIC_LEN};
use super::keys::{BadSignature, IdentitySecret, Label, SignatureValid, verify};
use super::secret::Secret;
use crate::base::{PeerId, SessionIndex};

pub use super::hash::equal;

const VERSION: u8 = 0x01;
const HELLO: u8 = 0x01;
const HELLO_ANSWER: u8 = 0x81;

/// Keys of one mesh: its secret `psk` and the `net` computed from it (PROTOCOL §1). Neither is ever sent.
#[derive(Debug)]
pub struct Net {
    psk: Secret<32>,
    net: Secret<32>,
}

/// MACs that only those can compute who know the mesh secret and the public key of a node.
impl Net {
    /// The mesh with this secret; 32 zero bytes where it has none.
    pub fn new(psk: &Secret<32>) -> Self {
        Self {
            psk: Secret::fill(|bytes| bytes.copy_from_slice(psk.expose())),
            net: hash_secret(Label::new("net"), &[psk.expose()]),
        }
    }

    /// `mac1`, the cookie field of a first hello to `responder` (PROTOCOL §4.1).
    pub fn mac1(&self, responder: &PeerId, ephemeral: &[u8; 32], initiator: &PeerId) -> [u8; 32] {
        let key = self.key_of(const { Label::new("mac1") }, responder);
        mac(&key, &[&[VERSION, HELLO], ephemeral, initiator.as_bytes()])
    }

    /// `ct`, by which the cookie `ck` of a hello retry proves that its sender has seen the hello (PROTOCOL §4.2).
    pub fn cookie_tag(
        &self,
        responder: &PeerId,
        ephemeral: &[u8; 32],
        initiator: &PeerId,
        mac1: &[u8; 32],
        ck: &[u8; 16],
    ) -> [u8; 16] {
        let parts: [&[u8]; 5] = [self.net.expose(), responder.as_bytes(), ephemeral, initiator.as_bytes(), mac1];
        short_mac(&hash_secret(const { Label::new("cookie tag") }, &parts), &[ck])
    }

    /// The MAC of a clear ping to `destination` with the number `n` (PROTOCOL §8.4).
    pub fn ping_mac(&self, destination: &PeerId, n: &[u8; 16]) -> [u8; 16] {
        short_mac(&self.key_of(const { Label::new("ping") }, destination), &[n])
    }

    /// The MAC of the answer of `destination` to a clear ping with the number `n` (PROTOCOL §8.4).
    pub fn pong_mac(&self, destination: &PeerId, n: &[u8; 16]) -> [u8; 16] {
        short_mac(&self.key_of(const { Label::new("pong") }, destination), &[n])
    }

    fn key_of(&self, label: Label, node: &PeerId) -> Secret<32> {
        hash_secret(label, &[self.net.expose(), node.as_bytes()])
    }
}

/// What the nodes of a mesh sign, one pair of functions each.
impl Net {
    /// The signature of the initiator in a hello with the cookie field `c` (PROTOCOL §4.1).
    pub fn sign_hello(
        &self,
        initiator: &IdentitySecret,
        responder: &PeerId,
        ephemeral: &[u8; 32],
        c: &[u8; 32],
    ) -> [u8; 64] {
        let id = initiator.id();
        initiator.sign(HELLO_SIGNATURE, &self.hello(responder, &id, ephemeral, c))
    }

    /// Verifies [`Net::sign_hello`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_hello(
        &self,
        initiator: &PeerId,
        responder: &PeerId,
        ephemeral: &[u8; 32],
        c: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(initiator, HELLO_SIGNATURE, &self.hello(responder, initiator, ephemeral, c), signature)
    }

    fn hello<'a>(
        &'a self,
        responder: &'a PeerId,
        initiator: &'a PeerId,
        ephemeral: &'a [u8; 32],
        c: &'a [u8; 32],
    ) -> [&'a [u8]; 6] {
        [&[VERSION, HELLO], self.net.expose(), responder.as_bytes(), initiator.as_bytes(), ephemeral, c]
    }

    /// The signature `sig_R` of the responder in its answer to the hello with the hash `hello` (PROTOCOL §4.4).
    pub fn sign_answer(
        &self,
        responder: &IdentitySecret,
        initiator: &PeerId,
        ephemeral: &[u8; 32],
        hello: &[u8; 32],
    ) -> [u8; 64] {
        let id = responder.id();
        responder.sign(ANSWER_SIGNATURE, &self.answer(initiator, &id, ephemeral, hello))
    }

    /// Verifies [`Net::sign_answer`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_answer(
        &self,
        responder: &PeerId,
        initiator: &PeerId,
        ephemeral: &[u8; 32],
        hello: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(responder, ANSWER_SIGNATURE, &self.answer(initiator, responder, ephemeral, hello), signature)
    }

    fn answer<'a>(
        &'a self,
        initiator: &'a PeerId,
        responder: &'a PeerId,
        ephemeral: &'a [u8; 32],
        hello: &'a [u8; 32],
    ) -> [&'a [u8]; 6] {
        [&[VERSION, HELLO_ANSWER], self.net.expose(), initiator.as_bytes(), responder.as_bytes(), ephemeral, hello]
    }

    /// The signature `sig_F` of the initiator over the transcript of epoch 1 (PROTOCOL §4.5).
    pub fn sign_finish(&self, initiator: &IdentitySecret, th_1: &Transcript) -> [u8; 64] {
        initiator.sign(FINISH_SIGNATURE, &[&[VERSION], self.net.expose(), &th_1.0])
    }

    /// Verifies [`Net::sign_finish`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_finish(
        &self,
        initiator: &PeerId,
        th_1: &Transcript,
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(initiator, FINISH_SIGNATURE, &[&[VERSION], self.net.expose(), &th_1.0], signature)
    }

    /// The signature of whoever starts the rekey that follows the transcript `previous` (PROTOCOL §5.2).
    pub fn sign_rekey(
        &self,
        sender: &IdentitySecret,
        previous: &Transcript,
        ephemeral: &[u8; 32],
        ek: &[u8; PUBLIC_LEN],
    ) -> [u8; 64] {
        sender.sign(REKEY_SIGNATURE, &[self.net.expose(), &previous.0, ephemeral, &digest(ek)])
    }

    /// Verifies [`Net::sign_rekey`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_rekey(
        &self,
        sender: &PeerId,
        previous: &Transcript,
        ephemeral: &[u8; 32],
        ek: &[u8; PUBLIC_LEN],
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(sender, REKEY_SIGNATURE, &[self.net.expose(), &previous.0, ephemeral, &digest(ek)], signature)
    }

    /// The signature of whoever answers a rekey, over the transcript of the new epoch (PROTOCOL §5.2).
    pub fn sign_rekey_answer(&self, sender: &IdentitySecret, th_n: &Transcript) -> [u8; 64] {
        sender.sign(REKEY_ANSWER_SIGNATURE, &[self.net.expose(), &th_n.0])
    }

    /// Verifies [`Net::sign_rekey_answer`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_rekey_answer(
        &self,
        sender: &PeerId,
        th_n: &Transcript,
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(sender, REKEY_ANSWER_SIGNATURE, &[self.net.expose(), &th_n.0], signature)
    }
}

const HELLO_SIGNATURE: Label = Label::new("hello");
const ANSWER_SIGNATURE: Label = Label::new("hello answer");
const FINISH_SIGNATURE: Label = Label::new("finish");
const REKEY_SIGNATURE: Label = Label::new("rekey");
const REKEY_ANSWER_SIGNATURE: Label = Label::new("rekey answer");

/// `h_I`, the hash of an accepted hello (PROTOCOL §4.4).
pub fn hello_hash(hello: &[u8; 162]) -> [u8; 32] {
    hash(const { Label::new("hello I") }, &[hello])
}

/// `th_n`: the hash of everything both sides said up to epoch n. It is public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// `th_0` (PROTOCOL §4.4).
    pub fn answer(hello: &[u8; 32], ephemeral: &[u8; 32], responder: &PeerId, signature: &[u8; 64]) -> Self {
        Self(hash(const { Label::new("transcript") }, &[hello, ephemeral, responder.as_bytes(), signature]))
    }

    /// `th_1`, following `th_0` (PROTOCOL §4.5).
    pub fn quantum(&self, caps_i: u32, caps_r: u32, ek: &[u8; PUBLIC_LEN], ct: &[u8; CIPHERTEXT_LEN]) -> Self {
        let (caps_i, caps_r) = (caps_i.to_be_bytes(), caps_r.to_be_bytes());
        Self(hash(const { Label::new("pq") }, &[&self.0, &caps_i, &caps_r, &digest(ek), &digest(ct)]))
    }

    /// `th_n`, following `th_{n-1}` for n ≥ 2: `starter` and `answerer` are the ephemeral keys of the two records (PROTOCOL §5.2).
    pub fn rekey(
        &self,
        starter: &[u8; 32],
        answerer: &[u8; 32],
        ek: &[u8; PUBLIC_LEN],
        ct: &[u8; CIPHERTEXT_LEN],
    ) -> Self {
        Self(hash(const { Label::new("transcript n") }, &[&self.0, starter, answerer, &digest(ek), &digest(ct)]))
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Everything that follows from a hello and its answer (PROTOCOL §4.4).
#[derive(Debug)]
pub struct Epoch0 {
    /// `th_0`.
    pub transcript: Transcript,
    /// The keys of epoch 0, always for [`Cipher::ChaCha20Poly1305`].
    pub keys: EpochKeys,
    /// `chain_0`.
    pub chain: Chain,
    confirm: Secret<32>,
}

impl Epoch0 {
    /// Derives epoch 0 from the hash of the hello, the fields of the answer, and the X25519 secret of both ephemeral keys.
    pub fn derive(
        net: &Net,
        hello: &[u8; 32],
        ephemeral: &[u8; 32],
        responder: &PeerId,
        signature: &[u8; 64],
        shared: &Secret<32>,
    ) -> Self {
        let transcript = Transcript::answer(hello, ephemeral, responder, signature);
        let okm: Secret<136> = derive(&transcript.0, &[shared, &net.psk], const { Label::new("epoch 0") });
        let mut okm = Okm(okm.expose());
        let (i_to_r, r_to_i, confirm, chain) = (okm.secret(), okm.secret(), okm.secret(), Chain(okm.secret()));
        let (towards_i, towards_r) = (okm.index(), okm.index());
        Self { transcript, keys: EpochKeys { i_to_r, r_to_i, towards_i, towards_r }, chain, confirm }
    }

    /// The last field of a hello answer.
    pub fn confirmation(&self) -> [u8; 32] {
        mac(&self.confirm, &[const { Label::new("confirm") }.as_bytes(), &self.transcript.0])
    }

    /// Verifies [`Epoch0::confirmation`] in constant time.
    ///
    /// # Errors
    ///
    /// [`BadConfirmation`] if it differs: the sender does not know the secrets, or saw another hello.
    pub fn verify_confirmation(&self, confirmation: &[u8; 32]) -> Result<(), BadConfirmation> {
        if equal(&self.confirmation(), confirmation) { Ok(()) } else { Err(BadConfirmation) }
    }
}

/// The confirmation of a hello answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad key confirmation")]
pub struct BadConfirmation;

/// `chain_n`: the secret that joins epoch n to the one before it.
#[derive(Debug)]
pub struct Chain(Secret<32>);

impl Chain {
    /// Epoch 1 from `chain_0`, `th_1` and the ML-KEM secret (PROTOCOL §4.5).
    pub fn quantum(&self, th_1: &Transcript, kem: &Secret<32>) -> (EpochKeys, Self) {
        epoch(th_1, &[&self.0, kem], const { Label::new("epoch 1") })
    }

    /// Epoch n ≥ 2 from `chain_{n-1}`, `th_n`, the X25519 and the ML-KEM secret (PROTOCOL §5.2).
    pub fn rekey(&self, th_n: &Transcript, shared: &Secret<32>, kem: &Secret<32>) -> (EpochKeys, Self) {
        epoch(th_n, &[&self.0, shared, kem], const { Label::new("epoch n") })
    }
}

fn epoch(transcript: &Transcript, secrets: &[&Secret<32>], info: Label) -> (EpochKeys, Chain) {
    let okm: Secret<104> = derive(&transcript.0, secrets, info);
    let mut okm = Okm(okm.expose());
    let (i_to_r, r_to_i, chain) = (okm.secret(), okm.secret(), Chain(okm.secret()));
    let (towards_i, towards_r) = (okm.index(), okm.index());
    (EpochKeys { i_to_r, r_to_i, towards_i, towards_r }, chain)
}

/// Cuts output keying material into its fields, from the front.
struct Okm<'a>(&'a [u8]);

impl Okm<'_> {
    fn take<const N: usize>(&mut self) -> &[u8; N] {
        #[expect(clippy::expect_used, reason = "the lengths of both epoch layouts are constants")]
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to the length derived");
        self.0 = rest;
        field
    }

    fn secret(&mut self) -> Secret<32> {
        Secret::fill(|bytes| bytes.copy_from_slice(self.take::<32>()))
    }

    fn index(&mut self) -> SessionIndex {
        SessionIndex(u32::from_be_bytes(*self.take()))
    }
}

/// The keys of one epoch and the indexes under which its packets travel.
#[derive(Debug)]
pub struct EpochKeys {
    i_to_r: Secret<32>,
    r_to_i: Secret<32>,
    /// `idx_I`: on packets towards the initiator.
    pub towards_i: SessionIndex,
    /// `idx_R`: on packets towards the responder.
    pub towards_r: SessionIndex,
}

impl EpochKeys {
    /// The keys as the side in `role` uses them. They are erased here: what is left of them is in the halves.
    pub fn split(self, role: Role, cipher: Cipher) -> Halves {
        let Self { i_to_r, r_to_i, towards_i, towards_r } = self;
        let (seal, open, send, receive) = match role {
            Role::Initiator => (i_to_r, r_to_i, towards_r, towards_i),
            Role::Responder => (r_to_i, i_to_r, towards_i, towards_r),
        };
        Halves { seal: SealKey::new(cipher, &seal), open: OpenKey::new(cipher, &open), send, receive }
    }
}

/// One side's view of an epoch.
#[derive(Debug)]
pub struct Halves {
    /// Seals what this side sends.
    pub seal: SealKey,
    /// Opens what this side receives.
    pub open: OpenKey,
    /// The index on packets that this side sends.
    pub send: SessionIndex,
    /// The index on packets that this side receives.
    pub receive: SessionIndex,
}

/// Which side of a handshake a node was; it keeps the role for the life of the session (PROTOCOL §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sent the hello.
    Initiator,
    /// Answered it.
    Responder,
}
