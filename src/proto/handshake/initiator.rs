//! One attempt to reach a peer (PROTOCOL §4.1, §4.2, §4.6).
//!
//! The attempt greets all addresses with one first hello. The first address whose retry comes back has proven that packets travel both ways,
//! and it alone gets the second hello: the cookie exchange is at the same time the race between IPv4, IPv6 and everything else that is configured. A forged
//! retry or answer changes nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Local;
use crate::base::{PeerId, Rng};
use crate::crypto::equal;
use crate::crypto::keys::EphemeralSecret;
use crate::crypto::schedule::{Epoch0, hello_hash};
use crate::proto::bucket::{Bucket, Rate};
use crate::proto::event::Dropped;
use crate::wire::hello::{HELLO_LEN, Hello, HelloKind, encode_hello};

/// Waits after the first transmissions; the last one repeats (PROTOCOL §4.6).
const REPEAT: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(4000),
    Duration::from_millis(5000),
];
/// An attempt is given up after this long.
const ATTEMPT: Duration = Duration::from_secs(90);
/// Addresses greeted in one attempt.
pub(crate) const MAX_GREETED: usize = 8;
/// Second hellos sent with one cookie; the next transmission is a first hello again.
const SECOND_HELLOS: u8 = 2;
/// Answers examined in one second: each costs public-key work.
const EXAMINED: Rate = Rate { per_second: 20, burst: 20 };

/// State of one attempt.
#[derive(Debug)]
pub(crate) struct Initiator {
    ephemeral: EphemeralSecret,
    public: [u8; 32],
    started: Instant,
    next_at: Instant,
    transmissions: u32,
    /// Where the first hello went.
    greeted: Vec<SocketAddr>,
    /// A first hello is outstanding and its one retry has not come.
    awaits_retry: bool,
    cookie: Option<Cookie>,
    second: Option<SecondHello>,
    examined: Bucket,
}

/// The cookie of the retry that won.
#[derive(Debug)]
struct Cookie {
    from: SocketAddr,
    bytes: [u8; 32],
    used: u8,
}

/// The second hello that was sent last.
#[derive(Debug)]
struct SecondHello {
    to: SocketAddr,
    hash: [u8; 32],
    sent_at: Instant,
}

/// Datagrams to send now.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) to: Vec<SocketAddr>,
    pub(crate) hello: [u8; HELLO_LEN],
}

/// A verified hello answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) epoch: Epoch0,
    /// Between the last transmission of the second hello and its answer.
    pub(crate) rtt: Duration,
}

