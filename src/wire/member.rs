//! What members tell each other of themselves and of others: the bodies of control records 0x06 to 0x09 (PROTOCOL §12.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::cursor::{DecodeError, Reader};
use crate::base::PeerId;
use crate::base::link::{canonical, mapped};

/// Entries in one page of a peers list, at most: with them it stays well below a control record's limit, and two pages fit the control channel.
pub const PAGE: usize = 32;
/// Keys in one question, at most.
pub const MAX_KEYS: usize = 16;
/// Addresses that a member tells of itself, at most.
pub const MAX_CANDIDATES: usize = 16;

/// Tags of members that are not to knock, at most.
pub const MAX_TAGS: usize = 32;

/// Bytes of an entry.
const ENTRY: usize = 32 + 18 + 1 + 16;
/// Bytes of a candidate.
const CANDIDATE: usize = 18 + 1;

/// One member, as another one knows it. A hint: it makes nobody a member, and no address true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub id: PeerId,
    /// Where the sender of the list sees it, or where it says that it is; unspecified if it is not connected.
    pub address: SocketAddr,
    /// The sender has a session with it.
    pub connected: bool,
    /// It relays.
    pub relays: bool,
    /// The address is its own claim.
    pub claimed: bool,
    /// The nonce that it gave out last; zeros if none.
    pub nonce: [u8; 16],
}

const CONNECTED: u8 = 0x01;
const RELAYS: u8 = 0x02;
const CLAIMED: u8 = 0x04;

/// More entries have changed than are in this page.
pub const MORE: u8 = 0x01;
/// The list answers a question for single members.
pub const FOUND: u8 = 0x02;

/// Entries, where they lie in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if !bytes.len().is_multiple_of(ENTRY) || bytes.len() > PAGE * ENTRY {
            return Err(DecodeError::Value("entries"));
        }
        Ok(Self(bytes))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + use<'a> {
        self.0.chunks_exact(ENTRY).filter_map(|chunk| entry(chunk).ok())
    }

    /// As they lie.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut reader = Reader::new(bytes);
    let id = PeerId(*reader.array("key")?);
    let address = address(&mut reader)?;
    let flags = reader.u8("flags")?;
    let nonce = *reader.array("nonce")?;
    let has = |flag| flags & flag != 0;
    Ok(Entry { id, address, connected: has(CONNECTED), relays: has(RELAYS), claimed: has(CLAIMED), nonce })
}

/// The bytes of up to [`PAGE`] entries.
pub fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len().min(PAGE) * ENTRY);
    for entry in entries.iter().take(PAGE) {
        bytes.extend_from_slice(entry.id.as_bytes());
        put_address(&mut bytes, entry.address);
        let flag = |set, flag| if set { flag } else { 0 };
        bytes.push(flag(entry.connected, CONNECTED) | flag(entry.relays, RELAYS) | flag(entry.claimed, CLAIMED));
        bytes.extend_from_slice(&entry.nonce);
    }
    bytes
}

/// Keys of members, where they lie in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a>(&'a [u8]);

impl<'a> Keys<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(32) || bytes.len() > MAX_KEYS * 32 {
            return Err(DecodeError::Value("keys"));
        }
        Ok(Self(bytes))
    }

    /// As they lie.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = PeerId> + use<'a> {
        self.0.as_chunks::<32>().0.iter().map(|key| PeerId(*key))
    }

    /// As they lie.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// Tags of members (PROTOCOL §12.6), where they lie in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    /// None.
    pub const EMPTY: Self = Self(&[]);

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if !bytes.len().is_multiple_of(8) || bytes.len() > MAX_TAGS * 8 {
            return Err(DecodeError::Value("tags"));
        }
        Ok(Self(bytes))
    }

    /// As they lie; what is beyond [`MAX_TAGS`] is left out.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.get(..MAX_TAGS * 8).unwrap_or(bytes))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.0.as_chunks::<8>().0.iter().map(|tag| u64::from_be_bytes(*tag))
    }

    /// As they lie.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// How a member knows an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// 0: an interface has it.
    Local,
    /// 1: another member sees it there.
    Observed,
    /// 2: a router forwards it.
    Mapped,
}

/// Addresses of the sender, where they lie in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates<'a>(&'a [u8]);

