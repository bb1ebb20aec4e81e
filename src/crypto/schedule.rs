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

    /// What every formula of the mesh is keyed with.
    pub(super) fn secret(&self) -> &[u8; 32] {
        self.net.expose()
    }

    pub(super) fn key_of(&self, label: Label, node: &PeerId) -> Secret<32> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::crypto::aead::{TAG_LEN, TxCounter};
    use crate::crypto::keys::EphemeralSecret;

    const E: [u8; 32] = [1; 32];
    const C: [u8; 32] = [2; 32];
    const EK: [u8; PUBLIC_LEN] = [3; PUBLIC_LEN];
    const CT: [u8; CIPHERTEXT_LEN] = [4; CIPHERTEXT_LEN];

    fn secret(byte: u8) -> Secret<32> {
        Secret::fill(|bytes| *bytes = [byte; 32])
    }

    fn net() -> Net {
        Net::new(&secret(0))
    }

    fn identities() -> [IdentitySecret; 2] {
        [1, 2].map(|number| IdentitySecret::generate(&mut Rng::from_number(number)))
    }

    fn epoch0(psk: u8, shared: u8) -> Epoch0 {
        Epoch0::derive(&Net::new(&secret(psk)), &[5; 32], &E, &PeerId([6; 32]), &[7; 64], &secret(shared))
    }

    /// All ways to flip one bit of `bytes`.
    fn flips<const N: usize>(bytes: [u8; N]) -> impl Iterator<Item = [u8; N]> {
        (0..8 * N).map(move |bit| {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    }

    /// One packet from the sealing half of one side to the opening half of the other.
    fn crosses(from: &Halves, to: &Halves) -> bool {
        let mut packet = [b"user data".as_slice(), &[0; TAG_LEN]].concat();
        from.seal.seal(TxCounter::new().next().unwrap(), b"header", &mut packet);
        to.open.open(0, b"header", &mut packet).is_ok()
    }

    fn joined(one: (EpochKeys, Cipher), other: (EpochKeys, Cipher)) -> bool {
        let initiator = one.0.split(Role::Initiator, one.1);
        let responder = other.0.split(Role::Responder, other.1);
        let by_index = initiator.send == responder.receive && responder.send == initiator.receive;
        by_index && crosses(&initiator, &responder) && crosses(&responder, &initiator)
    }

    #[test]
    fn mac1_depends_on_the_mesh_and_every_key() {
        let [initiator, responder] = identities().map(|identity| identity.id());
        let mac1 = net().mac1(&responder, &E, &initiator);
        assert!(equal(&mac1, &net().mac1(&responder, &E, &initiator)));
        assert!(flips(mac1).all(|flipped| !equal(&flipped, &net().mac1(&responder, &E, &initiator))));
        assert_ne!(mac1, Net::new(&secret(1)).mac1(&responder, &E, &initiator));
        assert_ne!(mac1, net().mac1(&initiator, &E, &responder));
        assert_ne!(mac1, net().mac1(&responder, &C, &initiator));
    }

    #[test]
    fn the_cookie_tag_depends_on_every_field() {
        let [initiator, responder] = identities().map(|identity| identity.id());
        let (mac1, ck) = ([8; 32], [9; 16]);
        let tag = net().cookie_tag(&responder, &E, &initiator, &mac1, &ck);
        assert!(flips(tag).all(|flipped| !equal(&flipped, &tag)));
        assert!(flips(ck).all(|ck| net().cookie_tag(&responder, &E, &initiator, &mac1, &ck) != tag));
        assert!(flips(mac1).all(|mac1| net().cookie_tag(&responder, &E, &initiator, &mac1, &ck) != tag));
        assert!(flips(E).all(|e| net().cookie_tag(&responder, &e, &initiator, &mac1, &ck) != tag));
        assert_ne!(net().cookie_tag(&initiator, &E, &responder, &mac1, &ck), tag);
        assert_ne!(Net::new(&secret(1)).cookie_tag(&responder, &E, &initiator, &mac1, &ck), tag);
    }

    #[test]
    fn a_ping_its_answer_and_another_node_have_different_macs() {
        let [one, other] = identities().map(|identity| identity.id());
        let n = [8; 16];
        let mac = net().ping_mac(&one, &n);
        assert!(flips(n).all(|n| net().ping_mac(&one, &n) != mac));
        assert_ne!(net().pong_mac(&one, &n), mac);
        assert_ne!(net().ping_mac(&other, &n), mac);
        assert_ne!(Net::new(&secret(1)).ping_mac(&one, &n), mac);
    }

    #[test]
    fn a_hello_signature_covers_every_field() {
        let [i, r] = identities();
        let signature = net().sign_hello(&i, &r.id(), &E, &C);
        let valid = |net: &Net, i: &PeerId, r: &PeerId, e: &[u8; 32], c: &[u8; 32], signature: &[u8; 64]| {
            net.verify_hello(i, r, e, c, signature).is_ok()
        };
        assert!(valid(&net(), &i.id(), &r.id(), &E, &C, &signature));
        assert!(!valid(&Net::new(&secret(1)), &i.id(), &r.id(), &E, &C, &signature));
        assert!(!valid(&net(), &r.id(), &i.id(), &E, &C, &signature));
        assert!(!valid(&net(), &i.id(), &i.id(), &E, &C, &signature));
        assert!(flips(E).step_by(7).all(|e| !valid(&net(), &i.id(), &r.id(), &e, &C, &signature)));
        assert!(flips(C).step_by(7).all(|c| !valid(&net(), &i.id(), &r.id(), &E, &c, &signature)));
        assert!(flips(signature).step_by(7).all(|flipped| !valid(&net(), &i.id(), &r.id(), &E, &C, &flipped)));
    }

    #[test]
    fn an_answer_signature_covers_every_field() {
        let [i, r] = identities();
        let hello = hello_hash(&[8; 162]);
        let signature = net().sign_answer(&r, &i.id(), &E, &hello);
        let valid = |net: &Net, r: &PeerId, i: &PeerId, e: &[u8; 32], hello: &[u8; 32], signature: &[u8; 64]| {
            net.verify_answer(r, i, e, hello, signature).is_ok()
        };
        assert!(valid(&net(), &r.id(), &i.id(), &E, &hello, &signature));
        assert!(!valid(&Net::new(&secret(1)), &r.id(), &i.id(), &E, &hello, &signature));
        assert!(!valid(&net(), &i.id(), &r.id(), &E, &hello, &signature));
        assert!(!valid(&net(), &r.id(), &r.id(), &E, &hello, &signature));
        assert!(flips(E).step_by(7).all(|e| !valid(&net(), &r.id(), &i.id(), &e, &hello, &signature)));
        assert!(flips(hello).step_by(7).all(|hello| !valid(&net(), &r.id(), &i.id(), &E, &hello, &signature)));
        assert!(flips(signature).step_by(7).all(|flipped| !valid(&net(), &r.id(), &i.id(), &E, &hello, &flipped)));
    }

    #[test]
    fn a_finish_signature_covers_the_transcript() {
        let [i, r] = identities();
        let th_1 = Transcript([8; 32]);
        let signature = net().sign_finish(&i, &th_1);
        net().verify_finish(&i.id(), &th_1, &signature).unwrap();
        assert_eq!(net().verify_finish(&r.id(), &th_1, &signature).unwrap_err(), BadSignature);
        assert_eq!(Net::new(&secret(1)).verify_finish(&i.id(), &th_1, &signature).unwrap_err(), BadSignature);
        for flipped in flips(th_1.0).step_by(7) {
            assert_eq!(net().verify_finish(&i.id(), &Transcript(flipped), &signature).unwrap_err(), BadSignature);
        }
        for flipped in flips(signature).step_by(7) {
            assert_eq!(net().verify_finish(&i.id(), &th_1, &flipped).unwrap_err(), BadSignature);
        }
    }

    #[test]
    fn a_rekey_signature_covers_every_field() {
        let [i, r] = identities();
        let previous = Transcript([8; 32]);
        let signature = net().sign_rekey(&i, &previous, &E, &EK);
        let valid = |net: &Net, s: &PeerId, previous: [u8; 32], e: &[u8; 32], ek: &[u8; PUBLIC_LEN]| {
            net.verify_rekey(s, &Transcript(previous), e, ek, &signature).is_ok()
        };
        assert!(valid(&net(), &i.id(), previous.0, &E, &EK));
        assert!(!valid(&Net::new(&secret(1)), &i.id(), previous.0, &E, &EK));
        assert!(!valid(&net(), &r.id(), previous.0, &E, &EK));
        assert!(flips(previous.0).step_by(7).all(|previous| !valid(&net(), &i.id(), previous, &E, &EK)));
        assert!(flips(E).step_by(7).all(|e| !valid(&net(), &i.id(), previous.0, &e, &EK)));
        assert!(flips(EK).step_by(701).all(|ek| !valid(&net(), &i.id(), previous.0, &E, &ek)));
        for flipped in flips(signature).step_by(7) {
            assert_eq!(net().verify_rekey(&i.id(), &previous, &E, &EK, &flipped).unwrap_err(), BadSignature);
        }
    }

    #[test]
    fn a_rekey_answer_signature_covers_the_transcript_and_is_no_finish() {
        let [i, r] = identities();
        let th_n = Transcript([8; 32]);
        let signature = net().sign_rekey_answer(&r, &th_n);
        net().verify_rekey_answer(&r.id(), &th_n, &signature).unwrap();
        assert_eq!(net().verify_rekey_answer(&i.id(), &th_n, &signature).unwrap_err(), BadSignature);
        assert_eq!(net().verify_finish(&r.id(), &th_n, &signature).unwrap_err(), BadSignature);
        assert_eq!(Net::new(&secret(1)).verify_rekey_answer(&r.id(), &th_n, &signature).unwrap_err(), BadSignature);
        for flipped in flips(th_n.0).step_by(7) {
            assert_eq!(net().verify_rekey_answer(&r.id(), &Transcript(flipped), &signature).unwrap_err(), BadSignature);
        }
        for flipped in flips(signature).step_by(7) {
            assert_eq!(net().verify_rekey_answer(&r.id(), &th_n, &flipped).unwrap_err(), BadSignature);
        }
    }

    #[test]
    fn no_bit_of_a_hello_or_a_confirmation_may_flip() {
        let hello = [8; 162];
        assert!(flips(hello).all(|flipped| hello_hash(&flipped) != hello_hash(&hello)));

        let epoch0 = epoch0(0, 1);
        epoch0.verify_confirmation(&epoch0.confirmation()).unwrap();
        for flipped in flips(epoch0.confirmation()) {
            assert_eq!(epoch0.verify_confirmation(&flipped).unwrap_err(), BadConfirmation);
        }
    }

    #[test]
    fn the_confirmation_shows_the_mesh_secret_and_the_shared_secret() {
        let confirmation = epoch0(0, 1).confirmation();
        epoch0(0, 1).verify_confirmation(&confirmation).unwrap();
        assert_eq!(epoch0(1, 1).verify_confirmation(&confirmation).unwrap_err(), BadConfirmation);
        assert_eq!(epoch0(0, 2).verify_confirmation(&confirmation).unwrap_err(), BadConfirmation);
    }

    #[test]
    fn every_field_of_an_answer_is_in_the_transcript() {
        let (hello, responder, signature) = ([5; 32], PeerId([6; 32]), [7; 64]);
        let transcript = Transcript::answer(&hello, &E, &responder, &signature);
        assert!(flips(hello).all(|hello| Transcript::answer(&hello, &E, &responder, &signature) != transcript));
        assert!(flips(E).all(|e| Transcript::answer(&hello, &e, &responder, &signature) != transcript));
        assert!(flips(responder.0).all(|r| Transcript::answer(&hello, &E, &PeerId(r), &signature) != transcript));
        assert!(flips(signature).all(|s| Transcript::answer(&hello, &E, &responder, &s) != transcript));
    }

    #[test]
    fn every_field_of_offer_and_finish_is_in_the_transcript() {
        let th_0 = Transcript([8; 32]);
        let th_1 = th_0.quantum(1, 2, &EK, &CT);
        assert_ne!(Transcript([9; 32]).quantum(1, 2, &EK, &CT), th_1);
        assert_ne!(th_0.quantum(2, 1, &EK, &CT), th_1);
        assert_ne!(th_0.quantum(1 << 31 | 1, 2, &EK, &CT), th_1);
        assert!(flips(EK).step_by(101).all(|ek| th_0.quantum(1, 2, &ek, &CT) != th_1));
        assert!(flips(CT).step_by(101).all(|ct| th_0.quantum(1, 2, &EK, &ct) != th_1));
    }

    #[test]
    fn every_field_of_a_rekey_is_in_the_transcript() {
        let previous = Transcript([8; 32]);
        let th_n = previous.rekey(&E, &C, &EK, &CT);
        assert_ne!(Transcript([9; 32]).rekey(&E, &C, &EK, &CT), th_n);
        assert_ne!(previous.rekey(&C, &E, &EK, &CT), th_n);
        assert!(flips(E).all(|e| previous.rekey(&e, &C, &EK, &CT) != th_n));
        assert!(flips(C).all(|e| previous.rekey(&E, &e, &EK, &CT) != th_n));
        assert!(flips(EK).step_by(101).all(|ek| previous.rekey(&E, &C, &ek, &CT) != th_n));
        assert!(flips(CT).step_by(101).all(|ct| previous.rekey(&E, &C, &EK, &ct) != th_n));
    }

    #[test]
    fn both_sides_of_a_session_understand_each_other_in_every_epoch() {
        let mut rng = Rng::from_number(4);
        let [e_i, e_r] = [EphemeralSecret::generate(&mut rng), EphemeralSecret::generate(&mut rng)];
        let derive =
            |shared: Secret<32>| Epoch0::derive(&net(), &[5; 32], &e_r.public(), &PeerId([6; 32]), &[7; 64], &shared);
        let i = derive(e_i.agree(&e_r.public()).unwrap());
        let r = derive(e_r.agree(&e_i.public()).unwrap());
        let chacha = Cipher::ChaCha20Poly1305;
        assert!(joined((i.keys, chacha), (r.keys, chacha)));

        let th_1 = i.transcript.quantum(1, 3, &EK, &CT);
        let ((keys_i, chain_i), (keys_r, chain_r)) =
            (i.chain.quantum(&th_1, &secret(5)), r.chain.quantum(&th_1, &secret(5)));
        assert!(joined((keys_i, Cipher::Aes256Gcm), (keys_r, Cipher::Aes256Gcm)));

        let th_2 = th_1.rekey(&E, &C, &EK, &CT);
        let ((keys_i, chain_i), (keys_r, chain_r)) =
            (chain_i.rekey(&th_2, &secret(6), &secret(7)), chain_r.rekey(&th_2, &secret(6), &secret(7)));
        assert!(joined((keys_i, chacha), (keys_r, chacha)));

        let th_3 = th_2.rekey(&E, &C, &EK, &CT);
        let ((keys_i, _), (keys_r, _)) =
            (chain_i.rekey(&th_3, &secret(6), &secret(7)), chain_r.rekey(&th_3, &secret(6), &secret(7)));
        assert!(joined((keys_i, chacha), (keys_r, chacha)));
    }

    #[test]
    fn keys_depend_on_every_secret_and_on_the_cipher_and_differ_by_direction() {
        let chacha = Cipher::ChaCha20Poly1305;
        let th_n = Transcript([8; 32]);
        let chain = |byte| Chain(secret(byte));
        let keys = || (chain(1).rekey(&th_n, &secret(2), &secret(3)).0, chacha);
        assert!(joined(keys(), keys()));
        assert!(!joined(keys(), (chain(9).rekey(&th_n, &secret(2), &secret(3)).0, chacha)));
        assert!(!joined(keys(), (chain(1).rekey(&th_n, &secret(9), &secret(3)).0, chacha)));
        assert!(!joined(keys(), (chain(1).rekey(&th_n, &secret(2), &secret(9)).0, chacha)));
        assert!(!joined(keys(), (chain(1).rekey(&Transcript([9; 32]), &secret(2), &secret(3)).0, chacha)));
        assert!(!joined(keys(), (keys().0, Cipher::Aes256Gcm)));

        let [one, other] = [keys().0.split(Role::Initiator, chacha), keys().0.split(Role::Initiator, chacha)];
        assert!(!crosses(&one, &other), "a packet must not be reflected to its sender");
    }

    #[test]
    fn what_is_derived_does_not_print_its_secrets() {
        let text = format!("{:?} {:?}", net(), epoch0(0, 1));
        assert_eq!(text.matches("Secret(..)").count(), 2 + 2 + 1 + 1);
    }
}
