//! Control records: what the two ends of a session say to each other on channel 0 (PROTOCOL §9.3).

use std::net::SocketAddr;

use super::cursor::{DecodeError, Reader};
use super::member::{self, Candidates, Entries, Keys, Tags};

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
    pub(super) const SPRAY: u8 = 0x0a;
    pub(super) const KNOCK: u8 = 0x0b;
    pub(super) const KNOCK_FOR: u8 = 0x0c;
    pub(super) const ECHO_AFTER: u8 = 0x0d;
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
    /// 0x0a: the receiver is to look for the sender at random ports, or what it says to that (PROTOCOL §12.8).
    Spray {
        /// The question, or the answer.
        state: SprayState,
        /// What the pings are to carry.
        token: &'a [u8; 32],
    },
    /// 0x0b: somebody else is to ping the sender, and what came of that (PROTOCOL §12.9).
    Knock {
        /// A question, or the answer.
        state: KnockState,
        /// What the ping is to carry.
        token: &'a [u8; 32],
        /// Not one of these: the sender has written to them.
        besides: Tags<'a>,
    },
    /// 0x0c: the receiver is to ping `address` once, for another member (PROTOCOL §12.9).
    KnockFor {
        /// Where the sender sees that member.
        address: SocketAddr,
        /// What the ping is to carry.
        token: &'a [u8; 32],
    },
    /// 0x0d: the receiver is to ping the sender once, later (PROTOCOL §12.9).
    EchoAfter {
        /// So much later.
        seconds: u16,
        /// What the ping is to carry.
        token: &'a [u8; 32],
    },
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
            kind::SPRAY => {
                let state = SprayState::from_byte(reader.u8("state")?).ok_or(DecodeError::Value("state"))?;
                (Self::Spray { state, token: reader.array("token")? }, "spray")
            }
            kind::KNOCK => {
                let state = KnockState::from_byte(reader.u8("state")?).ok_or(DecodeError::Value("state"))?;
                let token = reader.array("token")?;
                return Ok(Self::Knock { state, token, besides: Tags::decode(reader.rest())? });
            }
            kind::KNOCK_FOR => {
                let address = member::address(&mut reader)?;
                (Self::KnockFor { address, token: reader.array("token")? }, "knock for")
            }
            kind::ECHO_AFTER => {
                (Self::EchoAfter { seconds: reader.u16("seconds")?, token: reader.array("token")? }, "echo after")
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
            Self::Spray { state, token } => [&[kind::SPRAY, state.byte()][..], token].concat(),
            Self::Knock { state, token, besides } => {
                [&[kind::KNOCK, state.byte()][..], token, besides.bytes()].concat()
            }
            Self::KnockFor { address, token } => {
                let mut bytes = vec![kind::KNOCK_FOR];
                member::put_address(&mut bytes, address);
                bytes.extend_from_slice(token);
                bytes
            }
            Self::EchoAfter { seconds, token } => [&[kind::ECHO_AFTER][..], &seconds.to_be_bytes(), token].concat(),
            Self::Unknown(unknown) => vec![unknown],
        }
    }
}

/// What is said of looking at random ports: the question, or an answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SprayState {
    /// 0: the sender has many ports, and asks for it.
    Asked,
    /// 1: it begins in half a second.
    Agreed,
    /// 2: not now.
    Refused,
}

impl SprayState {
    /// The state written as `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Asked),
            1 => Some(Self::Agreed),
            2 => Some(Self::Refused),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Asked => 0,
            Self::Agreed => 1,
            Self::Refused => 2,
        }
    }
}

/// What a knock is: the question, or an answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnockState {
    /// 0: somebody is to knock.
    Asked,
    /// 1: a member was told to.
    PassedOn,
    /// 2: there is nobody who could, or it was asked too often.
    Refused,
}

impl KnockState {
    /// The state written as `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Asked),
            1 => Some(Self::PassedOn),
            2 => Some(Self::Refused),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Asked => 0,
            Self::PassedOn => 1,
            Self::Refused => 2,
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
            (
                Record::KnockFor { address: SocketAddr::from(([192, 0, 2, 1], 7)), token: &ephemeral }.encode(),
                &[(1, "record type"), (17, "address"), (19, "port"), (51, "token")],
                "knock for",
            ),
            (
                Record::Spray { state: SprayState::Agreed, token: &ephemeral }.encode(),
                &[(1, "record type"), (2, "state"), (34, "token")],
                "spray",
            ),
            (
                Record::EchoAfter { seconds: 300, token: &ephemeral }.encode(),
                &[(1, "record type"), (3, "seconds"), (35, "token")],
                "echo after",
            ),
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
        for kind in (0..=u8::MAX).filter(|kind| !(1..=0x0d).contains(kind)) {
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

    #[test]
    fn a_knock_names_a_state_and_whole_tags() {
        let token = [7; 32];
        let record = Record::Knock { state: KnockState::Asked, token: &token, besides: Tags::new(&[1; 16]) };
        let bytes = record.encode();
        assert_eq!((bytes.len(), Record::decode(&bytes)), (1 + 1 + 32 + 16, Ok(record)));
        for len in 34..bytes.len() {
            let expected = if len == 34 || len == 42 { None } else { Some(DecodeError::Value("tags")) };
            assert_eq!(Record::decode(&bytes[..len]).err(), expected, "{len} bytes");
        }
        for len in 0..34 {
            assert!(Record::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        for state in 3..=u8::MAX {
            let bytes = [&[0x0b, state][..], &token].concat();
            assert_eq!(Record::decode(&bytes), Err(DecodeError::Value("state")));
        }
    }

    #[test]
    fn a_spray_is_asked_for_agreed_to_or_refused_and_nothing_else() {
        let token = [7; 32];
        for (byte, state) in [(0, SprayState::Asked), (1, SprayState::Agreed), (2, SprayState::Refused)] {
            let bytes = [&[0x0a, byte][..], &token].concat();
            assert_eq!(Record::decode(&bytes), Ok(Record::Spray { state, token: &token }));
        }
        for byte in 3..=u8::MAX {
            assert_eq!(Record::decode(&[&[0x0a, byte][..], &token].concat()), Err(DecodeError::Value("state")));
        }
    }

    proptest! {
        #[test]
        fn what_is_measured_is_encoded_to_the_same_bytes(
            which in 0..3_usize, state in 0..3_u8, fill: u8, tags in 0..=32_usize, noise in prop::collection::vec(any::<u8>(), 50),
        ) {
            let mut bytes = vec![fill; [34 + 8 * tags, 51, 35][which]];
            for (byte, noise) in bytes.iter_mut().zip(&noise) {
                *byte ^= noise;
            }
            bytes[0] = [0x0b, 0x0c, 0x0d][which];
            if which == 0 {
                bytes[1] = state;
            }
            prop_assert_eq!(Record::decode(&bytes).unwrap().encode(), bytes);
        }

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
