//! Answering hellos (PROTOCOL §4.1 to §4.4). Before a valid cookie it keeps no state and does no public-key work.

use std::net::SocketAddr;
use std::time::Instant;

use super::Local;
use super::initiator::split;
use crate::base::{PeerId, Rng};
use crate::crypto::cookie::CookieJar;
use crate::crypto::equal;
use crate::crypto::keys::EphemeralSecret;
use crate::crypto::schedule::{Epoch0, hello_hash};
use crate::proto::bucket::{Bucket, PrefixBuckets, Rate};
use crate::proto::event::Dropped;
use crate::wire::hello::{
    COOKIE_PACKET_LEN, CookieKind, HELLO_LEN, Hello, HelloKind, encode_cookie_packet, encode_hello,
};

/// Hello retries per source prefix. The source may be spoofed: a bucket that is soon empty would not protect this node, it would lock out the true owner of the address.
const RETRIES: Rate = Rate { per_second: 1000, burst: 200 };
/// Hellos with a valid cookie per source prefix: each costs a signature check and more.
const PUBLIC_KEY: Rate = Rate { per_second: 10, burst: 10 };
/// The same from everywhere: an accepted hello costs 0.25 ms, so this is a quarter of a core.
const PUBLIC_KEY_ALL: Rate = Rate { per_second: 1000, burst: 100 };

/// The responder's secrets and limits; nothing about any single initiator.
#[derive(Debug)]
pub(crate) struct Responder {
    cookies: CookieJar,
    retries: PrefixBuckets,
    public_key: PrefixBuckets,
    public_key_all: Bucket,
}

/// What the cookie field of a hello says.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The source has proven its address.
    Cookie,
    /// It has not, but it knows this node's key: this goes back to it.
    Retry([u8; COOKIE_PACKET_LEN]),
}

/// A hello that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) answer: [u8; HELLO_LEN],
    pub(crate) epoch: Epoch0,
}

impl Responder {
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        Self {
            cookies: CookieJar::new(now, rng),
            retries: PrefixBuckets::new(RETRIES, rng),
            public_key: PrefixBuckets::new(PUBLIC_KEY, rng),
            public_key_all: Bucket::default(),
        }
    }

    /// Looks at the cookie field (PROTOCOL §4.1).
    pub(crate) fn check_cookie(
        &mut self,
        now: Instant,
        source: SocketAddr,
        hello: &Hello<'_>,
        local: &Local,
    ) -> Result<Proof, Dropped> {
        let (e, s) = (hello.ephemeral(), hello.identity());
        if s == local.id {
            return Err(Dropped::OwnIdentity);
        }
        let mac1 = local.net.mac1(&local.id, e, &s);
        if self.is_cookie(source, hello, local, &mac1) {
            return Ok(Proof::Cookie);
        }
        if !equal(hello.cookie(), &mac1) {
            return Err(Dropped::BadMac);
        }
        if !self.retries.take(now, source.ip()) {
            return Err(Dropped::RateLimited);
        }
        let ck = self.cookies.retry(source, e, &s);
        let ct = local.net.cookie_tag(&local.id, e, &s, &mac1, &ck);
        let mut cookie = [0; 32];
        cookie[..16].copy_from_slice(&ck);
        cookie[16..].copy_from_slice(&ct);
        Ok(Proof::Retry(encode_cookie_packet(CookieKind::Retry, &cookie)))
    }

    fn is_cookie(&self, source: SocketAddr, hello: &Hello<'_>, local: &Local, mac1: &[u8; 32]) -> bool {
        let (e, s) = (hello.ephemeral(), hello.identity());
        let (ck, ct) = split(hello.cookie());
        let tag = equal(&local.net.cookie_tag(&local.id, e, &s, mac1, &ck), &ct);
        self.cookies.verify(source, e, &s, &ck) && tag
    }

    /// Whether public-key work for `source` may be done now (PROTOCOL §4.3, step 5).
    pub(crate) fn admit(&mut self, now: Instant, source: SocketAddr) -> Result<(), Dropped> {
        let admitted = self.public_key.take(now, source.ip()) && self.public_key_all.take(now, PUBLIC_KEY_ALL);
        if admitted { Ok(()) } else { Err(Dropped::RateLimited) }
    }

    /// New secrets when they are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut Rng) {
        self.cookies.rotate(now, rng);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.cookies.deadline()
    }
}

/// Step 6 of PROTOCOL §4.3.
pub(crate) fn verify_hello(local: &Local, hello: &Hello<'_>) -> Result<(), Dropped> {
    local
        .net
        .verify_hello(&hello.identity(), &local.id, hello.ephemeral(), hello.cookie(), hello.signature())
        .map(|_| ())
        .map_err(|_| Dropped::BadSignature)
}

/// Makes the answer to a hello whose signature was verified (PROTOCOL §4.4).
pub(crate) fn answer(local: &Local, hello: &Hello<'_>, rng: &mut Rng) -> Result<Accepted, Dropped> {
    answer_to(local, &hello.identity(), hello.ephemeral(), &hello_hash(hello.bytes()), rng)
}

/// Makes the answer to whatever began the handshake with hash `h_I`: a hello, or an introduction (PROTOCOL §12.3).
pub(crate) fn answer_to(
    local: &Local,
    initiator: &PeerId,
    theirs: &[u8; 32],
    hash: &[u8; 32],
    rng: &mut Rng,
) -> Result<Accepted, Dropped> {
    let ephemeral = EphemeralSecret::generate(rng);
    let public = ephemeral.public();
    let shared = ephemeral.agree(theirs).map_err(|_| Dropped::WeakKey)?;
    let signature = local.net.sign_answer(&local.identity, initiator, &public, hash);
    let epoch = Epoch0::derive(&local.net, hash, &public, &local.id, &signature, &shared);
    let answer = encode_hello(HelloKind::Answer, &public, &local.id, &signature, &epoch.confirmation());
    Ok(Accepted { answer, epoch })
}
