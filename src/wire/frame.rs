//! Channel frames: the pieces of a data packet (PROTOCOL §9.1).

use std::net::Ipv6Addr;

use super::cursor::{DecodeError, Full, Reader, Writer};
use crate::base::PeerId;

/// `id | type`, before every frame.
const PREFIX: usize = 2;
/// `sequence number | ack number`.
const NUMBERS: usize = 8;
/// The `length` field.
const LENGTH: usize = 2;
/// `X25519 key | target Ed25519 key | signature`.
const INTRODUCTION: usize = 32 + 32 + 64;

/// Bytes of a reliable_data frame besides its data.
pub const RELIABLE_OVERHEAD: usize = PREFIX + NUMBERS + LENGTH;
/// Bytes of an unreliable_data or partial_data frame besides its data.
pub const UNRELIABLE_OVERHEAD: usize = PREFIX + LENGTH;
/// Bytes of a part frame besides its data.
pub const PART_OVERHEAD: usize = PREFIX + 4 + 1 + 1 + LENGTH;

/// Bytes of a relayed frame besides its datagram.
pub const RELAYED_OVERHEAD: usize = PREFIX + 1 + 8 + LENGTH;
/// Bytes of a relayed_part frame besides its data.
pub const RELAYED_PART_OVERHEAD: usize = RELAYED_OVERHEAD + 4 + 1 + 1;

/// Bytes of a probe answer.
pub const PROBE_ANSWER_LEN: usize = PREFIX + 4 + 2;

/// Second byte of every frame.
mod kind {
    pub(super) const RELIABLE_DATA: u8 = 0x01;
    pub(super) const UNRELIABLE_DATA: u8 = 0x02;
    pub(super) const PEERS_LIST_REQUEST: u8 = 0x03;
    pub(super) const INTRODUCTION_REQUEST: u8 = 0x04;
    pub(super) const INTRODUCTION: u8 = 0x05;
    pub(super) const INTRODUCTION_ACK: u8 = 0x06;
    pub(super) const PART: u8 = 0x10;
    pub(super) const PARTIAL_DATA: u8 = 0x11;
    pub(super) const PROBE: u8 = 0x12;
    pub(super) const PROBE_ANSWER: u8 = 0x13;
    pub(super) const RELAYED: u8 = 0x14;
    pub(super) const RELAYED_PART: u8 = 0x15;
}

