//! What happened. Facts only: the shell counts, logs and acts.

use std::time::Duration;

use crate::base::PeerIndex;
pub use crate::base::dropped::{Dropped, Drops};

/// Something the shell may want to log or act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The endpoints of a peer do not answer or are unknown: names should be looked up again.
    Resolve {
        /// Whose.
        peer: PeerIndex,
    },
    /// A session was confirmed and is sent on from now on.
    Connected {
        /// With whom.
        peer: PeerIndex,
    },
    /// The last session with a peer ended.
    Disconnected {
        /// With whom.
        peer: PeerIndex,
        /// Why.
        reason: Ended,
    },
    /// Traffic moved to another address, which proved itself (PROTOCOL §8.1).
    Moved {
        /// Whose traffic.
        peer: PeerIndex,
    },
    /// The answer to [`super::Command::Ping`].
    Pong {
        /// Who answered.
        peer: PeerIndex,
        /// Of the ping.
        number: u32,
        /// Between the two.
        rtt: Duration,
        /// Which way it went.
        hop: super::command::Hop,
    },
    /// Tell the link that this node is here: send this datagram by multicast (PROTOCOL §12.7).
    Announce {
        /// All of it.
        datagram: [u8; 34],
    },
    /// Open extra sockets for IPv4, each on a port of its own: datagrams name them by these numbers (PROTOCOL §12.8). Of those that cannot be opened, nothing more is said.
    OpenSockets {
        /// The first number; never 0.
        first: u16,
        /// How many.
        count: u16,
    },
    /// Close those of these extra sockets that are open.
    CloseSockets {
        /// The first number.
        first: u16,
        /// How many.
        count: u16,
    },
    /// 90 s of greeting without an answer (PROTOCOL §4.6).
    Unreachable {
        /// Who did not answer.
        peer: PeerIndex,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its keys reached their age without a rekey: nobody used it, or nobody answers (PROTOCOL §5.3).
    Expired,
    /// Nobody used it for three minutes (PROTOCOL §8.7).
    Idle,
    /// The peer said so.
    ClosedByPeer,
    /// The peer stops: no session with it is of use any more.
    PeerStopped,
    /// The reliable channels got no acknowledgement for too long (PROTOCOL §10).
    Silent,
    /// The peer broke the protocol inside the session.
    Fault,
}

impl Ended {
    /// In words, for a log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "idle or silent until its keys expired",
            Self::Idle => "not used",
            Self::ClosedByPeer => "closed by the peer",
            Self::PeerStopped => "the peer stopped",
            Self::Silent => "the peer acknowledges nothing",
            Self::Fault => "the peer broke the protocol",
        }
    }
}
