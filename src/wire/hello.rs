//! Packets of fixed length: hello and its answer, hello retry, ping and its answer (PROTOCOL §2.1, §2.2).

use super::cursor::{DecodeError, Reader};
use super::packet::{VERSION, kind};
use crate::base::PeerId;

/// Length of a hello and of its answer.
pub const HELLO_LEN: usize = 162;

/// Length of a hello retry, a ping and its answer.
pub const COOKIE_PACKET_LEN: usize = 34;

/// A hello or its answer, where it lies in the datagram.
///
/// ```text
///  0      1      2                34               66               130              162
///  | ver  | type | X25519 key 32  | Ed25519 key 32 | signature 64   | cookie 32      |
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    bytes: &'a [u8; HELLO_LEN],
    ephemeral: &'a [u8; 32],
    identity: &'a [u8; 32],
    signature: &'a [u8; 64],
    cookie: &'a [u8; 32],
}

impl<'a> Hello<'a> {
    /// Splits a whole packet, whose version and type are already known.
    pub(super) fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(packet);
        reader.array::<2>("type")?;
        let ephemeral = reader.array("X25519 key")?;
        let identity = reader.array("Ed25519 key")?;
        let signature = reader.array("signature")?;
        let cookie = reader.array("cookie")?;
        reader.finish("hello")?;
        let bytes = packet.try_into().map_err(|_| DecodeError::Trailing("hello"))?;
        Ok(Self { bytes, ephemeral, identity, signature, cookie })
    }

    /// `E` of the sender.
    pub const fn ephemeral(&self) -> &'a [u8; 32] {
        self.ephemeral
    }

    /// `S` of the sender: a claim, until the signature is verified.
    pub const fn identity(&self) -> PeerId {
        PeerId(*self.identity)
    }

    /// The signature of the sender, not verified.
    pub const fn signature(&self) -> &'a [u8; 64] {
        self.signature
    }

    /// `C`: a MAC in a first hello, a cookie in a second one, the confirmation in an answer.
    pub const fn cookie(&self) -> &'a [u8; 32] {
        self.cookie
    }

    /// The whole packet.
    pub const fn bytes(&self) -> &'a [u8; HELLO_LEN] {
        self.bytes
    }
}

/// Which packet has the layout of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// 0x01.
    Hello,
    /// 0x81.
    Answer,
}

impl HelloKind {
    /// The type byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Hello => kind::HELLO,
            Self::Answer => kind::HELLO_ANSWER,
        }
    }
}

/// Which packet carries 32 bytes and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// Hello retry, 0x83.
    Retry,
    /// Ping, 0x02.
    Ping,
    /// Ping answer, 0x82.
    PingAnswer,
}

impl CookieKind {
    /// The type byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Retry => kind::HELLO_RETRY,
            Self::Ping => kind::PING,
            Self::PingAnswer => kind::PING_ANSWER,
        }
    }
}

/// The whole packet of a hello or its answer (PROTOCOL §2.1).
pub fn encode_hello(
    kind: HelloKind,
    ephemeral: &[u8; 32],
    identity: &PeerId,
    signature: &[u8; 64],
    cookie: &[u8; 32],
) -> [u8; HELLO_LEN] {
    let mut packet = [0; HELLO_LEN];
    packet[0] = VERSION;
    packet[1] = kind.byte();
    packet[2..34].copy_from_slice(ephemeral);
    packet[34..66].copy_from_slice(identity.as_bytes());
    packet[66..130].copy_from_slice(signature);
    packet[130..162].copy_from_slice(cookie);
    packet
}

/// The whole packet of a hello retry, a ping or its answer (PROTOCOL §2.2).
pub fn encode_cookie_packet(kind: CookieKind, cookie: &[u8; 32]) -> [u8; COOKIE_PACKET_LEN] {
    let mut packet = [0; COOKIE_PACKET_LEN];
    packet[0] = VERSION;
    packet[1] = kind.byte();
    packet[2..34].copy_from_slice(cookie);
    packet
}