/// One frame of a data packet.
///
/// Only the layout is checked: whether a channel may carry the frame, and whether numbers, index and count make sense, is for the channel to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// 0x01: a message of a reliable channel, or with sequence number 0 an acknowledgement (PROTOCOL §10).
    ReliableData {
        /// `id`.
        channel: u8,
        /// `sequence number`, as written on the wire.
        sequence: u32,
        /// `ack number`, as written on the wire.
        ack: u32,
        /// At most 65535 bytes.
        data: &'a [u8],
    },
    /// 0x02: one whole IP packet (PROTOCOL §11.1).
    UnreliableData {
        /// `id`.
        channel: u8,
        /// At most 65535 bytes.
        data: &'a [u8],
    },
    /// 0x03: what has changed in the list of members that the receiver has sessions with? (PROTOCOL §12.2)
    PeersListRequest {
        /// `id`.
        channel: u8,
        /// `sequence number`.
        sequence: u32,
        /// `ack number`.
        ack: u32,
    },
    /// 0x04: the sender wants to reach `target` (PROTOCOL §12.3).
    IntroductionRequest {
        /// `id`.
        channel: u8,
        /// `sequence number`.
        sequence: u32,
        /// `ack number`.
        ack: u32,
        /// X25519 key of whoever asks.
        ephemeral: &'a [u8; 32],
        /// The member that the receiver of the introduction is to reach, or that a request asks for.
        target: PeerId,
        /// The signature of whoever asks, not verified.
        signature: &'a [u8; 64],
    },
    /// 0x05: `target` wants to reach the receiver (PROTOCOL §12.3).
    Introduction {
        /// `id`.
        channel: u8,
        /// `sequence number`.
        sequence: u32,
        /// `ack number`.
        ack: u32,
        /// X25519 key of whoever asks.
        ephemeral: &'a [u8; 32],
        /// The member that the receiver of the introduction is to reach, or that a request asks for.
        target: PeerId,
        /// The signature of whoever asks, not verified.
        signature: &'a [u8; 64],
        /// Where whoever asks was seen; IPv4 is v4-mapped.
        address: Ipv6Addr,
        /// UDP port at `address`.
        port: u16,
    },
    /// 0x06: what became of an introduction (PROTOCOL §12.3).
    IntroductionAck {
        /// `id`.
        channel: u8,
        /// `sequence number`.
        sequence: u32,
        /// `ack number`.
        ack: u32,
        /// What became of the introduction.
        status: IntroductionStatus,
    },
    /// 0x10: a piece of an IP packet that is larger than the path (PROTOCOL §11.2).
    Part {
        /// `id`.
        channel: u8,
        /// Which packet of the session.
        number: u32,
        /// Which piece of the packet.
        index: u8,
        /// How many pieces the packet has.
        count: u8,
        /// At most 65535 bytes.
        data: &'a [u8],
    },
    /// 0x11: one whole IP packet, but for its TCP or UDP checksum (PROTOCOL §11.5).
    PartialData {
        /// `id`.
        channel: u8,
        /// At most 65535 bytes.
        data: &'a [u8],
    },
    /// 0x12: does a datagram of this length arrive? (PROTOCOL §8.5)
    Probe {
        /// `id`.
        channel: u8,
        /// Which probe of the session.
        number: u32,
    },
    /// 0x13: it did (PROTOCOL §8.5).
    ProbeAnswer {
        /// `id`.
        channel: u8,
        /// Which probe.
        number: u32,
        /// Length of the datagram in which the probe came.
        size: u16,
    },
    /// 0x14: a datagram of one member for another (PROTOCOL §12.6).
    Relayed {
        /// `id`.
        channel: u8,
        /// 1 if the receiver is to send it on, 0 if it is for the receiver.
        hops: u8,
        /// Whom it is for if it is to be sent on, else whom it is from.
        tag: u64,
        /// One packet of the protocol.
        datagram: &'a [u8],
    },
    /// 0x15: a piece of one (PROTOCOL §12.6).
    RelayedPart {
        /// `id`.
        channel: u8,
        /// As in [`Frame::Relayed`].
        hops: u8,
        /// As in [`Frame::Relayed`].
        tag: u64,
        /// Which datagram.
        number: u32,
        /// Which piece of it.
        index: u8,
        /// How many pieces it has.
        count: u8,
        /// The piece.
        data: &'a [u8],
    },
}

