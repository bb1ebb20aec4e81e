//! The data packet: a count, that many frames, zero padding (PROTOCOL §2.3).

use super::cursor::{DecodeError, Full, Reader, Writer};
use super::frame::Frame;
use super::packet::{VERSION, kind};

/// `ver | type | number`, before the first frame.
pub const DATA_HEADER: usize = 3;

/// The frames of a data packet, decoded one by one; then the padding is checked.
///
/// Ends after the first error. Frames before it were good and stay good (PROTOCOL §6).
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
    remaining: u8,
    ended: bool,
}

impl<'a> Frames<'a> {
    /// `number` frames and padding in `bytes`.
    pub(super) const fn new(number: u8, bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), remaining: number, ended: false }
    }

    /// How many announced frames were not handed out; after an error those are the dropped ones, the faulty one included.
    pub const fn remaining(&self) -> u8 {
        self.remaining
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some(remaining) = self.remaining.checked_sub(1) else {
            self.ended = true;
            let clean = self.reader.rest().iter().all(|&byte| byte == 0);
            return if clean { None } else { Some(Err(DecodeError::Value("padding"))) };
        };
        let frame = Frame::decode(&mut self.reader);
        match frame {
            Ok(_) => self.remaining = remaining,
            Err(_) => self.ended = true,
        }
        Some(frame)
    }
}

impl std::iter::FusedIterator for Frames<'_> {}

/// Writes one data packet, frame by frame, into a buffer of fixed length.
#[derive(Debug)]
pub struct DataWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    frames: u8,
}

impl<'a> DataWriter<'a> {
    /// Begins a packet at the first byte of `buffer`.
    ///
    /// A buffer shorter than [`DATA_HEADER`] has no room for any frame and makes a packet of no bytes.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: DATA_HEADER, frames: 0 }
    }

    /// Continues a packet of which `len` bytes and `frames` frames stand in `buffer` already.
    pub const fn resume(buffer: &'a mut [u8], len: usize, frames: u8) -> Self {
        Self { buffer, len, frames }
    }

    /// Appends `frame`.
    ///
    /// # Errors
    /// [`Full`] if it does not fit, is the 256th, or has more than 65535 bytes of data; the packet is then as it was.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), Full> {
        let frames = self.frames.checked_add(1).ok_or(Full)?;
        let mut writer = Writer::new(self.buffer.get_mut(self.len..).ok_or(Full)?);
        // Asked first, so that a frame that is much too large costs no copying.
        if frame.encoded_len() > writer.room() {
            return Err(Full);
        }
        frame.encode(&mut writer)?;
        self.len += writer.written();
        self.frames = frames;
        Ok(())
    }

    /// Bytes left for frames; compare with [`Frame::encoded_len`].
    pub const fn room(&self) -> usize {
        if self.frames == u8::MAX { 0 } else { self.buffer.len().saturating_sub(self.len) }
    }

    /// Bytes written so far, the header included.
    pub const fn written(&self) -> usize {
        self.len
    }

    /// Frames written so far.
    pub const fn frames(&self) -> u8 {
        self.frames
    }

    /// Writes the header and returns the length of the packet; 3 for one without frames, which is a keepalive.
    pub fn finish(self) -> usize {
        match Writer::new(self.buffer).put(&[VERSION, kind::DATA, self.frames]) {
            Ok(()) => self.len,
            Err(Full) => 0,
        }
    }
}
