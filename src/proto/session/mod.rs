//! A session with one peer: epochs of keys, what travels inside, and where it goes (PROTOCOL §4.5 to §8).
//!
//! A session has one present epoch and at most two neighbours: the previous one still opens packets in flight, the next one exists between the moment its keys can be
//! computed and the first packet of the peer in it. That packet is the only thing that moves a session forward: it proves that the peer has the keys.
//!
//! ```text
//! initiator                                   responder
//! AwaitsOffer --offer--> Finishing            Offered
//!    epoch 0              0, next 1              epoch 0
//!                            | first packet in 1    | finish verified
//!                            v                      v
//!                        Confirmed               Confirmed     epoch 1, then n by rekey
//! ```

mod early;
pub(crate) mod epoch;
mod quantum;
mod rekey;
mod size;
mod timers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use epoch::Epoch;

use self::early::Early;
use self::quantum::Offered;
pub(crate) use self::quantum::Opening;
use self::rekey::PendingRekey;
pub(crate) use self::timers::{Hold, KeepaliveKind};
use super::bucket::Bucket;
use super::channel::parts::Reassembly;
use super::channel::{Channels, Scope};
use super::event::{Dropped, Ended};
use super::handshake::{CAP_MESH, CAP_PARTIAL, CAP_PARTS, Local};
use super::mtu::{BASE, PathMtu};
use super::path::{Moved, Paths};
use super::probing::Answers;
use crate::base::{Link, PeerId, PeerIndex, Rng, SessionIndex};
use crate::crypto::aead::Cipher;
use crate::crypto::schedule::{Chain, Epoch0, Role, Transcript};
use crate::envelope::{Activity, Opened, Splitter};
use crate::wire::record::{CloseReason, Record};
use crate::wire::sealed::SealedHeader;

/// How long the keys of the previous epoch open packets in flight.
const PREVIOUS_EPOCH: Duration = Duration::from_secs(10);

/// Order of creation within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial(pub(crate) u64);

/// A session among all of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub(crate) peer: PeerIndex,
    pub(crate) serial: Serial,
}

/// How far a session has come.
#[derive(Debug)]
enum Stage {
    /// Responder: answered and offered, waits for `finish`.
    Offered(Box<Offered>),
    /// Initiator: has the answer, waits for `offer`.
    AwaitsOffer,
    /// Initiator: has sent `finish` and may send user data.
    Finishing,
    /// Both know that both know.
    Confirmed(Instant),
}

/// Which epoch of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Previous,
    Current,
    Next,
}

/// Which traffic a packet carries: before confirmation they travel in different epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Control,
    User,
}

/// What a control record is judged with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) local: &'a Local,
    pub(crate) peer: &'a PeerId,
    pub(crate) rng: &'a mut Rng,
}

/// What a control record led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing that anyone outside the session must know.
    Handled,
    /// The responder's session is confirmed, and the attempt with this ephemeral key of the initiator over.
    Confirmed([u8; 32]),
    /// The peer sends on another session.
    Superseded,
    /// Not understood, or not in this state: counted.
    Ignored,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) serial: Serial,
    role: Role,
    stage: Stage,
    made: Instant,
    transcript: Transcript,
    chain: Chain,
    current: Epoch,
    /// Boxed is what there is for moments only.
    next: Option<Box<Epoch>>,
    previous: Option<(Box<Epoch>, Instant)>,
    rekey: Option<Box<PendingRekey>>,
    /// Rekeys of the peer that may still be answered.
    rekeys: Bucket,
    pub(crate) channels: Channels,
    pub(crate) reassembly: Reassembly,
    pub(crate) splitter: Arc<Splitter>,
    pub(crate) path: Paths,
    /// Traffic went over to another path since the owner looked.
    moved: Option<Box<Moved>>,
    /// Made by an introduction and not confirmed: when the next way is tried.
    rotate_at: Option<Instant>,
    /// User data that was sent until then.
    early: Option<Box<Early>>,
    /// Nobody uses it; the goodbye has until then to leave.
    leaving: Option<Instant>,
    /// The peer pings it although nobody uses it.
    held_by_peer: bool,
    /// What the path carries.
    pub(crate) mtu: PathMtu,
    /// What is owed for the probes of the peer.
    pub(crate) answers: Answers,
    caps: u32,
    pub(crate) activity: Arc<Activity>,
    /// When to look at the activity next, if it is awake, and what it had noted when it was looked at last.
    look_at: Option<Instant>,
    looked: u64,
    /// A keepalive that is due whatever the activity says.
    keepalive_at: Option<Instant>,
    /// The peer has left this session for another one.
    superseded: bool,
    /// `finish` was sent at least once.
    finish_sent: bool,
    /// The set of indexes changed since the owner looked.
    indexes_changed: bool,
}

