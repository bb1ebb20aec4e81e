//! IP packets that are larger than the path: cut into parts and put together again (PROTOCOL §11.2).
//!
//! Nothing is repeated: a packet of which a part is lost is lost. [`Reassembly`] keeps what is incomplete for a short while, within fixed bounds, the
//! oldest making room.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::send::relax;
use crate::wire::Frame;

/// The most parts of a packet.
const MAX_COUNT: usize = 64;
/// The longest packet.
const MAX_PACKET: usize = 65535;
/// Incomplete packets of a session.
const MAX_INCOMPLETE: usize = 64;
/// Bytes that they may hold together, bookkeeping included.
const ROOM: usize = 256 << 10;
/// What the books count for a packet, and for each of its parts, beside the bytes.
const ENTRY_COST: usize = 64;
const PART_COST: usize = size_of::<Box<[u8]>>();
/// How long an incomplete packet is kept.
const LIFETIME: Duration = Duration::from_secs(2);

// A packet of the largest size and count can always be put together.
const _: () = assert!(MAX_PACKET + ENTRY_COST + MAX_COUNT * PART_COST < ROOM);

/// Cuts packets, and numbers them for a session.
#[derive(Debug, Default)]
pub struct Splitter {
    next: u32,
}

impl Splitter {
    /// The part frames of `packet` on `channel`, none with more than `limit` bytes of data; `None` as with [`split`].
    pub fn cut<'a>(
        &mut self,
        channel: u8,
        packet: &'a [u8],
        limit: usize,
    ) -> Option<impl ExactSizeIterator<Item = Frame<'a>> + use<'a>> {
        let sizes = split(packet.len(), limit)?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
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
    if !(2..=MAX_COUNT).contains(&count) || length > MAX_PACKET {
        return None;
    }
    // `count` is at most 64, so the products stay small.
    Some((0..count).map(move |index| index * length / count..(index + 1) * length / count))
}

/// Why a part was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartFault {
    /// Its count is not 2 to 64, its index not below the count, or it is empty.
    Malformed,
    /// Its count differs from that of the first part of the packet.
    CountDiffers,
    /// The part is there already.
    Duplicate,
    /// The packet would be longer than 65535 bytes; all of it is dropped.
    TooLong,
}

/// The parts of one packet that have arrived.
#[derive(Debug)]
struct Incomplete {
    number: u32,
    expires: Instant,
    /// By index; an empty one is missing.
    parts: Box<[Box<[u8]>]>,
    missing: usize,
    length: usize,
}

impl Incomplete {
    fn cost(&self) -> usize {
        ENTRY_COST + self.parts.len() * PART_COST + self.length
    }
}

/// Puts the packets of one session together.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// The oldest first.
    incomplete: VecDeque<Incomplete>,
    held: usize,
    given_up: u64,
}

impl Reassembly {
    /// Nothing has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the fields of one part frame; returns the packet that it completes. Whether that is well formed remains to be seen (PROTOCOL §11.3).
    ///
    /// # Errors
    /// The part was dropped, for counting.
    pub fn on_part(
        &mut self,
        now: Instant,
        number: u32,
        index: u8,
        count: u8,
        data: &[u8],
    ) -> Result<Option<Vec<u8>>, PartFault> {
        self.handle_timeout(now);
        let (index, count) = (usize::from(index), usize::from(count));
        if !(2..=MAX_COUNT).contains(&count) || index >= count || data.is_empty() {
            return Err(PartFault::Malformed);
        }
        let found = self.incomplete.iter().position(|packet| packet.number == number);
        if let Some(packet) = found.and_then(|found| self.incomplete.get(found)) {
            if packet.parts.len() != count {
                return Err(PartFault::CountDiffers);
            }
            if packet.parts.get(index).is_some_and(|part| !part.is_empty()) {
                return Err(PartFault::Duplicate);
            }
        }
        // The one that grows is taken out meanwhile: room is never made at its own expense.
        let taken = found.and_then(|found| self.incomplete.remove(found).map(|packet| (found, packet)));
        let (mut place, mut packet) = taken.unwrap_or_else(|| {
            let parts = vec![Box::default(); count].into();
            let fresh = Incomplete { number, expires: now + LIFETIME, parts, missing: count, length: 0 };
            (self.incomplete.len(), fresh)
        });
        if found.is_some() {
            self.held -= packet.cost();
        }
        if packet.length + data.len() > MAX_PACKET {
            self.given_up += 1;
            return Err(PartFault::TooLong);
        }
        if let Some(part) = packet.parts.get_mut(index) {
            *part = data.into();
            packet.missing -= 1;
            packet.length += data.len();
        }
        if packet.missing == 0 {
            relax(&mut self.incomplete);
            return Ok(Some(packet.parts.concat()));
        }
        while self.incomplete.len() >= MAX_INCOMPLETE || self.held + packet.cost() > ROOM {
            if !self.give_up_oldest() {
                break;
            }
            place = place.saturating_sub(1);
        }
        self.held += packet.cost();
        self.incomplete.insert(place, packet);
        Ok(None)
    }

    /// Gives up what has waited for its other parts too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.deadline().is_some_and(|expires| expires <= now) {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) -> bool {
        let Some(oldest) = self.incomplete.pop_front() else { return false };
        self.held -= oldest.cost();
        self.given_up += 1;
        relax(&mut self.incomplete);
        true
    }

    /// When [`Reassembly::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.incomplete.front().map(|packet| packet.expires)
    }

    /// How many packets were begun and never completed since this was asked last.
    pub const fn take_given_up(&mut self) -> u64 {
        std::mem::replace(&mut self.given_up, 0)
    }
}
