//! How large the packets of a session may be: the probes of its path, and what follows from them (PROTOCOL §8.5).

use std::time::Instant;

use super::Session;
use crate::base::Link;
use crate::proto::event::Dropped;
use crate::proto::handshake::{CAP_PROBES, Local};
use crate::proto::mtu::{PathMtu, Probe};
use crate::wire::data::DATA_HEADER;
use crate::wire::frame::UNRELIABLE_OVERHEAD;
use crate::wire::sealed::{HEADER, MAX_PLAINTEXT, TAG};

impl Session {
    /// As [`Self::seal`], for a probe: it may be too large to arrive, so it is no sign of life.
    pub(crate) fn seal_probe(&self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, Dropped> {
        self.current.seal(now, buffer, len)
    }

    /// The next probe of the path, once both sides know that both know.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        if !self.is_confirmed() {
            return None;
        }
        let rtt = self.channels.rtt();
        self.mtu.poll(now, rtt)
    }

    /// A probe of the peer came, in a datagram of `alone` bytes that carries nothing else.
    pub(crate) fn on_probe(&mut self, now: Instant, number: u32, alone: Option<usize>) -> Result<(), Dropped> {
        let size = alone.and_then(|len| u16::try_from(len).ok()).filter(|_| self.takes_probes());
        self.answers.on_probe(now, number, size.ok_or(Dropped::Ignored)?)
    }

    /// A sealed answer of a path check arrived, as long as every path carries or shorter. False if no ping waits for it.
    pub(crate) fn on_path_answer(&mut self, now: Instant, link: Link, cookie: &[u8; 32], is_full: bool) -> bool {
        let Some(moved) = self.path.on_answer(now, link, cookie, is_full) else {
            return false;
        };
        if let Some(moved) = moved {
            self.on_moved(now, moved);
        }
        true
    }

    /// Notes what both sides are capable of.
    pub(super) fn agree(&mut self, caps: u32, local: &Local) {
        self.caps = caps & local.caps;
        if self.takes_probes() {
            self.mtu = PathMtu::new(self.path.remote(), local.max_datagram);
        }
    }

    /// Whether the peer answers probes of the path.
    pub(crate) fn takes_probes(&self) -> bool {
        self.caps & CAP_PROBES != 0
    }

    /// Largest plaintext of a sealed packet on the present path, in bytes.
    pub(crate) fn datagram_limit(&self) -> usize {
        self.mtu.limit() - HEADER - TAG
    }

    /// The same for a packet that is sent for its reliable frames. Control records alone stay at what every path carries, so that no change of the path can hold up a rekey.
    pub(crate) fn reliable_limit(&self) -> usize {
        if self.channels.has_unacknowledged() { self.datagram_limit() } else { MAX_PLAINTEXT }
    }

    /// The longest IP packet that one datagram carries; `None` while that is not found out.
    pub(crate) fn inner_mtu(&self) -> Option<usize> {
        self.mtu.is_complete().then(|| self.packet_room())
    }

    /// What the hosts of the overlay are told: at any time, if longer packets are lost.
    pub(crate) fn told_mtu(&self) -> Option<usize> {
        if self.takes_parts() { self.inner_mtu() } else { Some(self.packet_room()) }
    }

    fn packet_room(&self) -> usize {
        self.datagram_limit() - DATA_HEADER - UNRELIABLE_OVERHEAD
    }
}
