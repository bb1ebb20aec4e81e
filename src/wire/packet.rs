//! The outer discriminant: one packet, by version, type and length (PROTOCOL §2).

use super::cursor::{DecodeError, Reader};
use super::data::Frames;
use super::hello::{COOKIE_PACKET_LEN, Hello};
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

impl<'a> Packet<'a> {
    /// Decodes what was inside an envelope: there, a ping and its answer may be followed by zeros, which say how long a datagram the path carries (PROTOCOL §8.2).
    ///
    /// # Errors
    /// As [`Packet::decode`].
    pub fn decode_inside(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes.split_at_checked(COOKIE_PACKET_LEN) {
            Some((ping @ [VERSION, kind::PING | kind::PING_ANSWER, ..], padding)) if !padding.is_empty() => {
                if padding.iter().any(|&byte| byte != 0) {
                    return Err(DecodeError::Value("padding"));
                }
                Self::decode(ping)
            }
            Some(_) | None => Self::decode(bytes),
        }
    }
}

/// The payload of the three packets that carry 32 bytes and nothing else (PROTOCOL §2.2).
fn cookie<'a>(mut reader: Reader<'a>, packet: &'static str) -> Result<&'a [u8; 32], DecodeError> {
    let cookie = reader.array("cookie")?;
    reader.finish(packet)?;
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hello::{CookieKind, HelloKind, encode_cookie_packet, encode_hello};
    use super::super::sealed::{HEADER, MAX_DATAGRAM};
    use super::*;
    use crate::base::{PeerId, Rng, SessionIndex};

    /// Where each field ends, and its name.
    type Fields = &'static [(usize, &'static str)];

    /// From PROTOCOL §2.1.
    const HELLO_FIELDS: Fields =
        &[(1, "version"), (2, "type"), (34, "X25519 key"), (66, "Ed25519 key"), (130, "signature"), (162, "cookie")];
    const COOKIE_FIELDS: Fields = &[(1, "version"), (2, "type"), (34, "cookie")];
    const SEALED_FIELDS: Fields =
        &[(1, "version"), (2, "type"), (6, "index"), (14, "counter"), (32, "ciphertext and tag")];

    /// Every packet of fixed length, with its fields and the name that trailing bytes are refused with.
    fn packets_of_fixed_length() -> Vec<(Vec<u8>, Fields, &'static str)> {
        let mut rng = Rng::from_number(1);
        let mut packets = Vec::new();
        for kind in [HelloKind::Hello, HelloKind::Answer] {
            let packet = encode_hello(kind, &rng.bytes(), &PeerId(rng.bytes()), &rng.bytes(), &rng.bytes());
            packets.push((packet.to_vec(), HELLO_FIELDS, "hello"));
        }
        for (kind, name) in
            [(CookieKind::Retry, "hello retry"), (CookieKind::Ping, "ping"), (CookieKind::PingAnswer, "ping answer")]
        {
            packets.push((encode_cookie_packet(kind, &rng.bytes()).to_vec(), COOKIE_FIELDS, name));
        }
        packets
    }

    fn decoded(bytes: &[u8]) -> Result<(), DecodeError> {
        Packet::decode(bytes).map(drop)
    }

    fn field_at(fields: Fields, len: usize) -> &'static str {
        fields.iter().find(|(end, _)| len < *end).unwrap().1
    }

    #[test]
    fn every_truncation_of_a_packet_is_refused_with_the_field_that_is_cut() {
        for (packet, fields, _) in packets_of_fixed_length() {
            for len in 0..packet.len() {
                assert_eq!(decoded(&packet[..len]), Err(DecodeError::Truncated(field_at(fields, len))), "{len} bytes");
            }
            assert_eq!(decoded(&packet), Ok(()));
        }
    }

    #[test]
    fn every_extension_of_a_packet_of_fixed_length_is_refused_with_its_name() {
        for (mut packet, _, name) in packets_of_fixed_length() {
            while packet.len() < MAX_DATAGRAM {
                packet.push(0);
                assert_eq!(decoded(&packet), Err(DecodeError::Trailing(name)));
            }
        }
    }

    #[test]
    fn a_sealed_packet_has_a_least_length_and_no_greatest() {
        let header = SealedHeader { index: SessionIndex(0x0102_0304), counter: u64::MAX };
        let mut packet = header.encode().to_vec();
        packet.resize(65_507, 0xaa);
        for len in 0..32 {
            let field = field_at(SEALED_FIELDS, len);
            assert_eq!(decoded(&packet[..len]), Err(DecodeError::Truncated(field)), "{len} bytes");
        }
        for len in [32, MAX_DATAGRAM, MAX_DATAGRAM + 1, packet.len()] {
            let Ok(Packet::Sealed(seen)) = Packet::decode(&packet[..len]) else { panic!("{len} bytes") };
            assert_eq!(seen, header);
        }
        assert_eq!(header.encode(), packet[..HEADER]);
    }

    #[test]
    fn a_data_packet_needs_its_number() {
        assert_eq!(decoded(&[1, 3]), Err(DecodeError::Truncated("number")));
        assert_eq!(decoded(&[1, 3, 0]), Ok(()));
    }

    #[test]
    fn only_seven_types_of_version_one_exist() {
        for version in 0..=u8::MAX {
            for kind in 0..=u8::MAX {
                let mut packet = [0; 162];
                (packet[0], packet[1]) = (version, kind);
                let expected = match (version, kind) {
                    (0x01, 0x01 | 0x81 | 0x03 | 0x10) => Ok(()),
                    (0x01, 0x83) => Err(DecodeError::Trailing("hello retry")),
                    (0x01, 0x02) => Err(DecodeError::Trailing("ping")),
                    (0x01, 0x82) => Err(DecodeError::Trailing("ping answer")),
                    (0x01, _) => Err(DecodeError::Value("type")),
                    (_, _) => Err(DecodeError::Value("version")),
                };
                assert_eq!(decoded(&packet), expected, "{version:02x} {kind:02x}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_hello_gives_back_what_it_was_made_of(
            answer: bool, ephemeral: [u8; 32], identity: [u8; 32], sig in prop::array::uniform32(any::<[u8; 2]>()), cookie: [u8; 32],
        ) {
            let signature: [u8; 64] = sig.as_flattened().try_into().unwrap();
            let kind = if answer { HelloKind::Answer } else { HelloKind::Hello };
            let packet = encode_hello(kind, &ephemeral, &PeerId(identity), &signature, &cookie);
            let hello = match Packet::decode(&packet) {
                Ok(Packet::Hello(hello)) if !answer => hello,
                Ok(Packet::HelloAnswer(hello)) if answer => hello,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(hello.ephemeral(), &ephemeral);
            prop_assert_eq!(hello.identity(), PeerId(identity));
            prop_assert_eq!(hello.signature(), &signature);
            prop_assert_eq!(hello.cookie(), &cookie);
            prop_assert_eq!(hello.bytes(), &packet);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_usize..8) {
            let mut bytes = bytes;
            if let [version, second, ..] = &mut bytes[..] {
                *version = VERSION;
                *second = [1, 0x81, 0x83, 2, 0x82, 3, 0x10, 0x44][kind];
            }
            if let Ok(Packet::Data(frames)) = Packet::decode(&bytes) {
                prop_assert!(frames.count() <= usize::from(bytes[2]) + 1);
            }
        }
    }
}