// ARCHITECTURE, "Memory".
const _: () = assert!(size_of::<Session>() <= 1152);

impl Session {
    fn new(now: Instant, serial: Serial, link: Link, role: Role, stage: Stage, epoch: Epoch0, rng: &mut Rng) -> Self {
        let Epoch0 { transcript, keys, chain, .. } = epoch;
        Self {
            serial,
            role,
            stage,
            made: now,
            transcript,
            chain,
            current: Epoch::new(now, 0, keys, role, Cipher::ChaCha20Poly1305, rng),
            next: None,
            previous: None,
            rekey: None,
            rekeys: Bucket::default(),
            channels: Channels::new(now),
            reassembly: Reassembly::new(),
            splitter: Arc::default(),
            path: Paths::new(now, link),
            moved: None,
            rotate_at: None,
            early: None,
            leaving: None,
            held_by_peer: false,
            mtu: PathMtu::new(link.remote, BASE),
            answers: Answers::default(),
            caps: 0,
            activity: Arc::new(Activity::new(now)),
            look_at: None,
            looked: 0,
            keepalive_at: None,
            superseded: false,
            finish_sent: false,
            indexes_changed: true,
        }
    }

    /// The initiator's session, from a verified answer.
    pub(crate) fn initiated(
        now: Instant,
        serial: Serial,
        link: Link,
        epoch: Epoch0,
        rtt: Duration,
        rng: &mut Rng,
    ) -> Self {
        let mut session = Self::new(now, serial, link, Role::Initiator, Stage::AwaitsOffer, epoch, rng);
        session.channels.seed_rtt(rtt);
        session
    }

    /// The same after an introduction (PROTOCOL §12.3): the responder does not know yet where it is heard from, so it is told at once.
    pub(crate) fn greet(&mut self, now: Instant) {
        self.path = Paths::tentative(now, self.path.link());
        self.rotate_at = Some(now + timers::ROTATE);
        self.keepalive_at = Some(now);
    }

    /// Opens a datagram under one of the epochs; on success the peer has proven itself in it.
    pub(crate) fn open(
        &self,
        now: Instant,
        which: Which,
        header: &SealedHeader,
        datagram: &mut [u8],
    ) -> Result<(Opened, u64), Dropped> {
        let epoch = match which {
            Which::Current => Some(&self.current),
            Which::Next => self.next.as_deref(),
            Which::Previous => self.previous.as_ref().map(|(epoch, _)| &**epoch),
        };
        let epoch = epoch.ok_or(Dropped::UnknownSession)?;
        epoch.open(now, header, datagram).map(|opened| (opened, epoch.number))
    }

    /// Notes a valid packet. True if it confirmed the session (PROTOCOL §4.5, initiator).
    pub(crate) fn on_authentic(&mut self, now: Instant, which: Which, highest: bool, link: Link) -> bool {
        self.activity.on_received(now);
        if self.path.on_packet(now, link, highest) {
            self.mtu.on_path_changed(link.remote);
            self.send_again(now);
        }
        let mut confirmed = false;
        if which == Which::Next {
            self.promote(now);
            // The peer waits to hear us in this epoch: to erase epoch 0, or to let the next rekey start. And we may have no data for it.
            self.keepalive_at = Some(now);
            if matches!(self.stage, Stage::Finishing) {
                self.stage = Stage::Confirmed(now);
                self.path.on_confirmed();
                self.early = None;
                // The responder keeps epoch 0 for its ten seconds: user data in epoch 1 does not show it that we have heard it, and a repeated finish may be on its way.
                self.previous = None;
                confirmed = true;
            }
        }
        confirmed
    }

