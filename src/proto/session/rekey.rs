//! New keys inside a session (PROTOCOL §5.2).

use std::time::Instant;

use super::epoch::Epoch;
use super::{Context, Outcome, Session};
use crate::base::Rng;
use crate::crypto::kem::{CIPHERTEXT_LEN, KemSecret, PUBLIC_LEN, encapsulate};
use crate::crypto::keys::EphemeralSecret;
use crate::crypto::schedule::Transcript;
use crate::crypto::secret::Secret;
use crate::proto::bucket::Rate;
use crate::proto::event::Ended;
use crate::proto::handshake::Local;
use crate::wire::record::Record;

/// Rekeys of a peer that are answered: each costs as much as a hello.
const REKEYS: Rate = Rate { per_second: 1, burst: 10 };

/// What whoever started a rekey keeps until the answer.
#[derive(Debug)]
pub(crate) struct PendingRekey {
    ephemeral: EphemeralSecret,
    kem: KemSecret,
}

impl Session {
    /// Whether a rekey may start: confirmed, none under way, and the peer was heard in the present epoch.
    pub(super) fn may_rekey(&self) -> bool {
        self.is_confirmed() && self.rekey.is_none() && self.next.is_none() && self.current.opener.has_heard()
    }

    pub(crate) fn start_rekey(&mut self, now: Instant, local: &Local, rng: &mut Rng) {
        let pending = PendingRekey { ephemeral: EphemeralSecret::generate(rng), kem: KemSecret::generate(rng) };
        let (public, ek) = (pending.ephemeral.public(), pending.kem.public());
        let signature = local.net.sign_rekey(&local.identity, &self.transcript, &public, &ek);
        let record = Record::Rekey { ephemeral: &public, ek: &ek, signature: &signature }.encode();
        // With a full control queue nothing is pending, and the next timer tries again.
        if self.channels.send_control(now, &record).is_ok() {
            self.rekey = Some(Box::new(pending));
        }
    }

    /// The peer started one.
    pub(super) fn on_rekey(
        &mut self,
        theirs: &[u8; 32],
        ek: &[u8; PUBLIC_LEN],
        signature: &[u8; 64],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Ended> {
        let Context { now, local, peer, ref mut rng } = *context;
        if !self.is_confirmed() || self.next.is_some() {
            return Ok(Outcome::Ignored);
        }
        if self.rekey.is_some() && local.id > *peer {
            // Both have started and ours wins; the peer gives its own up when it reads ours.
            return Ok(Outcome::Handled);
        }
        if !self.rekeys.take(now, REKEYS) {
            return Err(Ended::Fault);
        }
        local.net.verify_rekey(peer, &self.transcript, theirs, ek, signature).map_err(|_| Ended::Fault)?;
        self.rekey = None;
        let ephemeral = EphemeralSecret::generate(rng);
        let public = ephemeral.public();
        let shared = ephemeral.agree(theirs).map_err(|_| Ended::Fault)?;
        let (ct, kem_shared) = encapsulate(ek, rng).map_err(|_| Ended::Fault)?;
        let number = self.current.number + 1;
        let transcript = self.transcript.rekey(theirs, &public, ek, &ct);
        let signature = local.net.sign_rekey_answer(&local.identity, &transcript);
        let record = Record::RekeyAnswer { ephemeral: &public, ct: &ct, signature: &signature }.encode();
        self.channels.send_control(now, &record).map_err(|_| Ended::Fault)?;
        // Sealing stays in the present epoch until the peer is heard in the new one: it may not have the answer yet.
        self.next = Some(Box::new(self.following_epoch(now, number, transcript, &shared, &kem_shared, rng)));
        self.indexes_changed = true;
        Ok(Outcome::Handled)
    }

    /// The peer answered ours.
    pub(super) fn on_rekey_answer(
        &mut self,
        theirs: &[u8; 32],
        ct: &[u8; CIPHERTEXT_LEN],
        signature: &[u8; 64],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Ended> {
        let Context { now, local, peer, ref mut rng } = *context;
        let Some(pending) = self.rekey.take() else {
            return Ok(Outcome::Ignored);
        };
        let number = self.current.number + 1;
        let ek = pending.kem.public();
        let ours = pending.ephemeral.public();
        let transcript = self.transcript.rekey(&ours, theirs, &ek, ct);
        local.net.verify_rekey_answer(peer, &transcript, signature).map_err(|_| Ended::Fault)?;
        let shared = pending.ephemeral.agree(theirs).map_err(|_| Ended::Fault)?;
        let kem_shared = pending.kem.decapsulate(ct);
        self.next = Some(Box::new(self.following_epoch(now, number, transcript, &shared, &kem_shared, rng)));
        self.promote(now);
        // The peer seals in the new epoch only when it hears us there, and we may have no data for it.
        self.keepalive_at = Some(now);
        Ok(Outcome::Handled)
    }

    fn following_epoch(
        &mut self,
        now: Instant,
        number: u64,
        transcript: Transcript,
        shared: &Secret<32>,
        kem_shared: &Secret<32>,
        rng: &mut Rng,
    ) -> Epoch {
        let (keys, chain) = self.chain.rekey(&transcript, shared, kem_shared);
        self.transcript = transcript;
        self.chain = chain;
        Epoch::new(now, number, keys, self.role, self.agreed_cipher(), rng)
    }
}