impl<'a> Frame<'a> {
    /// Takes one frame off `reader`.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let channel = reader.u8("channel id")?;
        match reader.u8("frame type")? {
            kind::RELIABLE_DATA => {
                let (sequence, ack) = numbers(reader)?;
                Ok(Self::ReliableData { channel, sequence, ack, data: data(reader)? })
            }
            kind::UNRELIABLE_DATA => Ok(Self::UnreliableData { channel, data: data(reader)? }),
            kind::PARTIAL_DATA => Ok(Self::PartialData { channel, data: data(reader)? }),
            kind::PEERS_LIST_REQUEST => {
                let (sequence, ack) = numbers(reader)?;
                Ok(Self::PeersListRequest { channel, sequence, ack })
            }
            kind::INTRODUCTION_REQUEST => {
                let (sequence, ack) = numbers(reader)?;
                let (ephemeral, target, signature) = introduction(reader)?;
                Ok(Self::IntroductionRequest { channel, sequence, ack, ephemeral, target, signature })
            }
            kind::INTRODUCTION => {
                let (sequence, ack) = numbers(reader)?;
                let (ephemeral, target, signature) = introduction(reader)?;
                let address = Ipv6Addr::from(*reader.array::<16>("address")?);
                let port = reader.u16("port")?;
                Ok(Self::Introduction { channel, sequence, ack, ephemeral, target, signature, address, port })
            }
            kind::INTRODUCTION_ACK => {
                let (sequence, ack) = numbers(reader)?;
                let status = IntroductionStatus::from_byte(reader.u8("status")?).ok_or(DecodeError::Value("status"))?;
                Ok(Self::IntroductionAck { channel, sequence, ack, status })
            }
            kind::PART => {
                let number = reader.u32("number")?;
                let index = reader.u8("index")?;
                let count = reader.u8("count")?;
                Ok(Self::Part { channel, number, index, count, data: data(reader)? })
            }
            kind::PROBE => Ok(Self::Probe { channel, number: reader.u32("number")? }),
            kind::PROBE_ANSWER => {
                let number = reader.u32("number")?;
                Ok(Self::ProbeAnswer { channel, number, size: reader.u16("size")? })
            }
            kind::RELAYED => {
                let (hops, tag) = (reader.u8("hops")?, reader.u64("tag")?);
                Ok(Self::Relayed { channel, hops, tag, datagram: data(reader)? })
            }
            kind::RELAYED_PART => {
                let (hops, tag) = (reader.u8("hops")?, reader.u64("tag")?);
                let (number, index, count) = (reader.u32("number")?, reader.u8("index")?, reader.u8("count")?);
                Ok(Self::RelayedPart { channel, hops, tag, number, index, count, data: data(reader)? })
            }
            _ => Err(DecodeError::Value("frame type")),
        }
    }

    /// How many bytes [`Frame::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::ReliableData { data, .. } => RELIABLE_OVERHEAD + data.len(),
            Self::UnreliableData { data, .. } | Self::PartialData { data, .. } => UNRELIABLE_OVERHEAD + data.len(),
            Self::PeersListRequest { .. } => PREFIX + NUMBERS,
            Self::IntroductionRequest { .. } => PREFIX + NUMBERS + INTRODUCTION,
            Self::Introduction { .. } => PREFIX + NUMBERS + INTRODUCTION + 16 + 2,
            Self::IntroductionAck { .. } => PREFIX + NUMBERS + 1,
            Self::Part { data, .. } => PART_OVERHEAD + data.len(),
            Self::Probe { .. } => PREFIX + 4,
            Self::ProbeAnswer { .. } => PROBE_ANSWER_LEN,
            Self::Relayed { datagram, .. } => RELAYED_OVERHEAD + datagram.len(),
            Self::RelayedPart { data, .. } => RELAYED_PART_OVERHEAD + data.len(),
        }
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// [`Full`] if it does not fit, or if its data is longer than the 65535 bytes that a length field can say; a part of it may then be written.
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        match *self {
            Self::ReliableData { channel, sequence, ack, data } => {
                put_numbered(writer, channel, kind::RELIABLE_DATA, sequence, ack)?;
                put_data(writer, data)
            }
            Self::UnreliableData { channel, data } => {
                writer.put(&[channel, kind::UNRELIABLE_DATA])?;
                put_data(writer, data)
            }
            Self::PartialData { channel, data } => {
                writer.put(&[channel, kind::PARTIAL_DATA])?;
                put_data(writer, data)
            }
            Self::PeersListRequest { channel, sequence, ack } => {
                put_numbered(writer, channel, kind::PEERS_LIST_REQUEST, sequence, ack)
            }
            Self::IntroductionRequest { channel, sequence, ack, ephemeral, target, signature } => {
                put_numbered(writer, channel, kind::INTRODUCTION_REQUEST, sequence, ack)?;
                put_introduction(writer, ephemeral, &target, signature)
            }
            Self::Introduction { channel, sequence, ack, ephemeral, target, signature, address, port } => {
                put_numbered(writer, channel, kind::INTRODUCTION, sequence, ack)?;
                put_introduction(writer, ephemeral, &target, signature)?;
                writer.put(&address.octets())?;
                writer.u16(port)
            }
            Self::IntroductionAck { channel, sequence, ack, status } => {
                put_numbered(writer, channel, kind::INTRODUCTION_ACK, sequence, ack)?;
                writer.u8(status.byte())
            }
            Self::Part { channel, number, index, count, data } => {
                writer.put(&[channel, kind::PART])?;
                writer.u32(number)?;
                writer.put(&[index, count])?;
                put_data(writer, data)
            }
            Self::Probe { channel, number } => {
                writer.put(&[channel, kind::PROBE])?;
                writer.u32(number)
            }
            Self::ProbeAnswer { channel, number, size } => {
                writer.put(&[channel, kind::PROBE_ANSWER])?;
                writer.u32(number)?;
                writer.u16(size)
            }
            Self::Relayed { channel, hops, tag, datagram } => {
                writer.put(&[channel, kind::RELAYED, hops])?;
                writer.put(&tag.to_be_bytes())?;
                put_data(writer, datagram)
            }
            Self::RelayedPart { channel, hops, tag, number, index, count, data } => {
                writer.put(&[channel, kind::RELAYED_PART, hops])?;
                writer.put(&tag.to_be_bytes())?;
                writer.u32(number)?;
                writer.put(&[index, count])?;
                put_data(writer, data)
            }
        }
    }
}