    /// What was sent so far went where the peer perhaps is not.
    fn send_again(&mut self, now: Instant) {
        self.channels.on_new_path(now);
        if let Some(early) = &mut self.early {
            early.repeat();
        }
    }

    /// Makes the next epoch the present one.
    fn promote(&mut self, now: Instant) {
        if let Some(next) = self.next.take() {
            self.replace_current(now, *next);
        }
    }

    /// What `epoch` replaces still opens packets in flight.
    fn replace_current(&mut self, now: Instant, epoch: Epoch) {
        let previous = std::mem::replace(&mut self.current, epoch);
        self.previous = Some((Box::new(previous), now + PREVIOUS_EPOCH));
        self.indexes_changed = true;
    }

    /// Acts on a control record (PROTOCOL §9.3). An error ends the session.
    pub(crate) fn on_record(&mut self, record: &[u8], context: &mut Context<'_>) -> Result<Outcome, Ended> {
        let Ok(record) = Record::decode(record) else {
            return Err(Ended::Fault);
        };
        match record {
            Record::Offer { caps, ek } => self.on_offer(caps, ek, context),
            Record::Finish { caps, ct, signature } => self.on_finish(caps, ct, signature, context),
            Record::Rekey { ephemeral, ek, signature } => self.on_rekey(ephemeral, ek, signature, context),
            Record::RekeyAnswer { ephemeral, ct, signature } => self.on_rekey_answer(ephemeral, ct, signature, context),
            Record::Close(CloseReason::Superseded) => {
                self.superseded = true;
                Ok(Outcome::Superseded)
            }
            Record::Close(CloseReason::Shutdown) => Err(Ended::PeerStopped),
            Record::Close(CloseReason::Idle | CloseReason::ProtocolFault) => Err(Ended::ClosedByPeer),
            // What concerns other members is the node's.
            Record::PeersList { .. }
            | Record::Find(_)
            | Record::About { .. }
            | Record::Candidates(_)
            | Record::Spray { .. }
            | Record::Knock { .. }
            | Record::KnockFor { .. }
            | Record::EchoAfter { .. }
            | Record::Unknown(_) => Ok(Outcome::Ignored),
        }
    }

    /// Another thread has carried bytes on it, after a pause.
    pub(crate) fn on_awake(&mut self, now: Instant) {
        self.look_at.get_or_insert(now + timers::LOOK);
        self.take_sizes();
    }

    /// What other threads sent is large enough to be worth a larger datagram, or a proof that large ones still arrive (PROTOCOL §8.5).
    fn take_sizes(&mut self) {
        let largest = self.activity.take_largest();
        if largest > 0 {
            self.mtu.on_traffic();
        }
        if largest > BASE {
            self.mtu.on_large_sent();
        }
    }

    /// Seals the plaintext at `HEADER..` of `buffer`, in the epoch of `lane`.
    pub(crate) fn seal(&mut self, now: Instant, lane: Lane, buffer: &mut [u8], len: usize) -> Result<usize, Dropped> {
        let finishing = matches!(self.stage, Stage::Finishing);
        let epoch = match (&self.next, lane) {
            (Some(next), Lane::User) if finishing => &**next,
            _ => &self.current,
        };
        let total = epoch.seal(now, buffer, len)?;
        if finishing && lane == Lane::User && self.path.is_tentative() {
            self.early.get_or_insert_default().keep(buffer.get(..total).unwrap_or_default());
        }
        self.activity.on_sealed(now);
        self.keepalive_at = None;
        if lane == Lane::User && total > BASE {
            self.mtu.on_large_sent();
        }
        Ok(total)
    }

    /// Notes that what was sealed last is worth keeping the session alive.
    pub(crate) fn mark_used(&self) {
        match &self.next {
            Some(next) if matches!(self.stage, Stage::Finishing) => next.sealer.mark_used(),
            _ => self.current.sealer.mark_used(),
        }
    }

    /// User data was sent, which the peer should react to.
    pub(crate) fn on_user_sent(&mut self, now: Instant) {
        self.activity.on_user_sent(now, 0);
        self.mtu.on_traffic();
        self.mark_used();
    }

