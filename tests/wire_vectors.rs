//! The vectors `wire-*.txt` (PROTOCOL §15): every packet, frame and record is decoded to the fields that are written beside it, and encoded from
//! them, byte for byte; what is malformed is refused with the field that is named.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a vector that cannot be read is a failed test")]

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use handfast::base::{PeerId, SessionIndex};
use handfast::wire::member::{Candidates, Entry, Keys, Source, encode_candidates, encode_entries};
use handfast::wire::record::SprayState;
use handfast::wire::sealed::{HEADER, TAG};
use handfast::wire::{
    CloseReason, CookieKind, DataWriter, DecodeError, Frame, HelloKind, IntroductionStatus, Packet, Record,
    SealedHeader, encode_cookie_packet, encode_hello,
};

/// One file: `name = hex` lines in order, comments left out.
struct Vector {
    file: String,
    entries: Vec<(String, Vec<u8>)>,
}

impl Vector {
    /// The file `wire-NAME.txt`.
    fn read(name: &str) -> Self {
        let file = format!("wire-{name}.txt");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(&file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let entries = lines.map(|line| {
            let (name, hex) = line.split_once('=').unwrap_or_else(|| panic!("{file}: no '=' in {line:?}"));
            (name.trim().to_owned(), bytes_of(hex.trim()))
        });
        Self { entries: entries.collect(), file }
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.entries.iter().filter(|(known, _)| known == name).map(|(_, bytes)| &bytes[..]).collect()
    }

    fn bytes(&self, name: &str) -> &[u8] {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{}: {name} once", self.file);
        all[0]
    }

    fn array<const N: usize>(&self, name: &str) -> &[u8; N] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{}: {name} is not {N} bytes long", self.file))
    }

    fn u8(&self, name: &str) -> u8 {
        u8::from_be_bytes(*self.array(name))
    }

    fn u16(&self, name: &str) -> u16 {
        u16::from_be_bytes(*self.array(name))
    }

    fn u32(&self, name: &str) -> u32 {
        u32::from_be_bytes(*self.array(name))
    }

    fn u64(&self, name: &str) -> u64 {
        u64::from_be_bytes(*self.array(name))
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "not hexadecimal: {hex}");
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
    (0..hex.len()).step_by(2).map(|at| digits(at).unwrap_or_else(|error| panic!("{hex}: {error}"))).collect()
}

/// All that the data packet `bytes` holds.
fn frames_of(bytes: &[u8]) -> Result<Vec<Frame<'_>>, DecodeError> {
    let packet = Packet::decode(bytes)?;
    let Packet::Data(frames) = packet else { panic!("not a data packet: {packet:?}") };
    frames.collect()
}

/// The data packet of `frames`, without padding.
fn data_packet(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut buffer = vec![0xee; 1198];
    let mut writer = DataWriter::new(&mut buffer);
    for frame in frames {
        assert_eq!(writer.push(frame), Ok(()));
    }
    let len = writer.finish();
    buffer.truncate(len);
    buffer
}

const HELLOS: [(&str, HelloKind); 2] = [("hello", HelloKind::Hello), ("hello-answer", HelloKind::Answer)];

const COOKIE_PACKETS: [(&str, CookieKind); 3] =
    [("hello-retry", CookieKind::Retry), ("ping", CookieKind::Ping), ("ping-answer", CookieKind::PingAnswer)];

const OTHER_PACKETS: [&str; 5] =
    ["sealed", "data-keepalive", "data-keepalive-padded", "data-several", "data-probe-padded"];

const PADDED_PINGS: [&str; 3] = ["ping-padded", "ping-answer-padded", "ping-bad-padding"];

const FRAMES: [&str; 20] = [
    "reliable-data",
    "reliable-data-longest",
    "acknowledgement",
    "unreliable-data",
    "unreliable-data-longest",
    "peers-list-request",
    "introduction-request",
    "introduction",
    "introduction-ack-accepted",
    "introduction-ack-unknown-target",
    "introduction-ack-refused",
    "introduction-ack-bad-signature",
    "introduction-ack-unreachable",
    "part",
    "partial-data",
    "probe",
    "probe-answer",
    "relayed-onward",
    "relayed-arrived",
    "relayed-part",
];

const RECORDS: [&str; 18] = [
    "offer",
    "finish",
    "rekey",
    "rekey-answer",
    "close-shutdown",
    "close-idle",
    "close-protocol-fault",
    "close-superseded",
    "peers-list-empty",
    "peers-list-found",
    "peers-list-longest",
    "find",
    "about",
    "about-nowhere",
    "candidates",
    "candidates-none",
    "spray",
    "unknown",
];

const MALFORMED: [&str; 3] = ["malformed-packets", "malformed-data", "malformed-records"];

