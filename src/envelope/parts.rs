//! Cutting IP packets that are larger than a datagram (PROTOCOL §11.2).

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wire::Frame;

/// The most parts of a packet.
pub const MAX_PARTS: usize = 64;
/// The longest packet.
const MAX_PACKET: usize = 65535;

/// Cuts packets, and numbers them for a session.
#[derive(Debug, Default)]
pub struct Splitter {
    next: AtomicU32,
}

impl Splitter {
    /// The next packet has this number, for tests of what follows the last one.
    pub const fn starting_at(next: u32) -> Self {
        Self { next: AtomicU32::new(next) }
    }

    /// The part frames of `packet` on `channel`, none with more than `limit` bytes of data; `None` as with [`split`].
    pub fn cut<'a>(
        &self,
        channel: u8,
        packet: &'a [u8],
        limit: usize,
    ) -> Option<impl ExactSizeIterator<Item = Frame<'a>> + use<'a>> {
        let sizes = split(packet.len(), limit)?;
        // Wraps.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let count = sizes.len() as u8;
        Some(sizes.enumerate().map(move |(index, range)| Frame::Part {
            channel,
            number,
            index: index as u8,
            count,
            data: &packet[range],
        }))
    }
}

/// Where to cut a packet of `length` bytes so that no part is longer than `limit` and all are as equal as can be.
///
/// `None` if one part would do, 64 would not, or the packet is longer than 65535 bytes.
pub fn split(length: usize, limit: usize) -> Option<impl ExactSizeIterator<Item = Range<usize>> + use<>> {
    let count = length.checked_add(limit.checked_sub(1)?)? / limit;
    if !(2..=MAX_PARTS).contains(&count) || length > MAX_PACKET {
        return None;
    }
    // `count` is at most 64, so the products stay small.
    Some((0..count).map(move |index| index * length / count..(index + 1) * length / count))
}
