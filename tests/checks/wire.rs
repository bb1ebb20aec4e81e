//! What holds for any bytes that a decoder of `wire` is given; used by the fuzz targets and by the tests that replay their corpora.

use handfast::wire::member::{MAX_CANDIDATES, MAX_KEYS, PAGE, encode_candidates, encode_entries};
use handfast::wire::{
    CookieKind, DataWriter, DecodeError, Frame, HelloKind, Packet, Record, encode_cookie_packet, encode_hello,
};

/// A packet that decodes is encoded to the same bytes again. What decodes inside an envelope only is a ping followed by zeros.
pub(crate) fn packet(bytes: &[u8]) {
    match (Packet::decode(bytes), Packet::decode_inside(bytes)) {
        (Err(_), Ok(Packet::Ping(_) | Packet::PingAnswer(_))) => {
            assert!(bytes.len() > 34 && bytes[34..].iter().all(|&byte| byte == 0));
            return packet(&bytes[..34]);
        }
        (outside, inside) => assert_eq!(outside.is_ok(), inside.is_ok()),
    }
    let Ok(packet) = Packet::decode(bytes) else { return };
    let hello = |kind, hello: handfast::wire::Hello<'_>| {
        encode_hello(kind, hello.ephemeral(), &hello.identity(), hello.signature(), hello.cookie()).to_vec()
    };
    let again = match packet {
        Packet::Hello(view) => hello(HelloKind::Hello, view),
        Packet::HelloAnswer(view) => hello(HelloKind::Answer, view),
        Packet::HelloRetry(cookie) => encode_cookie_packet(CookieKind::Retry, cookie).to_vec(),
        Packet::Ping(cookie) => encode_cookie_packet(CookieKind::Ping, cookie).to_vec(),
        Packet::PingAnswer(cookie) => encode_cookie_packet(CookieKind::PingAnswer, cookie).to_vec(),
        Packet::Sealed(header) => [&header.encode()[..], &bytes[14..]].concat(),
        Packet::Data(_) => return frames(&bytes[2..]),
    };
    assert_eq!(again, bytes);
}

/// The frames of a data packet, whose version and type are left out of `bytes`, are written to the same bytes again; only faulty padding and what
/// stands behind a faulty frame is lost.
pub(crate) fn frames(bytes: &[u8]) {
    let packet = [&[0x01, 0x03], bytes].concat();
    let Ok(Packet::Data(frames)) = Packet::decode(&packet) else {
        assert!(bytes.is_empty());
        return;
    };
    let announced = usize::from(bytes[0]);
    let mut rest = frames.clone();
    let mut buffer = vec![0; packet.len()];
    let mut writer = DataWriter::new(&mut buffer);
    let mut fault = None;
    for frame in rest.by_ref() {
        assert_eq!(fault, None, "nothing follows a fault");
        match frame {
            Ok(frame) => assert_eq!(writer.push(&frame), Ok(())),
            Err(error) => fault = Some(error),
        }
    }
    let good = usize::from(writer.frames());
    assert_eq!(good + usize::from(rest.remaining()), announced);
    let len = writer.finish();
    assert_eq!(buffer[3..len], packet[3..len]);
    match fault {
        None => assert!(good == announced && packet[len..].iter().all(|&byte| byte == 0)),
        Some(DecodeError::Value("padding")) => {
            assert!(good == announced && packet[len..].iter().any(|&byte| byte != 0));
        }
        Some(_) => assert!(good < announced),
    }
    let decoded: Vec<Frame<'_>> = frames.map_while(Result::ok).collect();
    assert_eq!(decoded.len(), good);
    assert_eq!(3 + decoded.iter().map(Frame::encoded_len).sum::<usize>(), len);
}

/// A control record that decodes is encoded to the same bytes again, and so is what it says of members.
pub(crate) fn record(bytes: &[u8]) {
    match Record::decode(bytes) {
        Ok(Record::Unknown(kind)) => assert!(bytes[0] == kind && !(1..=0x0d).contains(&kind)),
        Ok(record) => {
            assert_eq!(record.encode(), bytes);
            members(&record);
        }
        Err(_) => assert!(bytes.is_empty() || (1..=0x0d).contains(&bytes[0])),
    }
}

/// The bodies of the records that concern other members: taken apart and put together again, but for flags of later editions.
fn members(record: &Record<'_>) {
    match *record {
        Record::PeersList { entries, .. } => {
            let list: Vec<_> = entries.iter().collect();
            assert!(list.len() <= PAGE && list.len() * 67 == entries.bytes().len());
            let mut known = entries.bytes().to_vec();
            known.chunks_exact_mut(67).for_each(|entry| entry[50] &= 0x07);
            assert_eq!(encode_entries(&list), known);
        }
        Record::Find(keys) => {
            let list: Vec<_> = keys.iter().collect();
            assert!((1..=MAX_KEYS).contains(&list.len()));
            assert_eq!(list.iter().flat_map(|key| key.0).collect::<Vec<_>>(), keys.bytes());
        }
        Record::Candidates(candidates) => {
            let list: Vec<_> = candidates.iter().collect();
            assert!(list.len() <= MAX_CANDIDATES);
            assert_eq!(encode_candidates(&list), candidates.bytes());
        }
        Record::Offer { .. }
        | Record::Finish { .. }
        | Record::Rekey { .. }
        | Record::RekeyAnswer { .. }
        | Record::Close(_)
        | Record::About { .. }
        | Record::Spray { .. }
        | Record::Knock { .. }
        | Record::KnockFor { .. }
        | Record::EchoAfter { .. }
        | Record::Unknown(_) => {}
    }
}
