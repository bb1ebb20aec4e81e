//! The data packet: a count, that many frames, zero padding (PROTOCOL §2.3).

use super::cursor::{DecodeError, Full, Reader, Writer};
use super::frame::{Frame, UNRELIABLE_OVERHEAD};
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

    /// Appends a frame that carries one IP packet of `len` bytes: the room in which the caller writes it. `partial` if its transport checksum is left out
    /// (PROTOCOL §11.5).
    ///
    /// # Errors
    /// As [`DataWriter::push`].
    pub fn packet(&mut self, channel: u8, partial: bool, len: usize) -> Result<&mut [u8], Full> {
        let frames = self.frames.checked_add(1).ok_or(Full)?;
        let room = self.buffer.get_mut(self.len..).ok_or(Full)?;
        let data = super::frame::packet_header(room, channel, partial, len)?;
        self.len += UNRELIABLE_OVERHEAD + len;
        self.frames = frames;
        Ok(data)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::super::frame::IntroductionStatus;
    use super::super::packet::Packet;
    use super::super::sealed::MAX_PLAINTEXT;
    use super::*;
    use crate::base::PeerId;

    /// A frame that owns its bytes.
    #[derive(Clone, Debug)]
    struct Owned {
        kind: u8,
        channel: u8,
        numbers: (u32, u32),
        ephemeral: [u8; 32],
        target: [u8; 32],
        address: u128,
        port: u16,
        data: Vec<u8>,
    }

    impl Owned {
        fn signature(&self) -> [u8; 64] {
            let mut signature = [0x5a; 64];
            signature[..32].copy_from_slice(&self.target);
            signature
        }

        fn frame<'a>(&'a self, signature: &'a [u8; 64]) -> Frame<'a> {
            let Self { channel, numbers: (sequence, ack), ref ephemeral, ref data, .. } = *self;
            let target = PeerId(self.target);
            match self.kind {
                0 => Frame::ReliableData { channel, sequence, ack, data },
                1 => Frame::UnreliableData { channel, data },
                2 => Frame::PeersListRequest { channel, sequence, ack },
                3 => Frame::IntroductionRequest { channel, sequence, ack, ephemeral, target, signature },
                4 => {
                    let (address, port) = (Ipv6Addr::from_bits(self.address), self.port);
                    Frame::Introduction { channel, sequence, ack, ephemeral, target, signature, address, port }
                }
                5 => {
                    let status = IntroductionStatus::from_byte((self.port % 5) as u8).unwrap();
                    Frame::IntroductionAck { channel, sequence, ack, status }
                }
                6 => {
                    let [index, count] = self.port.to_be_bytes();
                    Frame::Part { channel, number: sequence, index, count, data }
                }
                7 => Frame::Probe { channel, number: sequence },
                _ => Frame::ProbeAnswer { channel, number: sequence, size: self.port },
            }
        }
    }

    fn frames() -> impl Strategy<Value = Vec<Owned>> {
        let data = prop_oneof![3 => 0..80_usize, 1 => Just(1183), 1 => Just(1191), 1 => Just(1192)]
            .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len));
        let fields = (0..9_u8, any::<u8>(), any::<(u32, u32)>(), any::<[u8; 32]>(), any::<[u8; 32]>());
        let frame = (fields, any::<u128>(), any::<u16>(), data).prop_map(|(fields, address, port, data)| {
            let (kind, channel, numbers, ephemeral, target) = fields;
            Owned { kind, channel, numbers, ephemeral, target, address, port, data }
        });
        prop::collection::vec(frame, 0..24)
    }

    proptest! {
        #[test]
        fn what_fits_comes_back_in_order_and_what_does_not_fit_leaves_no_trace(
            owned in frames(), buffer_len in prop_oneof![Just(MAX_PLAINTEXT), 0..2000_usize],
        ) {
            let mut buffer = vec![0xee; buffer_len];
            let signatures: Vec<_> = owned.iter().map(Owned::signature).collect();
            let frames: Vec<_> = owned.iter().zip(&signatures).map(|(owned, signature)| owned.frame(signature)).collect();
            let mut writer = DataWriter::new(&mut buffer);
            let mut written = Vec::new();
            for frame in &frames {
                let (room, count) = (writer.room(), writer.frames());
                match writer.push(frame) {
                    Ok(()) => {
                        written.push(*frame);
                        prop_assert_eq!(writer.room(), room - frame.encoded_len());
                        prop_assert_eq!(writer.frames(), count + 1);
                    }
                    Err(Full) => {
                        prop_assert!(frame.encoded_len() > room);
                        prop_assert_eq!((writer.room(), writer.frames()), (room, count));
                    }
                }
            }
            let len = writer.finish();
            if buffer_len < DATA_HEADER {
                prop_assert_eq!((len, written.len()), (0, 0));
                return Ok(());
            }
            prop_assert_eq!(len, DATA_HEADER + written.iter().map(Frame::encoded_len).sum::<usize>());
            let mut packet = buffer[..len].to_vec();

            for padding in [0, 1, 100] {
                packet.resize(len + padding, 0);
                let Ok(Packet::Data(seen)) = Packet::decode(&packet) else { panic!("{packet:02x?}") };
                prop_assert_eq!(seen.collect::<Result<Vec<_>, _>>(), Ok(written.clone()));
            }
            // One byte of padding that is not zero is a fault, but behind all frames.
            packet[len + 57] = 1;
            let Ok(Packet::Data(seen)) = Packet::decode(&packet) else { panic!("{packet:02x?}") };
            let mut expected: Vec<_> = written.iter().copied().map(Ok).collect();
            expected.push(Err(DecodeError::Value("padding")));
            prop_assert_eq!(seen.collect::<Vec<_>>(), expected);
            // Cut anywhere, the packet gives the frames before the cut and then one error.
            for cut in DATA_HEADER..len {
                let Ok(Packet::Data(mut seen)) = Packet::decode(&packet[..cut]) else { panic!("{cut}") };
                let whole = seen.by_ref().take_while(Result::is_ok).count();
                let end = |frames: usize| DATA_HEADER + written[..frames].iter().map(Frame::encoded_len).sum::<usize>();
                prop_assert!(end(whole) <= cut && cut < end(whole + 1));
                prop_assert_eq!(usize::from(seen.remaining()), written.len() - whole);
                prop_assert_eq!(seen.next(), None);
            }
        }

        #[test]
        fn whatever_decodes_is_encoded_to_the_same_bytes(
            number in 0..6_u8, kinds in prop::collection::vec(0..10_usize, 6), body in prop::collection::vec(0..4_u8, 0..600),
        ) {
            // Small bytes make plausible lengths; a valid type byte every now and then makes longer walks.
            let mut packet = vec![VERSION, kind::DATA, number];
            for (chunk, which) in body.chunks(100).zip(kinds) {
                packet.extend([7, [1, 2, 3, 4, 5, 6, 0x10, 0x12, 0x13, 0x77][which]]);
                packet.extend(chunk);
            }
            let Ok(Packet::Data(frames)) = Packet::decode(&packet) else { panic!("{packet:02x?}") };
            let mut buffer = vec![0; packet.len()];
            let mut writer = DataWriter::new(&mut buffer);
            for frame in frames.map_while(Result::ok) {
                prop_assert_eq!(writer.push(&frame), Ok(()));
            }
            let len = writer.finish();
            prop_assert_eq!(&buffer[DATA_HEADER..len], &packet[DATA_HEADER..len]);
        }
    }

    #[test]
    fn the_two_hundred_and_fifty_sixth_frame_is_refused() {
        let mut buffer = [0; 4096];
        let mut writer = DataWriter::new(&mut buffer);
        let frame = Frame::UnreliableData { channel: 128, data: &[] };
        for _ in 0..255 {
            assert_eq!(writer.push(&frame), Ok(()));
        }
        assert_eq!((writer.push(&frame), writer.room(), writer.frames()), (Err(Full), 0, 255));
        assert_eq!(writer.finish(), DATA_HEADER + 255 * 4);
    }

    #[test]
    fn data_longer_than_its_length_field_can_say_is_refused() {
        let data = vec![1; 65_536];
        let mut buffer = vec![0; 70_000];
        let mut writer = DataWriter::new(&mut buffer);
        assert_eq!(writer.push(&Frame::UnreliableData { channel: 128, data: &data }), Err(Full));
        assert_eq!(writer.push(&Frame::UnreliableData { channel: 128, data: &data[1..] }), Ok(()));
        assert_eq!(writer.finish(), DATA_HEADER + 4 + 65_535);
    }

    #[test]
    fn the_longest_frames_fill_the_longest_packet_exactly() {
        for (frame, longer) in [
            (
                Frame::ReliableData { channel: 1, sequence: 1, ack: 1, data: &[9; 1183] },
                Frame::ReliableData { channel: 1, sequence: 1, ack: 1, data: &[9; 1184] },
            ),
            (
                Frame::UnreliableData { channel: 128, data: &[9; 1191] },
                Frame::UnreliableData { channel: 128, data: &[9; 1192] },
            ),
        ] {
            let mut buffer = [0; MAX_PLAINTEXT];
            let mut writer = DataWriter::new(&mut buffer);
            assert_eq!(writer.push(&longer), Err(Full));
            assert_eq!(writer.push(&frame), Ok(()));
            assert_eq!((writer.room(), writer.finish()), (0, MAX_PLAINTEXT));
        }
    }

    #[test]
    fn an_unknown_frame_ends_its_packet_and_the_rest_is_counted() {
        let packet = [1, 3, 4, /**/ 128, 2, 0, 0, /**/ 0, 7, /**/ 128, 2, 0, 0, /**/ 128, 2, 0, 0];
        let Ok(Packet::Data(mut frames)) = Packet::decode(&packet) else { panic!() };
        assert_eq!(frames.next(), Some(Ok(Frame::UnreliableData { channel: 128, data: &[] })));
        assert_eq!(frames.next(), Some(Err(DecodeError::Value("frame type"))));
        assert_eq!((frames.remaining(), frames.next()), (3, None));
    }
}
