//! Control records: what the two ends of a session say to each other on channel 0 (PROTOCOL §9.3).

use super::cursor::{DecodeError, Reader};

/// The longest control record, its type included.
pub const MAX_RECORD: usize = 8192;

/// First byte of every record.
mod kind {
    pub(super) const OFFER: u8 = 0x01;
    pub(super) const FINISH: u8 = 0x02;
    pub(super) const REKEY: u8 = 0x03;
    pub(super) const REKEY_ANSWER: u8 = 0x04;
    pub(super) const CLOSE: u8 = 0x05;
}

/// One control record, without the length before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// 0x01: the responder's key for the post-quantum step (PROTOCOL §4.5).
    Offer {
        /// What the responder can do.
        caps: u32,
        /// ML-KEM-768 encapsulation key, not checked.
        ek: &'a [u8; 1184],
    },
    /// 0x02: the initiator's end of the post-quantum step (PROTOCOL §4.5).
    Finish {
        /// What the initiator can do.
        caps: u32,
        /// ML-KEM-768 ciphertext.
        ct: &'a [u8; 1088],
        /// `sig_F`, not verified.
        signature: &'a [u8; 64],
    },
    /// 0x03: the start of a rekey (PROTOCOL §5.2).
    Rekey {
        /// X25519 key.
        ephemeral: &'a [u8; 32],
        /// ML-KEM-768 encapsulation key, not checked.
        ek: &'a [u8; 1184],
        /// Signature of the sender, not verified.
        signature: &'a [u8; 64],
    },
    /// 0x04: the end of a rekey (PROTOCOL §5.2).
    RekeyAnswer {
        /// X25519 key.
        ephemeral: &'a [u8; 32],
        /// ML-KEM-768 ciphertext.
        ct: &'a [u8; 1088],
        /// Signature of the sender, not verified.
        signature: &'a [u8; 64],
    },
    /// 0x05: the sender has erased the session.
    Close(CloseReason),
    /// A record of a later edition, by its type: to be skipped and counted.
    Unknown(u8),
}

impl<'a> Record<'a> {
    /// Decodes `bytes`, which are one whole record.
    ///
    /// # Errors
    /// The field at fault, if a record of a known type is not laid out as it must be.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (record, name) = match reader.u8("record type")? {
            kind::OFFER => (Self::Offer { caps: reader.u32("caps")?, ek: reader.array("ek")? }, "offer"),
            kind::FINISH => {
                let (caps, ct) = (reader.u32("caps")?, reader.array("ct")?);
                (Self::Finish { caps, ct, signature: reader.array("signature")? }, "finish")
            }
            kind::REKEY => {
                let (ephemeral, ek) = (reader.array("X25519 key")?, reader.array("ek")?);
                (Self::Rekey { ephemeral, ek, signature: reader.array("signature")? }, "rekey")
            }
            kind::REKEY_ANSWER => {
                let (ephemeral, ct) = (reader.array("X25519 key")?, reader.array("ct")?);
                (Self::RekeyAnswer { ephemeral, ct, signature: reader.array("signature")? }, "rekey answer")
            }
            kind::CLOSE => {
                let reason = CloseReason::from_byte(reader.u8("reason")?).ok_or(DecodeError::Value("reason"))?;
                (Self::Close(reason), "close")
            }
            unknown => return Ok(Self::Unknown(unknown)),
        };
        reader.finish(name)?;
        Ok(record)
    }

    /// The record as it goes into a channel, which adds the length. Of an unknown one, only the type is known and written.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Offer { caps, ek } => [&[kind::OFFER][..], &caps.to_be_bytes(), ek].concat(),
            Self::Finish { caps, ct, signature } => [&[kind::FINISH][..], &caps.to_be_bytes(), ct, signature].concat(),
            Self::Rekey { ephemeral, ek, signature } => [&[kind::REKEY][..], ephemeral, ek, signature].concat(),
            Self::RekeyAnswer { ephemeral, ct, signature } => {
                [&[kind::REKEY_ANSWER][..], ephemeral, ct, signature].concat()
            }
            Self::Close(reason) => vec![kind::CLOSE, reason.byte()],
            Self::Unknown(unknown) => vec![unknown],
        }
    }
}

/// Why a session was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// 0: the node stops.
    Shutdown,
    /// 1: nobody uses the session.
    Idle,
    /// 2: the other side broke the protocol.
    ProtocolFault,
}

impl CloseReason {
    /// The reason written as `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Shutdown),
            1 => Some(Self::Idle),
            2 => Some(Self::ProtocolFault),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Shutdown => 0,
            Self::Idle => 1,
            Self::ProtocolFault => 2,
        }
    }
}