    /// All control records that were due have been sent, `finish` among them.
    pub(crate) fn on_control_sent(&mut self) {
        self.finish_sent |= matches!(self.stage, Stage::Finishing);
    }

    /// Reliable frames of both lanes may share a packet.
    pub(crate) fn scopes(&self) -> &'static [(Lane, Scope)] {
        match self.stage {
            Stage::Offered(_) | Stage::AwaitsOffer => &[(Lane::Control, Scope::Control)],
            Stage::Finishing => &[(Lane::Control, Scope::Control), (Lane::User, Scope::User)],
            Stage::Confirmed(_) => &[(Lane::User, Scope::All)],
        }
    }

    /// Queues the goodbye.
    pub(crate) fn close(&mut self, now: Instant, reason: CloseReason) {
        // A full control queue means that the peer does not listen anyway.
        let _ = self.channels.send_control(now, &Record::Close(reason).encode());
    }

    /// Whether user data may be sent.
    pub(crate) fn carries_user_data(&self) -> bool {
        match self.stage {
            // Before the finish, the peer could not open it.
            Stage::Finishing => self.finish_sent,
            Stage::Confirmed(_) => true,
            Stage::Offered(_) | Stage::AwaitsOffer => false,
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed_at().is_some()
    }

    pub(crate) fn confirmed_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::Confirmed(at) => Some(at),
            Stage::Offered(_) | Stage::AwaitsOffer | Stage::Finishing => None,
        }
    }

    /// Whether the peer sends on another session.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// Whether this node initiated it and waits for the peer to confirm it.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::AwaitsOffer | Stage::Finishing)
    }

    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.stage, Stage::Offered(_))
    }

    /// Number of the present epoch.
    pub(crate) fn epoch_number(&self) -> u64 {
        self.current.number
    }

    pub(crate) fn cipher(&self) -> Cipher {
        self.current.cipher
    }

    /// Whether the peer takes part frames.
    pub(crate) fn takes_parts(&self) -> bool {
        self.caps & CAP_PARTS != 0
    }

    /// Whether the peer computes the transport checksums that are left out.
    pub(crate) fn takes_partial(&self) -> bool {
        self.caps & CAP_PARTIAL != 0
    }

    /// Whether the peer has paths, lists, introductions and relays.
    pub(crate) fn takes_mesh(&self) -> bool {
        self.caps & CAP_MESH != 0
    }

    /// The epochs that open packets with this index.
    pub(crate) fn epochs_of(&self, index: SessionIndex) -> impl Iterator<Item = Which> + '_ {
        self.epochs().filter(move |&(_, owned)| owned == index).map(|(which, _)| which)
    }

    /// Every index under which packets of this session arrive.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = SessionIndex> + '_ {
        self.epochs().map(|(_, index)| index)
    }

    fn epochs(&self) -> impl Iterator<Item = (Which, SessionIndex)> + '_ {
        let next = self.next.as_ref().map(|epoch| (Which::Next, epoch.receive()));
        let previous = self.previous.as_ref().map(|(epoch, _)| (Which::Previous, epoch.receive()));
        [Some((Which::Current, self.current.receive())), next, previous].into_iter().flatten()
    }

    /// The epoch that is sealed in.
    pub(crate) fn present(&self) -> &Epoch {
        &self.current
    }

    /// The epochs whose datagrams any thread may open: the node itself has heard the peer in them, or is about to leave them.
    pub(crate) fn published_epochs(&self) -> impl Iterator<Item = &Epoch> {
        let previous = self.previous.as_ref().map(|(epoch, _)| &**epoch);
        [Some(&self.current), previous].into_iter().flatten().filter(|epoch| epoch.number > 0)
    }

    /// The present epoch, for tests that force it into a state.
    #[cfg(test)]
    pub(crate) fn present_epoch(&mut self) -> &mut Epoch {
        self.indexes_changed = true;
        &mut self.current
    }

    /// Whether the indexes changed since this was asked last.
    pub(crate) fn take_indexes_changed(&mut self) -> bool {
        std::mem::take(&mut self.indexes_changed)
    }
}
