//! The formulas of PROTOCOL §12: what an introduction signs, and the marks by which members know each other without a session.

use super::hash::{hash, hash_secret, mac, short_mac};
use super::keys::{BadSignature, IdentitySecret, Label, SignatureValid, verify};
use super::schedule::Net;
use crate::base::PeerId;

const VERSION: u8 = 0x01;
const INTRODUCTION: Label = Label::new("introduction");

/// Who is introduced by whom to whom, under which key, and when (PROTOCOL §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced<'a> {
    /// `S_1`, who asks.
    pub asker: &'a PeerId,
    /// `S_2`, the introducer.
    pub introducer: &'a PeerId,
    /// `S_3`, the target.
    pub target: &'a PeerId,
    /// `X_1`, a fresh X25519 key of the asker.
    pub ephemeral: &'a [u8; 32],
    /// `N_3`, the nonce that the target gave out.
    pub nonce: &'a [u8; 16],
}

/// From which end a punch token comes (PROTOCOL §12.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunchedBy {
    /// The one who asked for the introduction.
    Asker,
    /// The one who was asked for.
    Target,
}

impl Net {
    /// `sig_X`, the signature of the asker.
    pub fn sign_introduction(&self, asker: &IdentitySecret, introduced: &Introduced<'_>) -> [u8; 64] {
        asker.sign(INTRODUCTION, &self.introduction(introduced))
    }

    /// Verifies [`Net::sign_introduction`].
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if anything differs.
    pub fn verify_introduction(
        &self,
        introduced: &Introduced<'_>,
        signature: &[u8; 64],
    ) -> Result<SignatureValid, BadSignature> {
        verify(introduced.asker, INTRODUCTION, &self.introduction(introduced), signature)
    }

    fn introduction<'a>(&'a self, introduced: &Introduced<'a>) -> [&'a [u8]; 7] {
        let Introduced { asker, introducer, target, ephemeral, nonce } = *introduced;
        [&[VERSION], self.secret(), asker.as_bytes(), introducer.as_bytes(), target.as_bytes(), ephemeral, nonce]
    }

    /// `h_I` of a handshake that begins with an introduction.
    pub fn introduction_hash(&self, introduced: &Introduced<'_>, signature: &[u8; 64]) -> [u8; 32] {
        let [_, rest @ ..] = self.introduction(introduced);
        let [net, asker, introducer, target, ephemeral, nonce] = rest;
        hash(const { Label::new("intro I") }, &[net, asker, introducer, target, ephemeral, nonce, signature])
    }

    /// The cookie field of a ping that opens the way between the two who are being introduced.
    pub fn punch_token(&self, ephemeral: &[u8; 32], asker: &PeerId, target: &PeerId, by: PunchedBy) -> [u8; 32] {
        let parts: [&[u8]; 4] = [self.secret(), ephemeral, asker.as_bytes(), target.as_bytes()];
        let end = match by {
            PunchedBy::Asker => 0x01,
            PunchedBy::Target => 0x02,
        };
        mac(&hash_secret(const { Label::new("punch") }, &parts), &[&[end]])
    }

    /// By which relays name a member (PROTOCOL §12.6).
    pub fn tag(&self, member: &PeerId) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = hash(const { Label::new("tag") }, &[self.secret(), member.as_bytes()]);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The MAC in an announcement of `member` on its link, with the number `n` (PROTOCOL §12.7).
    pub fn announcement_mac(&self, member: &PeerId, n: &[u8; 16]) -> [u8; 16] {
        short_mac(&self.key_of(const { Label::new("lan") }, member), &[n])
    }

    /// How high `introducer` stands among those who shall know `target` (PROTOCOL §12.1): the highest comes first.
    pub fn rank(&self, target: &PeerId, introducer: &PeerId) -> u64 {
        let parts: [&[u8]; 3] = [self.secret(), target.as_bytes(), introducer.as_bytes()];
        let [a, b, c, d, e, f, g, h, ..] = hash(const { Label::new("rank") }, &parts);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::crypto::secret::Secret;

    #[test]
    fn a_signature_binds_all_three_the_key_and_the_nonce() {
        let net = Net::new(&Secret::fill(|psk| psk.fill(0)));
        let mut rng = Rng::from_number(1);
        let asker = IdentitySecret::generate(&mut rng);
        let [introducer, target] = [2, 3].map(|number| IdentitySecret::generate(&mut Rng::from_number(number)).id());
        let (own, ephemeral, nonce) = (asker.id(), [1; 32], [2; 16]);
        let right =
            Introduced { asker: &own, introducer: &introducer, target: &target, ephemeral: &ephemeral, nonce: &nonce };
        let signature = net.sign_introduction(&asker, &right);
        assert!(net.verify_introduction(&right, &signature).is_ok());
        let wrong = [
            Introduced { introducer: &target, ..right },
            Introduced { target: &introducer, ..right },
            Introduced { asker: &target, ..right },
            Introduced { ephemeral: &[3; 32], ..right },
            Introduced { nonce: &[3; 16], ..right },
        ];
        for wrong in wrong {
            assert!(net.verify_introduction(&wrong, &signature).is_err(), "{wrong:?}");
            assert_ne!(net.introduction_hash(&wrong, &signature), net.introduction_hash(&right, &signature));
        }
    }

    #[test]
    fn both_ends_compute_both_tokens_and_they_differ() {
        let net = Net::new(&Secret::fill(|psk| psk.fill(0)));
        let [one, three] = [1, 3].map(|number| IdentitySecret::generate(&mut Rng::from_number(number)).id());
        let token = |by| net.punch_token(&[1; 32], &one, &three, by);
        assert_ne!(token(PunchedBy::Asker), token(PunchedBy::Target));
        assert_ne!(token(PunchedBy::Asker), net.punch_token(&[2; 32], &one, &three, PunchedBy::Asker));
        assert_ne!(net.tag(&one), net.tag(&three));
    }
}
