//! Small packets that are ready together share a datagram (PROTOCOL §11.1).
//!
//! One datagram is open at a time: it is closed when the next packet goes to another peer, bears another class or does not fit, and whenever no more
//! packets are ready. So nothing waits for company that may never come.

use crate::base::{PeerIndex, TrafficClass};
use crate::wire::Frame;
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::sealed::{HEADER, TAG};

/// The open datagram.
#[derive(Debug)]
pub(super) struct Packing {
    whose: Option<(PeerIndex, TrafficClass)>,
    len: usize,
    frames: u8,
    /// The whole datagram: header, data packet, tag.
    bytes: Vec<u8>,
}

impl Packing {
    pub(super) const fn new() -> Self {
        Self { whose: None, len: DATA_HEADER, frames: 0, bytes: Vec::new() }
    }

    /// Whose datagram is open, and which class it bears.
    pub(super) fn whose(&self) -> Option<(PeerIndex, TrafficClass)> {
        self.whose
    }

    /// Lets `write` add a frame, in a plaintext of at most `limit` bytes; false if it does not fit. Only for whoever it is open for, if it is.
    pub(super) fn push(
        &mut self,
        whose: (PeerIndex, TrafficClass),
        limit: usize,
        write: impl FnOnce(&mut DataWriter<'_>) -> bool,
    ) -> bool {
        debug_assert!(self.whose.is_none_or(|open| open == whose), "one peer's packets in another peer's datagram");
        if self.bytes.len() < HEADER + limit + TAG {
            self.bytes.resize(HEADER + limit + TAG, 0);
        }
        let Some(plaintext) = self.bytes.get_mut(HEADER..HEADER + limit) else { return false };
        let mut writer = DataWriter::resume(plaintext, self.len, self.frames);
        if !write(&mut writer) {
            return false;
        }
        (self.len, self.frames) = (writer.written(), writer.frames());
        self.whose = Some(whose);
        true
    }

    /// The same for a frame that stands elsewhere.
    pub(super) fn push_frame(&mut self, whose: (PeerIndex, TrafficClass), limit: usize, frame: &Frame<'_>) -> bool {
        self.push(whose, limit, |writer| writer.push(frame).is_ok())
    }

    /// Closes the datagram: all of it, with room for header and tag.
    pub(super) fn close(&mut self) -> &mut [u8] {
        let (len, frames) = (self.len, self.frames);
        (self.whose, self.len, self.frames) = (None, DATA_HEADER, 0);
        let Some(plaintext) = self.bytes.get_mut(HEADER..HEADER + len) else { return &mut [] };
        DataWriter::resume(plaintext, len, frames).finish();
        self.bytes.get_mut(..HEADER + len + TAG).unwrap_or_default()
    }
}
