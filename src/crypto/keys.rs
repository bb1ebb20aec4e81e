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
    verify_message(signer, &message(label, parts), signature)
}

fn verify_message(signer: &PeerId, message: &[u8], signature: &[u8; 64]) -> Result<SignatureValid, BadSignature> {
    let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| BadSignature)?;
    // The library decodes a key whose y is not reduced modulo p; two peer ids would then name one key.
    if key.to_edwards().compress().as_bytes() != signer.as_bytes() {
        return Err(BadSignature);
    }
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    const HELLO: Label = Label::new("hello");

    fn identity(number: u64) -> IdentitySecret {
        IdentitySecret::generate(&mut Rng::from_number(number))
    }

    #[test]
    fn a_label_is_the_prefix_the_name_and_zeros() {
        assert_eq!(HELLO.as_bytes(), b"handfast/1 hello\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&Label::new("123456789012345678901").as_bytes()[11..], b"123456789012345678901");
    }

    #[test]
    fn ed25519_matches_rfc_8032() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &[][..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                 d25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
                 387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659\
                 4a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let identity = IdentitySecret::from_seed(Secret::fill(|bytes| *bytes = hex(seed)));
            let signature: [u8; 64] = hex(signature);
            assert_eq!(identity.id(), PeerId(hex(public)));
            assert_eq!(identity.signing.sign(message).to_bytes(), signature);
            verify_message(&identity.id(), message, &signature).unwrap();
        }
    }

    #[test]
    fn the_seed_of_an_identity_makes_it_again() {
        let identity = identity(1);
        let again = IdentitySecret::from_seed(Secret::fill(|bytes| *bytes = *identity.seed().expose()));
        assert_eq!(again.id(), identity.id());
    }

    #[test]
    fn a_signature_is_valid_for_its_signer_label_and_text_only() {
        let [alice, bob] = [identity(1), identity(2)];
        let signature = alice.sign(HELLO, &[b"one", b"two"]);
        verify(&alice.id(), HELLO, &[b"one", b"two"], &signature).unwrap();
        assert_eq!(verify(&bob.id(), HELLO, &[b"one", b"two"], &signature).unwrap_err(), BadSignature);
        assert_eq!(verify(&alice.id(), Label::new("finish"), &[b"one", b"two"], &signature).unwrap_err(), BadSignature);
        assert_eq!(verify(&alice.id(), HELLO, &[b"one", b"twp"], &signature).unwrap_err(), BadSignature);
    }

    #[test]
    fn no_bit_of_a_signature_may_flip() {
        let alice = identity(1);
        let signature = alice.sign(HELLO, &[b"text"]);
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&alice.id(), HELLO, &[b"text"], &flipped).unwrap_err(), BadSignature, "bit {bit}");
        }
    }

    #[test]
    fn a_signature_with_s_above_the_group_order_is_refused() {
        let order: [u8; 32] = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let alice = identity(1);
        let mut signature = alice.sign(HELLO, &[b"text"]);
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(verify(&alice.id(), HELLO, &[b"text"], &signature).unwrap_err(), BadSignature);
    }

    /// With A, R and S as here the verification equation holds for every message.
    #[test]
    fn keys_of_small_order_and_their_other_encodings_are_refused() {
        let one = "0100000000000000000000000000000000000000000000000000000000000000";
        let one_unreduced = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
        let one_negative = "0100000000000000000000000000000000000000000000000000000000000080";
        for key in [one, one_unreduced, one_negative] {
            for r in [one, one_unreduced, one_negative] {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&hex::<32>(r));
                let refused = verify(&PeerId(hex(key)), HELLO, &[b"text"], &signature);
                assert_eq!(refused.unwrap_err(), BadSignature, "A = {key}, R = {r}");
            }
        }
    }

    /// The signer of private key 0707..07 chose r = 0: a lenient verifier accepts this.
    #[test]
    fn a_signature_with_r_of_small_order_is_refused() {
        let signer = IdentitySecret::from_seed(Secret::fill(|bytes| *bytes = [7; 32])).id();
        let signature = hex("0100000000000000000000000000000000000000000000000000000000000000\
             c76d1f3212ecf8da373e21a5de7bcc9145598fd06a18f0723f121fb05d5b9106");
        let lenient = VerifyingKey::from_bytes(signer.as_bytes()).unwrap();
        ed25519_dalek::Verifier::verify(&lenient, b"a message", &Signature::from_bytes(&signature)).unwrap();
        assert_eq!(verify_message(&signer, b"a message", &signature).unwrap_err(), BadSignature);
    }

    #[test]
    fn a_peer_id_that_is_no_point_is_refused() {
        let no_point = PeerId(hex("0200000000000000000000000000000000000000000000000000000000000000"));
        assert_eq!(verify(&no_point, HELLO, &[], &[0; 64]).unwrap_err(), BadSignature);
    }

    #[test]
    fn x25519_matches_rfc_7748() {
        for (scalar, theirs, shared) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
            (
                "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
                "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
            ),
        ] {
            let ours = EphemeralSecret::from_seed(&Secret::fill(|bytes| *bytes = hex(scalar)));
            assert_eq!(ours.agree(&hex(theirs)).unwrap().expose(), &hex::<32>(shared));
        }
        let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let public = EphemeralSecret::from_seed(&Secret::fill(|bytes| *bytes = hex(bob))).public();
        assert_eq!(public, hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    }

    #[test]
    fn two_ephemeral_keys_agree() {
        let mut rng = Rng::from_number(3);
        let [one, other] = [EphemeralSecret::generate(&mut rng), EphemeralSecret::generate(&mut rng)];
        let shared = one.agree(&other.public()).unwrap();
        assert_eq!(shared.expose(), other.agree(&one.public()).unwrap().expose());
    }

    #[test]
    fn x25519_keys_of_small_order_are_refused() {
        let ours = EphemeralSecret::generate(&mut Rng::from_number(3));
        for theirs in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert_eq!(ours.agree(&hex(theirs)).unwrap_err(), NonContributory, "{theirs}");
        }
    }

    #[test]
    fn private_keys_do_not_print() {
        let text = format!("{:?} {:?}", identity(1), EphemeralSecret::generate(&mut Rng::from_number(3)));
        assert_eq!(text, format!("IdentitySecret({:?}) EphemeralSecret(..)", identity(1).id()));
    }
}