/// `status` of an introduction_ack (PROTOCOL §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntroductionStatus {
    /// 0: the introduction was accepted.
    Accepted,
    /// 1: the target is not known.
    UnknownTarget,
    /// 2: the target refused or is busy.
    Refused,
    /// 3: the signature is bad or stale.
    BadSignature,
    /// 4: the target cannot be reached.
    Unreachable,
}

impl IntroductionStatus {
    /// The status written as `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Accepted),
            1 => Some(Self::UnknownTarget),
            2 => Some(Self::Refused),
            3 => Some(Self::BadSignature),
            4 => Some(Self::Unreachable),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::UnknownTarget => 1,
            Self::Refused => 2,
            Self::BadSignature => 3,
            Self::Unreachable => 4,
        }
    }
}

/// Writes what stands before the packet in an unreliable_data or partial_data frame, and returns the room behind it.
pub(super) fn packet_header(room: &mut [u8], channel: u8, partial: bool, len: usize) -> Result<&mut [u8], Full> {
    let kind = if partial { kind::PARTIAL_DATA } else { kind::UNRELIABLE_DATA };
    let length = u16::try_from(len).map_err(|_| Full)?;
    let (head, data) = room.split_first_chunk_mut::<UNRELIABLE_OVERHEAD>().ok_or(Full)?;
    let data = data.get_mut(..len).ok_or(Full)?;
    let [high, low] = length.to_be_bytes();
    *head = [channel, kind, high, low];
    Ok(data)
}

fn numbers(reader: &mut Reader<'_>) -> Result<(u32, u32), DecodeError> {
    Ok((reader.u32("sequence number")?, reader.u32("ack number")?))
}

fn data<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.u16("length")?;
    reader.take(usize::from(len), "data")
}

fn introduction<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8; 32], PeerId, &'a [u8; 64]), DecodeError> {
    let ephemeral = reader.array("X25519 key")?;
    let target = PeerId(*reader.array("target Ed25519 key")?);
    let signature = reader.array("signature")?;
    Ok((ephemeral, target, signature))
}

fn put_numbered(writer: &mut Writer<'_>, channel: u8, kind: u8, sequence: u32, ack: u32) -> Result<(), Full> {
    writer.put(&[channel, kind])?;
    writer.u32(sequence)?;
    writer.u32(ack)
}

fn put_data(writer: &mut Writer<'_>, data: &[u8]) -> Result<(), Full> {
    writer.u16(u16::try_from(data.len()).map_err(|_| Full)?)?;
    writer.put(data)
}

fn put_introduction(
    writer: &mut Writer<'_>,
    ephemeral: &[u8; 32],
    target: &PeerId,
    signature: &[u8; 64],
) -> Result<(), Full> {
    writer.put(ephemeral)?;
    writer.put(target.as_bytes())?;
    writer.put(signature)
}
