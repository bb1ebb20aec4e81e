//! The envelope around everything secret (PROTOCOL §2.4); opening it is the business of whoever has the key.

use super::cursor::{DecodeError, Reader};
use super::packet::{VERSION, kind};
use crate::base::SessionIndex;

/// Bytes before the ciphertext; they are the associated data of the seal.
pub const HEADER: usize = 14;

/// Bytes of the tag behind the ciphertext.
pub const TAG: usize = 16;

/// The longest plaintext that every path carries.
pub const MAX_PLAINTEXT: usize = 1198;

/// The longest datagram that every path carries: 1276 bytes with IPv6 and UDP headers.
pub const MAX_DATAGRAM: usize = HEADER + MAX_PLAINTEXT + TAG;

/// The shortest plaintext: a packet is at least its version and type.
const MIN_PLAINTEXT: usize = 2;

/// What stands in the clear before the ciphertext.
///
/// ```text
///  0      1      2         6            14
///  | ver  | 0x10 | idx 4   | counter 8  | ciphertext and tag
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedHeader {
    /// `idx`: by which the receiver finds the session.
    pub index: SessionIndex,
    /// Number of the packet under its key.
    pub counter: u64,
}

impl SealedHeader {
    /// Reads what follows version and type, and checks that a plaintext and its tag can stand behind it.
    pub(super) fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let index = SessionIndex(reader.u32("index")?);
        let counter = reader.u64("counter")?;
        reader.take(MIN_PLAINTEXT + TAG, "ciphertext and tag")?;
        Ok(Self { index, counter })
    }

    /// The first bytes of the packet.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = VERSION;
        header[1] = kind::SEALED;
        header[2..6].copy_from_slice(&self.index.0.to_be_bytes());
        header[6..14].copy_from_slice(&self.counter.to_be_bytes());
        header
    }
}