impl Initiator {
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        let ephemeral = EphemeralSecret::generate(rng);
        Self {
            public: ephemeral.public(),
            ephemeral,
            started: now,
            next_at: now,
            transmissions: 0,
            greeted: Vec::new(),
            awaits_retry: false,
            cookie: None,
            second: None,
            examined: Bucket::default(),
        }
    }

    /// A hello retry arrived. Accepted, it makes the second hello due.
    pub(crate) fn on_retry(
        &mut self,
        now: Instant,
        from: SocketAddr,
        cookie: &[u8; 32],
        local: &Local,
        peer: &PeerId,
    ) -> Result<(), Dropped> {
        if !self.awaits_retry || !self.greeted.contains(&from) {
            return Err(Dropped::Unexpected);
        }
        let mac1 = local.net.mac1(peer, &self.public, &local.id);
        let (ck, ct) = split(cookie);
        if !equal(&local.net.cookie_tag(peer, &self.public, &local.id, &mac1, &ck), &ct) {
            return Err(Dropped::BadRetry);
        }
        self.awaits_retry = false;
        self.cookie = Some(Cookie { from, bytes: *cookie, used: 0 });
        self.next_at = now;
        Ok(())
    }

    /// Whether a second hello went there.
    pub(crate) fn awaits_answer_from(&self, from: SocketAddr) -> bool {
        self.second.as_ref().is_some_and(|second| second.to == from)
    }

    /// Whether the cost of looking at one more answer may be spent now.
    pub(crate) fn may_examine(&mut self, now: Instant, from: SocketAddr) -> Result<(), Dropped> {
        if self.second.as_ref().is_none_or(|second| second.to != from) {
            return Err(Dropped::Unexpected);
        }
        if self.examined.take(now, EXAMINED) { Ok(()) } else { Err(Dropped::RateLimited) }
    }

    /// Checks a hello answer (PROTOCOL §4.4). Changes nothing: whoever forges one must not end the attempt.
    pub(crate) fn verify_answer(
        &self,
        now: Instant,
        local: &Local,
        peer: &PeerId,
        answer: &Hello<'_>,
    ) -> Result<Answered, Dropped> {
        let second = self.second.as_ref().ok_or(Dropped::Unexpected)?;
        let epoch = verify(&self.ephemeral, &second.hash, local, peer, answer)?;
        Ok(Answered { epoch, rtt: now.saturating_duration_since(second.sent_at) })
    }

    /// The next transmission, if it is due.
    pub(crate) fn poll_greeting(
        &mut self,
        now: Instant,
        local: &Local,
        peer: &PeerId,
        endpoints: &[SocketAddr],
        rng: &mut Rng,
    ) -> Option<Greeting> {
        if now < self.next_at || self.is_over(now) {
            return None;
        }
        self.schedule_next(now, rng);
        if self.cookie.as_ref().is_some_and(|cookie| cookie.used >= SECOND_HELLOS) {
            self.cookie = None;
        }
        let field = match &self.cookie {
            Some(cookie) => cookie.bytes,
            None => local.net.mac1(peer, &self.public, &local.id),
        };
        let signature = local.net.sign_hello(&local.identity, peer, &self.public, &field);
        let hello = encode_hello(HelloKind::Hello, &self.public, &local.id, &signature, &field);
        let to = match &mut self.cookie {
            Some(cookie) => {
                cookie.used += 1;
                self.second = Some(SecondHello { to: cookie.from, hash: hello_hash(&hello), sent_at: now });
                vec![cookie.from]
            }
            None => {
                self.greeted = endpoints.iter().copied().take(MAX_GREETED).collect();
                self.awaits_retry = true;
                self.greeted.clone()
            }
        };
        Some(Greeting { to, hello })
    }

    fn schedule_next(&mut self, now: Instant, rng: &mut Rng) {
        let wait = REPEAT.get(self.transmissions as usize).or(REPEAT.last()).copied().unwrap_or(ATTEMPT);
        let jitter = wait / 4 * rng.below(1000) / 1000;
        self.next_at = now + wait + jitter;
        self.transmissions += 1;
    }

    /// New addresses are greeted at once.
    pub(crate) fn on_new_endpoints(&mut self, now: Instant) {
        if self.cookie.is_none() {
            self.next_at = now;
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.started + ATTEMPT
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.next_at.min(self.started + ATTEMPT)
    }

    /// Where the first hello went: retries may come from there.
    pub(crate) fn greeted(&self) -> &[SocketAddr] {
        &self.greeted
    }

    /// How often it was sent so far.
    pub(crate) fn transmissions(&self) -> u32 {
        self.transmissions
    }
}

/// Checks a hello answer of `peer` to whatever had hash `h_I` and carried the public half of `ephemeral` (PROTOCOL §4.4).
pub(crate) fn verify(
    ephemeral: &EphemeralSecret,
    hash: &[u8; 32],
    local: &Local,
    peer: &PeerId,
    answer: &Hello<'_>,
) -> Result<Epoch0, Dropped> {
    if answer.identity() != *peer {
        return Err(Dropped::BadAnswer);
    }
    let shared = ephemeral.agree(answer.ephemeral()).map_err(|_| Dropped::WeakKey)?;
    let epoch = Epoch0::derive(&local.net, hash, answer.ephemeral(), peer, answer.signature(), &shared);
    epoch.verify_confirmation(answer.cookie()).map_err(|_| Dropped::BadAnswer)?;
    local
        .net
        .verify_answer(peer, &local.id, answer.ephemeral(), hash, answer.signature())
        .map_err(|_| Dropped::BadSignature)?;
    Ok(epoch)
}

/// The two halves of a cookie field: `ck | ct` (PROTOCOL §4.2).
pub(crate) fn split(cookie: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut ck, mut ct) = ([0; 16], [0; 16]);
    ck.copy_from_slice(&cookie[..16]);
    ct.copy_from_slice(&cookie[16..]);
    (ck, ct)
}
