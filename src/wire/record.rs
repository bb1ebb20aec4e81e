//! Control records: what the two ends of a session say to each other on channel 0 (PROTOCOL §9.3).

use std::net::SocketAddr;

use super::cursor::{DecodeError, Reader};
use super::member::{self, Candidates, Entries, Keys};

/// The longest control record, its type included.
pub const MAX_RECORD: usize = 8192;

/// First byte of every record.
mod kind {
    pub(super) const OFFER: u8 = 0x01;
    pub(super) const FINISH: u8 = 0x02;
    pub(super) const REKEY: u8 = 0x03;
    pub(super) const REKEY_ANSWER: u8 = 0x04;
    pub(super) const CLOSE: u8 = 0x05;
    pub(super) const PEERS_LIST: u8 = 0x06;
    pub(super) const FIND: u8 = 0x07;
    pub(super) const ABOUT: u8 = 0x08;
    pub(super) const CANDIDATES: u8 = 0x09;
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
    /// 0x06: members that the sender knows (PROTOCOL §12.2).
    PeersList {
        /// The list up to this change is known after this page.
        version: u32,
        /// [`member::MORE`], [`member::FOUND`].
        flags: u8,
        /// Up to 32.
        entries: Entries<'a>,
    },
    /// 0x07: where are these members? (PROTOCOL §12.2)
    Find(Keys<'a>),
    /// 0x08: what the sender is, and where it sees the receiver (PROTOCOL §12.2).
    About {
        /// 0x01 it relays, 0x02 it introduces.
        flags: u8,
        /// `N` of the sender.
        nonce: &'a [u8; 16],
        /// Where the sender sees the receiver.
        seen: SocketAddr,
    },
    /// 0x09: where the sender may be reached besides (PROTOCOL §12.2).
    Candidates(Candidates<'a>),
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
            kind::PEERS_LIST => {
                let (version, flags) = (reader.u32("version")?, reader.u8("flags")?);
                return Ok(Self::PeersList { version, flags, entries: Entries::decode(reader.rest())? });
            }
            kind::FIND => return Keys::decode(reader.rest()).map(Self::Find),
            kind::ABOUT => {
                let (flags, nonce) = (reader.u8("flags")?, reader.array("nonce")?);
                (Self::About { flags, nonce, seen: member::address(&mut reader)? }, "about")
            }
            kind::CANDIDATES => return Candidates::decode(reader.rest()).map(Self::Candidates),
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
            Self::PeersList { version, flags, entries } => {
                [&[kind::PEERS_LIST][..], &version.to_be_bytes(), &[flags], entries.bytes()].concat()
            }
            Self::Find(keys) => [&[kind::FIND][..], keys.bytes()].concat(),
            Self::About { flags, nonce, seen } => {
                let mut bytes = [&[kind::ABOUT, flags][..], nonce].concat();
                member::put_address(&mut bytes, seen);
                bytes
            }
            Self::Candidates(candidates) => [&[kind::CANDIDATES][..], candidates.bytes()].concat(),
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
    /// 3: the sender, which holds the larger key, sends on another session (PROTOCOL §7).
    Superseded,
}

impl CloseReason {
    /// The reason written as `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Shutdown),
            1 => Some(Self::Idle),
            2 => Some(Self::ProtocolFault),
            3 => Some(Self::Superseded),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Shutdown => 0,
            Self::Idle => 1,
            Self::ProtocolFault => 2,
            Self::Superseded => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Rng;

    /// Where each field ends (PROTOCOL §9.3), and its name.
    type Fields = &'static [(usize, &'static str)];

    /// Every record of fixed layout, its fields, and its name.
    fn records() -> Vec<(Vec<u8>, Fields, &'static str)> {
        let mut rng = Rng::from_number(2);
        let (ek, ct, signature, ephemeral) = (rng.bytes(), rng.bytes(), rng.bytes(), rng.bytes());
        vec![
            (
                Record::Offer { caps: 0x8000_0001, ek: &ek }.encode(),
                &[(1, "record type"), (5, "caps"), (1189, "ek")],
                "offer",
            ),
            (
                Record::Finish { caps: 3, ct: &ct, signature: &signature }.encode(),
                &[(1, "record type"), (5, "caps"), (1093, "ct"), (1157, "signature")],
                "finish",
            ),
            (
                Record::Rekey { ephemeral: &ephemeral, ek: &ek, signature: &signature }.encode(),
                &[(1, "record type"), (33, "X25519 key"), (1217, "ek"), (1281, "signature")],
                "rekey",
            ),
            (
                Record::RekeyAnswer { ephemeral: &ephemeral, ct: &ct, signature: &signature }.encode(),
                &[(1, "record type"), (33, "X25519 key"), (1121, "ct"), (1185, "signature")],
                "rekey answer",
            ),
            (Record::Close(CloseReason::Idle).encode(), &[(1, "record type"), (2, "reason")], "close"),
        ]
    }

    #[test]
    fn every_truncation_and_extension_of_a_record_is_refused_with_its_name() {
        for (mut record, fields, name) in records() {
            for len in 0..record.len() {
                let (_, field) = fields.iter().find(|(end, _)| len < *end).unwrap();
                assert_eq!(Record::decode(&record[..len]), Err(DecodeError::Truncated(field)), "{name}, {len} bytes");
            }
            assert_eq!(Record::decode(&record).unwrap().encode(), record);
            assert!(record.len() < MAX_RECORD);
            record.push(0);
            assert_eq!(Record::decode(&record), Err(DecodeError::Trailing(name)));
            record.resize(MAX_RECORD, 0);
            assert_eq!(Record::decode(&record), Err(DecodeError::Trailing(name)));
        }
    }

    #[test]
    fn an_unknown_record_is_not_an_error_but_an_unknown_reason_is() {
        for kind in (0..=u8::MAX).filter(|kind| !(1..=9).contains(kind)) {
            assert_eq!(Record::decode(&[kind, 1, 2, 3]), Ok(Record::Unknown(kind)));
        }
        for reason in 4..=u8::MAX {
            assert_eq!(Record::decode(&[5, reason]), Err(DecodeError::Value("reason")));
        }
        for (byte, reason) in [
            (0, CloseReason::Shutdown),
            (1, CloseReason::Idle),
            (2, CloseReason::ProtocolFault),
            (3, CloseReason::Superseded),
        ] {
            assert_eq!(Record::decode(&[5, byte]), Ok(Record::Close(reason)));
        }
    }

    proptest! {
        #[test]
        fn whatever_decodes_is_encoded_to_the_same_bytes(
            kind in 1..=5_usize, fill: u8, noise in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let len = [0, 1189, 1157, 1281, 1185, 2][kind];
            let mut bytes = vec![fill; len];
            for (at, byte) in noise.iter().enumerate() {
                bytes[at * 31 % len] = *byte;
            }
            bytes[0] = kind as u8;
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            } else {
                prop_assert_eq!(kind, 5);
            }
        }
    }
}
