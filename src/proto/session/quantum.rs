//! Offer and finish: from epoch 0 to the post-quantum epoch 1 (PROTOCOL §4.5).

use std::time::Instant;

use super::epoch::Epoch;
use super::{Context, Outcome, Serial, Session, Stage};
use crate::base::{Link, Rng};
use crate::crypto::aead::Cipher;
use crate::crypto::kem::{CIPHERTEXT_LEN, KemSecret, PUBLIC_LEN, encapsulate};
use crate::crypto::schedule::{Role, Transcript};
use crate::crypto::secret::Secret;
use crate::proto::event::Ended;
use crate::proto::handshake::responder::Accepted;
use crate::proto::handshake::{CAP_AES, Local};
use crate::proto::path::Paths;
use crate::wire::hello::HELLO_LEN;
use crate::wire::record::Record;

/// What the responder keeps of a half-open session.
#[derive(Debug)]
pub(crate) struct Offered {
    kem: KemSecret,
    /// `E_I`, or `X_1` of an introduction.
    ephemeral: [u8; 32],
    /// The hello that was accepted, if it was one: the same from there gets the same answer.
    hello: Option<([u8; HELLO_LEN], Link)>,
    answer: [u8; HELLO_LEN],
}

/// What a half-open session began with.
#[derive(Debug)]
pub(crate) enum Opening<'a> {
    /// A hello with a valid cookie (PROTOCOL §4.3).
    Hello(&'a [u8; HELLO_LEN]),
    /// An introduction, with this key (PROTOCOL §12.3): where the peer is will be seen.
    Introduction(&'a [u8; 32]),
}

impl Session {
    /// The responder's session: half-open, with its offer queued.
    pub(crate) fn offered(
        now: Instant,
        serial: Serial,
        link: Link,
        opening: Opening<'_>,
        accepted: Accepted,
        local: &Local,
        rng: &mut Rng,
    ) -> Self {
        let kem = KemSecret::generate(rng);
        let offer = Record::Offer { caps: local.caps, ek: &kem.public() }.encode();
        let (ephemeral, hello) = match opening {
            // PROTOCOL §2.1.
            Opening::Hello(hello) => (std::array::from_fn(|at| hello[2 + at]), Some((*hello, link))),
            Opening::Introduction(ephemeral) => (*ephemeral, None),
        };
        let is_introduced = hello.is_none();
        let offered = Offered { kem, ephemeral, hello, answer: accepted.answer };
        let stage = Stage::Offered(Box::new(offered));
        let mut session = Self::new(now, serial, link, Role::Responder, stage, accepted.epoch, rng);
        if is_introduced {
            session.path = Paths::tentative(now, link);
        }
        // A fresh control queue has room for one offer.
        let _ = session.channels.send_control(now, &offer);
        session
    }

    /// The stored answer, if `hello` from there is the one that made this half-open session (PROTOCOL §4.3, step 3).
    pub(crate) fn stored_answer(&self, link: Link, hello: &[u8; HELLO_LEN]) -> Option<&[u8; HELLO_LEN]> {
        match &self.stage {
            Stage::Offered(offered) => {
                let (known, from) = offered.hello.as_ref()?;
                (known == hello && from.remote == link.remote).then_some(&offered.answer)
            }
            Stage::AwaitsOffer | Stage::Finishing | Stage::Confirmed(_) => None,
        }
    }

    /// The initiator's ephemeral key in the hello that made this half-open session; `None` if it was an introduction.
    pub(crate) fn half_open_ephemeral(&self) -> Option<[u8; 32]> {
        match &self.stage {
            Stage::Offered(offered) => offered.hello.is_some().then_some(offered.ephemeral),
            Stage::AwaitsOffer | Stage::Finishing | Stage::Confirmed(_) => None,
        }
    }

    /// Initiator: encapsulates to the responder's key and queues `finish`.
    pub(super) fn on_offer(
        &mut self,
        caps: u32,
        ek: &[u8; PUBLIC_LEN],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Ended> {
        let Context { now, local, ref mut rng, .. } = *context;
        if !matches!(self.stage, Stage::AwaitsOffer) {
            return Ok(Outcome::Ignored);
        }
        let (ct, shared) = encapsulate(ek, rng).map_err(|_| Ended::Fault)?;
        let transcript = self.transcript.quantum(local.caps, caps, ek, &ct);
        let signature = local.net.sign_finish(&local.identity, &transcript);
        let finish = Record::Finish { caps: local.caps, ct: &ct, signature: &signature }.encode();
        self.channels.send_control(now, &finish).map_err(|_| Ended::Fault)?;
        self.agree(caps, local);
        self.next = Some(Box::new(self.first_quantum_epoch(now, transcript, &shared, rng)));
        self.stage = Stage::Finishing;
        self.indexes_changed = true;
        Ok(Outcome::Handled)
    }

    /// Responder: verifies, decapsulates, and goes over to epoch 1.
    pub(super) fn on_finish(
        &mut self,
        caps: u32,
        ct: &[u8; CIPHERTEXT_LEN],
        signature: &[u8; 64],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Ended> {
        let Context { now, local, peer, ref mut rng } = *context;
        let Stage::Offered(offered) = &self.stage else {
            return Ok(Outcome::Ignored);
        };
        let transcript = self.transcript.quantum(caps, local.caps, &offered.kem.public(), ct);
        local.net.verify_finish(peer, &transcript, signature).map_err(|_| Ended::Fault)?;
        let shared = offered.kem.decapsulate(ct);
        let ephemeral = offered.ephemeral;
        self.agree(caps, local);
        let epoch = self.first_quantum_epoch(now, transcript, &shared, rng);
        self.replace_current(now, epoch);
        self.stage = Stage::Confirmed(now);
        self.path.on_confirmed();
        // The initiator leaves epoch 0 when it hears us in epoch 1, and we may have no data for it.
        self.keepalive_at = Some(now);
        Ok(Outcome::Confirmed(ephemeral))
    }

    /// Keys of epoch 1; the chain moves on.
    fn first_quantum_epoch(
        &mut self,
        now: Instant,
        transcript: Transcript,
        shared: &Secret<32>,
        rng: &mut Rng,
    ) -> Epoch {
        let (keys, chain) = self.chain.quantum(&transcript, shared);
        self.transcript = transcript;
        self.chain = chain;
        Epoch::new(now, 1, keys, self.role, self.agreed_cipher(), rng)
    }

    /// The cipher of every epoch from 1 on (PROTOCOL §5.1).
    pub(super) fn agreed_cipher(&self) -> Cipher {
        if self.caps & CAP_AES != 0 { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 }
    }
}
