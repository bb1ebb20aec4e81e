//! Small IP packets that are ready together share a data packet (PROTOCOL §11.1).
//!
//! One packet is open at a time for the whole node: it is closed when the next IP packet goes to another peer, has another class or does not fit, and whenever the
//! caller has nothing more for now. So nothing waits for company that may never come.

use crate::base::{PeerIndex, TrafficClass};
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::Frame;
use crate::wire::sealed::{HEADER, TAG};

/// The open data packet.
#[derive(Debug)]
pub(crate) struct Packing {
    whose: Option<(PeerIndex, TrafficClass)>,
    len: usize,
    frames: u8,
    /// The whole datagram: header, data packet, tag.
    bytes: Box<[u8]>,
}

impl Packing {
    /// With room for a datagram of this length.
    pub(crate) fn new(max_datagram: usize) -> Self {
        Self { whose: None, len: DATA_HEADER, frames: 0, bytes: vec![0; max_datagram].into_boxed_slice() }
    }

    /// Whose packet is open, and which class its datagram has.
    pub(crate) fn whose(&self) -> Option<(PeerIndex, TrafficClass)> {
        self.whose
    }

    /// Adds a frame; false if it does not fit. Only for whoever the packet is open for, if it is.
    pub(crate) fn push(&mut self, whose: (PeerIndex, TrafficClass), frame: &Frame<'_>, limit: usize) -> bool {
        debug_assert!(self.whose.is_none_or(|open| open == whose), "one peer's frames in another peer's packet");
        let (len, frames) = (self.len, self.frames);
        let mut writer = DataWriter::resume(self.plaintext(limit), len, frames);
        if writer.push(frame).is_err() {
            return false;
        }
        (self.len, self.frames) = (writer.written(), writer.frames());
        self.whose = Some(whose);
        true
    }

    /// Lets `more` fill what room is left, and closes the packet: the datagram with room for its tag, and the length of its plaintext.
    pub(crate) fn close(&mut self, limit: usize, more: impl FnOnce(&mut DataWriter<'_>)) -> (&mut [u8], usize) {
        let (len, frames) = (self.len, self.frames);
        (self.whose, self.len, self.frames) = (None, DATA_HEADER, 0);
        let mut writer = DataWriter::resume(self.plaintext(limit), len, frames);
        more(&mut writer);
        let len = writer.finish();
        (&mut self.bytes, len)
    }

    fn plaintext(&mut self, limit: usize) -> &mut [u8] {
        let end = (HEADER + limit).min(self.bytes.len() - TAG);
        &mut self.bytes[HEADER..end]
    }
}
