//! The outer discriminant: one packet, by version, type and length (PROTOCOL §2).

use super::cursor::{DecodeError, Reader};
use super::data::Frames;
use super::hello::Hello;
use super::sealed::SealedHeader;

/// `ver`, the first byte of every packet (PROTOCOL §1).
pub const VERSION: u8 = 0x01;

/// Second byte of every packet (PROTOCOL §2).
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const HELLO_ANSWER: u8 = 0x81;
    pub(crate) const HELLO_RETRY: u8 = 0x83;
    pub(crate) const PING: u8 = 0x02;
    pub(crate) const PING_ANSWER: u8 = 0x82;
    pub(crate) const DATA: u8 = 0x03;
    pub(crate) const SEALED: u8 = 0x10;
}

/// One packet, borrowed from the bytes it came in.
///
/// Whether it may stand where it was found is for the caller to decide: [`Packet::Data`] is valid only inside an envelope, and of the others only
/// the pings are (PROTOCOL §2.4).
#[derive(Clone, Debug)]
pub enum Packet<'a> {
    /// 0x01: the first or second hello (PROTOCOL §2.1).
    Hello(Hello<'a>),
    /// 0x81: the answer of the responder (PROTOCOL §2.1).
    HelloAnswer(Hello<'a>),
    /// 0x83: a cookie for whoever said hello (PROTOCOL §2.2).
    HelloRetry(&'a [u8; 32]),
    /// 0x02: is somebody there? (PROTOCOL §2.2)
    Ping(&'a [u8; 32]),
    /// 0x82: the answer to a ping (PROTOCOL §2.2).
    PingAnswer(&'a [u8; 32]),
    /// 0x03: channel frames; they are decoded as they are iterated (PROTOCOL §2.3).
    Data(Frames<'a>),
    /// 0x10: an envelope; the ciphertext and tag are what follows the header (PROTOCOL §2.4).
    Sealed(SealedHeader),
}

impl<'a> Packet<'a> {
    /// Decodes `bytes`, which are one whole packet.
    ///
    /// The length of sealed and data packets has no upper bound here: a path may carry more than every path must.
    ///
    /// # Errors
    /// The field at fault: [`DecodeError::Value`] for a version or type that is not known, else a wrong length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(DecodeError::Value("version"));
        }
        match reader.u8("type")? {
            kind::HELLO => Hello::decode(bytes).map(Self::Hello),
            kind::HELLO_ANSWER => Hello::decode(bytes).map(Self::HelloAnswer),
            kind::HELLO_RETRY => cookie(reader, "hello retry").map(Self::HelloRetry),
            kind::PING => cookie(reader, "ping").map(Self::Ping),
            kind::PING_ANSWER => cookie(reader, "ping answer").map(Self::PingAnswer),
            kind::DATA => reader.u8("number").map(|number| Self::Data(Frames::new(number, reader.rest()))),
            kind::SEALED => SealedHeader::decode(reader).map(Self::Sealed),
            _ => Err(DecodeError::Value("type")),
        }
    }
}

/// The payload of the three packets that carry 32 bytes and nothing else (PROTOCOL §2.2).
fn cookie<'a>(mut reader: Reader<'a>, packet: &'static str) -> Result<&'a [u8; 32], DecodeError> {
    let cookie = reader.array("cookie")?;
    reader.finish(packet)?;
    Ok(cookie)
}