impl<'a> Candidates<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if !bytes.len().is_multiple_of(CANDIDATE) || bytes.len() > MAX_CANDIDATES * CANDIDATE {
            return Err(DecodeError::Value("candidates"));
        }
        if bytes.chunks_exact(CANDIDATE).any(|chunk| candidate(chunk).is_err()) {
            return Err(DecodeError::Value("kind"));
        }
        Ok(Self(bytes))
    }

    /// As they lie.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, Source)> + use<'a> {
        self.0.chunks_exact(CANDIDATE).filter_map(|chunk| candidate(chunk).ok())
    }

    /// As they lie.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn candidate(bytes: &[u8]) -> Result<(SocketAddr, Source), DecodeError> {
    let mut reader = Reader::new(bytes);
    let address = address(&mut reader)?;
    let source = match reader.u8("kind")? {
        0 => Source::Local,
        1 => Source::Observed,
        2 => Source::Mapped,
        _ => return Err(DecodeError::Value("kind")),
    };
    Ok((address, source))
}

/// The bytes of up to [`MAX_CANDIDATES`] candidates.
pub fn encode_candidates(candidates: &[(SocketAddr, Source)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(candidates.len().min(MAX_CANDIDATES) * CANDIDATE);
    for &(address, source) in candidates.iter().take(MAX_CANDIDATES) {
        put_address(&mut bytes, address);
        bytes.push(match source {
            Source::Local => 0,
            Source::Observed => 1,
            Source::Mapped => 2,
        });
    }
    bytes
}

/// `address 16 | port 2`; IPv4 is v4-mapped (PROTOCOL §1).
pub(super) fn address(reader: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let ip = Ipv6Addr::from(*reader.array::<16>("address")?);
    Ok(canonical(SocketAddr::new(IpAddr::V6(ip), reader.u16("port")?)))
}

pub(super) fn put_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    bytes.extend_from_slice(&mapped(address.ip()).octets());
    bytes.extend_from_slice(&address.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn socket(number: u16, v6: bool) -> SocketAddr {
        let ip = if v6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number))
        } else {
            [192, 0, 2, number as u8].into()
        };
        SocketAddr::new(ip, number)
    }

    proptest! {
        #[test]
        fn entries_come_out_as_they_went_in(given in prop::collection::vec((any::<u16>(), any::<u8>()), 0..=PAGE)) {
            let entries: Vec<Entry> = given.iter().map(|&(number, flags)| Entry {
                id: PeerId([flags; 32]),
                address: socket(number, flags & 1 != 0),
                connected: flags & 2 != 0,
                relays: flags & 4 != 0,
                claimed: flags & 8 != 0,
                nonce: [flags; 16],
            }).collect();
            let bytes = encode_entries(&entries);
            prop_assert_eq!(Entries::decode(&bytes).unwrap().iter().collect::<Vec<_>>(), entries);
        }

        #[test]
        fn candidates_come_out_as_they_went_in(given in prop::collection::vec((any::<u16>(), 0..3_usize), 0..=MAX_CANDIDATES)) {
            let candidates: Vec<(SocketAddr, Source)> = given.iter().map(|&(number, source)| {
                (socket(number, number % 2 == 0), [Source::Local, Source::Observed, Source::Mapped][source])
            }).collect();
            let bytes = encode_candidates(&candidates);
            prop_assert_eq!(Candidates::decode(&bytes).unwrap().iter().collect::<Vec<_>>(), candidates);
        }
    }

    #[test]
    fn what_is_too_long_or_cut_is_refused() {
        assert!(Entries::decode(&[0; ENTRY * PAGE + ENTRY]).is_err());
        assert!(Entries::decode(&[0; ENTRY - 1]).is_err());
        assert!(Keys::decode(&[]).is_err());
        assert!(Keys::decode(&[0; 32 * MAX_KEYS + 32]).is_err());
        assert!(Candidates::decode(&[0; CANDIDATE * MAX_CANDIDATES + CANDIDATE]).is_err());
        assert!(Candidates::decode(&[3; CANDIDATE]).is_err(), "a kind that is not defined");
        assert!(Tags::decode(&[0; 7]).is_err());
        assert!(Tags::decode(&[0; 8 * MAX_TAGS + 8]).is_err());
        assert_eq!(Tags::new(&[0; 8 * MAX_TAGS + 8]).iter().count(), MAX_TAGS);
    }
}
