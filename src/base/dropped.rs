//! Why a packet died, and how often. A dropped packet is a fact, not an error: it becomes one counter under its label.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! dropped {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal,)*) => {
        /// Why a packet, or a part of one, was dropped. Each becomes one counter under its label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Dropped { $($(#[doc = $doc])* $name,)* }

        impl Dropped {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable name of the counter.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

dropped! {
    /// Wrong version, type or length (PROTOCOL §2), or a data packet outside an envelope.
    Malformed = "malformed",
    /// A hello that carries this node's own key.
    OwnIdentity = "own_identity",
    /// A first hello or a ping whose sender does not know this node's key.
    BadMac = "bad_mac",
    /// A token bucket was empty.
    RateLimited = "rate_limited",
    /// The sender is not an allowed peer.
    UnknownPeer = "unknown_peer",
    /// A signature did not verify.
    BadSignature = "bad_signature",
    /// The X25519 result was all-zero.
    WeakKey = "weak_key",
    /// A hello retry or answer that no outstanding hello waits for.
    Unexpected = "unexpected",
    /// A hello retry whose tag is wrong.
    BadRetry = "bad_retry",
    /// A hello answer with the wrong identity or confirmation.
    BadAnswer = "bad_answer",
    /// No session owns this index.
    UnknownSession = "unknown_session",
    /// The counter was seen before, or is too old to tell.
    Replayed = "replayed",
    /// The envelope did not open.
    Forged = "forged",
    /// The keys of this epoch are too old.
    KeyExpired = "key_expired",
    /// A frame that does not parse.
    BadFrame = "bad_frame",
    /// A frame, packet or record that is not understood, or not in this state.
    Ignored = "ignored",
    /// A reliable frame on an unreliable channel, or the reverse, or user data in epoch 0.
    WrongChannel = "wrong_channel",
    /// A reliable message that was seen already.
    DuplicateMessage = "duplicate_message",
    /// A reliable message beyond the window.
    BeyondWindow = "beyond_window",
    /// An acknowledgement that cannot be.
    BadAcknowledgement = "bad_acknowledgement",
    /// A part that fits no packet, or a packet whose parts did not all come.
    BadPart = "bad_part",
    /// An inner packet that is not well-formed IP.
    BadInner = "bad_inner",
    /// An inner packet whose source is not allowed to its sender.
    SpoofedSource = "spoofed_source",
    /// The overlay interface gave something that is not IP.
    NotIp = "not_ip",
    /// No peer owns the destination.
    NoRoute = "no_route",
    /// Waited too long for a session, or made room for newer packets.
    WaitedTooLong = "waited_too_long",
    /// The reliable channels hold as much as they may.
    ReliableFull = "reliable_full",
    /// More work came in than the control thread could take.
    Overload = "overload",
    /// More packets waited to be sent than there is room for, most of them of this flow.
    QueueFull = "queue_full",
    /// Marked as having met congestion, and its sender does not react to that (RFC 6040).
    Congestion = "congestion",
    /// More was to be forwarded for a member than this node is ready to, or for more members.
    RelayLimit = "relay_limit",
    /// What came through a relay, or for more than one, is not forwarded.
    RelayLoop = "relay_loop",
    /// The peer takes no packet of this size.
    TooLarge = "too_large",
}

/// One counter for each [`Dropped`]. There is nothing before the first is counted: of most peers, nothing ever is.
#[derive(Clone, Debug, Default)]
pub struct Drops(Option<Box<[u64; Dropped::ALL.len()]>>);

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: Dropped) {
        self.count_many(reason, 1);
    }

    /// Counts several.
    pub fn count_many(&mut self, reason: Dropped, number: u64) {
        if number == 0 {
            return;
        }
        let counters = self.0.get_or_insert_with(|| Box::new([0; Dropped::ALL.len()]));
        if let Some(counter) = counters.get_mut(reason as usize) {
            *counter = counter.saturating_add(number);
        }
    }

    /// How often `reason` was the reason.
    pub fn of(&self, reason: Dropped) -> u64 {
        self.0.as_ref().and_then(|counters| counters.get(reason as usize)).copied().unwrap_or(0)
    }

    /// All counters that are not zero.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Dropped::ALL.iter().map(|&reason| (reason.label(), self.of(reason))).filter(|&(_, number)| number > 0)
    }
}

/// The same counters for several threads.
#[derive(Debug)]
pub struct SharedDrops([AtomicU64; Dropped::ALL.len()]);

impl Default for SharedDrops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SharedDrops {
    /// Counts one.
    pub fn count(&self, reason: Dropped) {
        self.count_many(reason, 1);
    }

    /// Counts several.
    pub fn count_many(&self, reason: Dropped, number: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Adds all of them to `drops`.
    pub fn add_to(&self, drops: &mut Drops) {
        for (&reason, counter) in Dropped::ALL.iter().zip(&self.0) {
            drops.count_many(reason, counter.load(Ordering::Relaxed));
        }
    }
}