#[test]
fn every_file_of_vectors_has_a_test() {
    let mut expected: Vec<String> = HELLOS.map(|(name, _)| name).map(String::from).to_vec();
    expected.extend(COOKIE_PACKETS.map(|(name, _)| name.to_owned()));
    expected.extend(OTHER_PACKETS.iter().chain(&PADDED_PINGS).chain(&MALFORMED).map(|&name| name.to_owned()));
    expected.extend(FRAMES.map(|name| format!("frame-{name}")));
    expected.extend(RECORDS.map(|name| format!("record-{name}")));
    expected.sort();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> =
        names.filter_map(|name| Some(name.strip_prefix("wire-")?.strip_suffix(".txt")?.to_owned())).collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn hellos_are_as_in_their_vectors() {
    for (name, kind) in HELLOS {
        let vector = Vector::read(name);
        let packet = vector.bytes("packet");
        let hello = match (kind, Packet::decode(packet)) {
            (HelloKind::Hello, Ok(Packet::Hello(hello))) | (HelloKind::Answer, Ok(Packet::HelloAnswer(hello))) => hello,
            (_, other) => panic!("{name}: {other:?}"),
        };
        assert_eq!(hello.ephemeral(), vector.array("x25519_key"));
        assert_eq!(hello.identity(), PeerId(*vector.array("ed25519_key")));
        assert_eq!(hello.signature(), vector.array("signature"));
        assert_eq!(hello.cookie(), vector.array("cookie"));
        assert_eq!(hello.bytes(), packet);
        let identity = PeerId(*vector.array("ed25519_key"));
        let (ephemeral, signature) = (vector.array("x25519_key"), vector.array("signature"));
        assert_eq!(encode_hello(kind, ephemeral, &identity, signature, vector.array("cookie")), packet);
    }
}

#[test]
fn retry_and_pings_are_as_in_their_vectors() {
    for (name, kind) in COOKIE_PACKETS {
        let vector = Vector::read(name);
        let packet = vector.bytes("packet");
        let cookie = match (kind, Packet::decode(packet)) {
            (CookieKind::Retry, Ok(Packet::HelloRetry(cookie)))
            | (CookieKind::Ping, Ok(Packet::Ping(cookie)))
            | (CookieKind::PingAnswer, Ok(Packet::PingAnswer(cookie))) => cookie,
            (_, other) => panic!("{name}: {other:?}"),
        };
        assert_eq!(cookie, vector.array("cookie"));
        assert_eq!(encode_cookie_packet(kind, vector.array("cookie")), packet);
    }
}

#[test]
fn inside_an_envelope_zeros_may_follow_a_ping() {
    for name in PADDED_PINGS {
        let vector = Vector::read(name);
        let packet = vector.bytes("packet");
        assert!(Packet::decode(packet).is_err(), "{name}: not outside of one");
        match (name, Packet::decode_inside(packet)) {
            ("ping-padded", Ok(Packet::Ping(cookie))) | ("ping-answer-padded", Ok(Packet::PingAnswer(cookie))) => {
                assert_eq!(cookie, vector.array("cookie"));
                assert_eq!(HEADER + packet.len() + TAG, usize::from(vector.u16("datagram_length")), "{name}");
            }
            ("ping-bad-padding", Err(DecodeError::Value("padding"))) => {}
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_sealed_header_is_as_in_its_vector() {
    let vector = Vector::read("sealed");
    let packet = vector.bytes("packet");
    let header = SealedHeader { index: SessionIndex(vector.u32("index")), counter: vector.u64("counter") };
    let Ok(Packet::Sealed(decoded)) = Packet::decode(packet) else { panic!("not sealed") };
    assert_eq!(decoded, header);
    assert_eq!(header.encode()[..], packet[..14]);
    assert_eq!(header.encode(), *vector.array("header"));
}

#[test]
fn a_keepalive_has_no_frames_and_any_padding() {
    assert_eq!(data_packet(&[]), Vector::read("data-keepalive").bytes("packet"));
    for name in ["data-keepalive", "data-keepalive-padded"] {
        assert_eq!(frames_of(Vector::read(name).bytes("packet")), Ok(vec![]), "{name}");
    }
}

#[test]
fn several_frames_in_one_packet_are_as_in_their_vector() {
    let vector = Vector::read("data-several");
    let packet = vector.bytes("packet");
    let frames = frames_of(packet).unwrap();
    let written: Vec<Vec<u8>> = frames.iter().map(|frame| data_packet(&[*frame])[3..].to_vec()).collect();
    assert_eq!(written, vector.all("frame"));
    let unpadded = data_packet(&frames);
    assert_eq!(packet.strip_prefix(&unpadded[..]), Some(&[0; 4][..]));
}

#[test]
fn a_probe_is_padded_to_the_size_that_it_asks_for() {
    let vector = Vector::read("data-probe-padded");
    let packet = vector.bytes("packet");
    let frames = frames_of(packet).unwrap();
    assert_eq!(data_packet(&frames)[3..], *vector.bytes("frame"));
    assert_eq!(HEADER + packet.len() + TAG, usize::from(vector.u16("datagram_length")));
}

#[test]
fn frames_are_as_in_their_vectors() {
    for name in FRAMES {
        let vector = Vector::read(&format!("frame-{name}"));
        let expected = expected_frame(name, &vector);
        let packet = vector.bytes("packet");
        assert_eq!(frames_of(packet), Ok(vec![expected]), "{name}");
        assert_eq!(data_packet(&[expected]), packet, "{name}");
        assert_eq!(expected.encoded_len(), vector.bytes("frame").len(), "{name}");
        assert_eq!(&packet[3..], vector.bytes("frame"), "{name}");
    }
}

/// The frame made of the fields beside it.
fn expected_frame<'a>(name: &str, vector: &'a Vector) -> Frame<'a> {
    let channel = vector.u8("channel");
    let numbers = || (vector.u32("sequence"), vector.u32("ack"));
    match name {
        "reliable-data" | "reliable-data-longest" | "acknowledgement" => {
            let (sequence, ack) = numbers();
            Frame::ReliableData { channel, sequence, ack, data: vector.bytes("data") }
        }
        "unreliable-data" | "unreliable-data-longest" => Frame::UnreliableData { channel, data: vector.bytes("data") },
        "peers-list-request" => {
            let (sequence, ack) = numbers();
            Frame::PeersListRequest { channel, sequence, ack }
        }
        "introduction-request" => {
            let (sequence, ack) = numbers();
            let (ephemeral, signature) = (vector.array("x25519_key"), vector.array("signature"));
            let target = PeerId(*vector.array("target"));
            Frame::IntroductionRequest { channel, sequence, ack, ephemeral, target, signature }
        }
        "introduction" => {
            let (sequence, ack) = numbers();
            let (ephemeral, signature) = (vector.array("x25519_key"), vector.array("signature"));
            let target = PeerId(*vector.array("target"));
            let (address, port) = (Ipv6Addr::from(*vector.array::<16>("address")), vector.u16("port"));
            Frame::Introduction { channel, sequence, ack, ephemeral, target, signature, address, port }
        }
        "part" => {
            let (number, index, count) = (vector.u32("number"), vector.u8("index"), vector.u8("count"));
            Frame::Part { channel, number, index, count, data: vector.bytes("data") }
        }
        "partial-data" => Frame::PartialData { channel, data: vector.bytes("data") },
        "probe" => Frame::Probe { channel, number: vector.u32("number") },
        "probe-answer" => Frame::ProbeAnswer { channel, number: vector.u32("number"), size: vector.u16("size") },
        "relayed-onward" | "relayed-arrived" => {
            let (hops, tag) = (vector.u8("hops"), vector.u64("tag"));
            Frame::Relayed { channel, hops, tag, datagram: vector.bytes("datagram") }
        }
        "relayed-part" => {
            let (hops, tag, number) = (vector.u8("hops"), vector.u64("tag"), vector.u32("number"));
            let (index, count, data) = (vector.u8("index"), vector.u8("count"), vector.bytes("data"));
            Frame::RelayedPart { channel, hops, tag, number, index, count, data }
        }
        acknowledgement => {
            let (status, byte) = match acknowledgement.strip_prefix("introduction-ack-") {
                Some("accepted") => (IntroductionStatus::Accepted, 0),
                Some("unknown-target") => (IntroductionStatus::UnknownTarget, 1),
                Some("refused") => (IntroductionStatus::Refused, 2),
                Some("bad-signature") => (IntroductionStatus::BadSignature, 3),
                Some("unreachable") => (IntroductionStatus::Unreachable, 4),
                Some(_) | None => panic!("{name} is unknown"),
            };
            assert_eq!(vector.u8("status"), byte);
            let (sequence, ack) = numbers();
            Frame::IntroductionAck { channel, sequence, ack, status }
        }
    }
}

/// An address and a port, as they lie in a record.
fn socket(address: &[u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(), port)
}

fn socket_of(bytes: &[u8]) -> SocketAddr {
    socket(bytes[..16].try_into().unwrap(), u16::from_be_bytes([bytes[16], bytes[17]]))
}

/// The entries made of the fields that follow each key.
fn expected_entries(vector: &Vector) -> Vec<Entry> {
    let fields = |name| vector.all(name).into_iter();
    let places = fields("address").zip(fields("port")).map(|(address, port)| socket_of(&[address, port].concat()));
    let rest = fields("entry_flags").zip(fields("nonce"));
    let all = fields("key").zip(places).zip(rest).map(|((key, address), (flags, nonce))| Entry {
        id: PeerId(key.try_into().unwrap()),
        address,
        connected: flags[0] & 1 != 0,
        relays: flags[0] & 2 != 0,
        claimed: flags[0] & 4 != 0,
        nonce: nonce.try_into().unwrap(),
    });
    all.collect()
}

#[test]
fn records_are_as_in_their_vectors() {
    for name in RECORDS {
        let vector = Vector::read(&format!("record-{name}"));
        let signature = || vector.array("signature");
        let (entries, keys, candidates);
        let expected = match name {
            "offer" => Record::Offer { caps: vector.u32("caps"), ek: vector.array("ek") },
            "finish" => Record::Finish { caps: vector.u32("caps"), ct: vector.array("ct"), signature: signature() },
            "rekey" => {
                let ephemeral = vector.array("x25519_key");
                Record::Rekey { ephemeral, ek: vector.array("ek"), signature: signature() }
            }
            "rekey-answer" => {
                let ephemeral = vector.array("x25519_key");
                Record::RekeyAnswer { ephemeral, ct: vector.array("ct"), signature: signature() }
            }
            "close-shutdown" => Record::Close(CloseReason::Shutdown),
            "close-idle" => Record::Close(CloseReason::Idle),
            "close-protocol-fault" => Record::Close(CloseReason::ProtocolFault),
            "close-superseded" => Record::Close(CloseReason::Superseded),
            "peers-list-empty" | "peers-list-found" | "peers-list-longest" => {
                entries = encode_entries(&expected_entries(&vector));
                let list = Record::decode(vector.bytes("record"));
                let Ok(Record::PeersList { version, flags, entries: decoded }) = list else {
                    panic!("{name}: {list:?}")
                };
                assert_eq!((version, flags), (vector.u32("version"), vector.u8("flags")), "{name}");
                assert_eq!(decoded.iter().collect::<Vec<_>>(), expected_entries(&vector), "{name}");
                assert_eq!(decoded.bytes(), entries, "{name}");
                list.unwrap()
            }
            "find" => {
                keys = vector.all("key").concat();
                Record::Find(Keys::new(&keys))
            }
            "about" | "about-nowhere" => {
                let seen = socket(vector.array("address"), vector.u16("port"));
                Record::About { flags: vector.u8("flags"), nonce: vector.array("nonce"), seen }
            }
            "candidates" | "candidates-none" => {
                let all = vector.all("candidate").into_iter().map(|bytes| {
                    let source = [Source::Local, Source::Observed, Source::Mapped][usize::from(bytes[18])];
                    (socket_of(bytes), source)
                });
                candidates = encode_candidates(&all.collect::<Vec<_>>());
                Record::Candidates(Candidates::new(&candidates))
            }
            "spray" => {
                let state = SprayState::from_byte(vector.u8("state")).unwrap();
                Record::Spray { state, token: vector.array("token") }
            }
            unknown => {
                assert_eq!(unknown, "unknown");
                Record::Unknown(vector.u8("type"))
            }
        };
        let record = vector.bytes("record");
        assert_eq!(Record::decode(record), Ok(expected), "{name}");
        if !matches!(expected, Record::Unknown(_)) {
            assert_eq!(expected.encode(), record, "{name}");
        }
    }
}

/// Checks that every entry of `file` is refused by `decode` with the error that its name says.
fn assert_refused(file: &str, decode: fn(&[u8]) -> Result<(), DecodeError>) {
    let vector = Vector::read(file);
    assert!(!vector.entries.is_empty());
    for (name, bytes) in &vector.entries {
        let said = match decode(bytes) {
            Ok(()) => "accepted".to_owned(),
            Err(DecodeError::Truncated(field)) => format!("truncated {field}"),
            Err(DecodeError::Trailing(field)) => format!("trailing {field}"),
            Err(DecodeError::Value(field)) => format!("value {field}"),
        };
        assert_eq!(&said, name, "{file}: {bytes:02x?}");
    }
}

#[test]
fn malformed_packets_are_refused_with_the_field_at_fault() {
    assert_refused("malformed-packets", |bytes| Packet::decode(bytes).map(drop));
}

#[test]
fn malformed_data_is_refused_with_the_field_at_fault() {
    assert_refused("malformed-data", |bytes| frames_of(bytes).map(drop));
}

#[test]
fn malformed_records_are_refused_with_the_field_at_fault() {
    assert_refused("malformed-records", |bytes| Record::decode(bytes).map(drop));
}
