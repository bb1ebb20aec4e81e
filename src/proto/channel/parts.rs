//! Putting IP packets together again that came in parts (PROTOCOL §11.2).
//!
//! Nothing is repeated: a packet of which a part is lost is lost. [`Reassembly`] keeps what is incomplete for a short while, within fixed bounds, the
//! oldest making room.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::send::relax;
use crate::base::Ecn;
use crate::envelope::MAX_PARTS;

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
const _: () = assert!(MAX_PACKET + ENTRY_COST + MAX_PARTS * PART_COST < ROOM);

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
    /// The strongest of all parts.
    mark: Ecn,
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

    /// Takes the fields of one part frame, and the mark of its datagram; returns the packet that it completes, and the strongest mark of all its parts (PROTOCOL §11.6). Whether that is well formed remains to be seen (PROTOCOL §11.3).
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
        mark: Ecn,
    ) -> Result<Option<(Vec<u8>, Ecn)>, PartFault> {
        self.handle_timeout(now);
        let (index, count) = (usize::from(index), usize::from(count));
        if !(2..=MAX_PARTS).contains(&count) || index >= count || data.is_empty() {
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
            let fresh = Incomplete { number, expires: now + LIFETIME, parts, missing: count, length: 0, mark };
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
            packet.mark = packet.mark.max(mark);
        }
        if packet.missing == 0 {
            relax(&mut self.incomplete);
            return Ok(Some((packet.parts.concat(), packet.mark)));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::base::Rng;
    use crate::envelope::{Splitter, split};
    use crate::wire::Frame;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a virtual clock")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn packet(tag: u32, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at as u32).wrapping_mul(tag | 1).to_le_bytes()[1]).collect()
    }

    /// Number, index, count and data of each part.
    fn cut(splitter: &Splitter, packet: &[u8], limit: usize) -> Vec<(u32, u8, u8, Vec<u8>)> {
        let parts = splitter.cut(128, packet, limit).unwrap();
        let fields = parts.map(|frame| {
            let Frame::Part { channel: 128, number, index, count, data } = frame else { panic!("{frame:?}") };
            (number, index, count, data.to_vec())
        });
        fields.collect()
    }

    #[test]
    fn what_fits_is_not_cut_and_what_would_need_too_many_parts_neither() {
        assert!(split(1000, 1000).is_none());
        assert_eq!(split(1001, 1000).unwrap().collect::<Vec<_>>(), [0..500, 500..1001]);
        assert_eq!(split(64_000, 1000).unwrap().len(), 64);
        assert!(split(64_001, 1000).is_none());
        assert!(split(65_536, 2000).is_none());
        assert!(split(10, 0).is_none());
        assert!(split(0, 10).is_none());
        assert!(split(usize::MAX, 2).is_none());
    }

    #[test]
    fn each_packet_gets_a_number_of_its_own() {
        let splitter = Splitter::starting_at(u32::MAX);
        assert_eq!(cut(&splitter, &packet(1, 30), 20)[1].0, u32::MAX);
        assert!(splitter.cut(128, &packet(1, 20), 20).is_none());
        assert_eq!(cut(&splitter, &packet(1, 30), 20)[1].0, 0);
    }

    #[test]
    fn parts_that_make_no_sense_are_dropped() {
        let (now, mut reassembly) = (epoch(), Reassembly::new());
        for (index, count, data) in [(0, 0, 1), (0, 1, 1), (2, 2, 1), (0, 65, 1), (255, 255, 1), (0, 2, 0)] {
            assert_eq!(
                reassembly.on_part(now, 1, index, count, &vec![0; data], Ecn::NotEct),
                Err(PartFault::Malformed)
            );
        }
        assert_eq!(reassembly.deadline(), None);
        assert_eq!(reassembly.on_part(now, 1, 0, 3, &[1], Ecn::NotEct), Ok(None));
        assert_eq!(reassembly.on_part(now, 1, 1, 2, &[2], Ecn::NotEct), Err(PartFault::CountDiffers));
        assert_eq!(reassembly.on_part(now, 1, 0, 3, &[9], Ecn::NotEct), Err(PartFault::Duplicate));
        assert_eq!(reassembly.on_part(now, 1, 2, 3, &[3], Ecn::NotEct), Ok(None));
        assert_eq!(reassembly.on_part(now, 1, 1, 3, &[2], Ecn::NotEct), Ok(Some((vec![1, 2, 3], Ecn::NotEct))));
        assert_eq!((reassembly.deadline(), reassembly.held), (None, 0));
    }

    #[test]
    fn a_packet_that_grows_too_long_goes_as_a_whole() {
        let (now, mut reassembly) = (epoch(), Reassembly::new());
        assert_eq!(reassembly.on_part(now, 1, 0, 3, &vec![0; 40_000], Ecn::NotEct), Ok(None));
        assert_eq!(reassembly.on_part(now, 1, 1, 3, &vec![0; 25_536], Ecn::NotEct), Err(PartFault::TooLong));
        assert_eq!((reassembly.deadline(), reassembly.held, reassembly.given_up), (None, 0, 1));
    }

    #[test]
    fn the_strongest_mark_of_the_parts_is_that_of_the_packet_whatever_their_order() {
        let rows = [
            ([Ecn::NotEct, Ecn::NotEct, Ecn::NotEct], Ecn::NotEct),
            ([Ecn::Ect0, Ecn::Ect0, Ecn::Ect0], Ecn::Ect0),
            ([Ecn::Ect0, Ecn::Ect1, Ecn::Ect0], Ecn::Ect1),
            ([Ecn::Ce, Ecn::Ect0, Ecn::Ect0], Ecn::Ce),
            ([Ecn::Ect1, Ecn::Ce, Ecn::NotEct], Ecn::Ce),
            ([Ecn::NotEct, Ecn::Ect0, Ecn::Ce], Ecn::Ce),
        ];
        for ((marks, expected), number) in rows.into_iter().zip(0..) {
            for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
                let (now, mut reassembly, mut whole) = (epoch(), Reassembly::new(), None);
                for index in order {
                    whole = reassembly.on_part(now, number, index, 3, &[1], marks[usize::from(index)]).unwrap();
                }
                assert_eq!(whole, Some((vec![1, 1, 1], expected)), "{marks:?}");
            }
        }
    }

    #[test]
    fn an_incomplete_packet_is_given_up_after_two_seconds() {
        let (now, mut reassembly) = (epoch(), Reassembly::new());
        reassembly.on_part(now, 1, 0, 2, &[1], Ecn::NotEct).unwrap();
        let later = now + Duration::from_secs(1);
        reassembly.on_part(later, 2, 0, 3, &[1], Ecn::NotEct).unwrap();
        reassembly.on_part(later, 2, 1, 3, &[1], Ecn::NotEct).unwrap();
        assert_eq!(reassembly.deadline(), Some(now + LIFETIME));
        reassembly.handle_timeout(now + LIFETIME);
        assert_eq!(reassembly.deadline(), Some(later + LIFETIME));
        assert_eq!(
            reassembly.on_part(later + LIFETIME, 2, 2, 3, &[1], Ecn::NotEct),
            Ok(None),
            "its other parts are gone"
        );
        assert_eq!(reassembly.given_up, 2);
    }

    #[test]
    fn the_oldest_makes_room_and_never_the_one_that_grows() {
        let (now, mut reassembly) = (epoch(), Reassembly::new());
        for number in 0..100 {
            reassembly.on_part(now, number, 0, 2, &[1], Ecn::NotEct).unwrap();
        }
        assert_eq!((reassembly.incomplete.len(), reassembly.given_up), (64, 36));
        assert_eq!(reassembly.on_part(now, 36, 1, 2, &[2], Ecn::NotEct), Ok(Some((vec![1, 2], Ecn::NotEct))));

        let mut reassembly = Reassembly::new();
        for index in 0..55 {
            for number in 0..40 {
                reassembly.on_part(now, number, index, 56, &[7; 1170], Ecn::NotEct).unwrap();
                assert!(reassembly.held <= ROOM);
                assert!(reassembly.incomplete.iter().any(|packet| packet.number == number));
            }
        }
        assert_eq!(reassembly.held, reassembly.incomplete.iter().map(Incomplete::cost).sum::<usize>());
    }

    proptest! {
        #[test]
        fn parts_are_as_equal_as_can_be_and_cover_the_packet(length in 0usize..70_000, limit in 1usize..1300) {
            match split(length, limit) {
                None => prop_assert!(length <= limit || length > 64 * limit || length > MAX_PACKET),
                Some(parts) => {
                    let parts: Vec<_> = parts.collect();
                    prop_assert!(parts.iter().flat_map(Clone::clone).eq(0..length));
                    let least = parts.iter().map(ExactSizeIterator::len).min().unwrap();
                    let most = parts.iter().map(ExactSizeIterator::len).max().unwrap();
                    prop_assert!(most <= limit && most - least <= 1);
                    prop_assert_eq!(parts.len(), length.div_ceil(limit));
                }
            }
        }

        /// The oracle keeps everything, and forgets by the clock alone; so few packets are under way that no room must be made.
        #[test]
        fn packets_come_together_whatever_the_road_does_to_their_parts(
            seed: u64,
            lengths in proptest::collection::vec(50usize..20_000, 1..20),
            limit in 320usize..1185,
            loss in 0u32..20,
        ) {
            let (mut now, mut rng, splitter) = (epoch(), Rng::from_number(seed), Splitter::default());
            let packets: Vec<_> = lengths.iter().zip(0..).map(|(length, tag)| packet(tag, *length)).collect();
            let mut parts = Vec::new();
            for part in packets.iter().filter(|packet| packet.len() > limit).flat_map(|packet| cut(&splitter, packet, limit)) {
                let copies = if rng.below(100) < loss { 0 } else { 1 + usize::from(rng.below(10) == 0) };
                parts.extend(vec![part; copies]);
            }
            for at in (1..parts.len()).rev() {
                // Reordered, but not over the whole time, so that some packets expire and some do not.
                parts.swap(at, at - rng.below(at.min(60) as u32 + 1) as usize);
            }
            let mut reassembly = Reassembly::new();
            let mut oracle: BTreeMap<u32, (Instant, BTreeMap<u8, Vec<u8>>)> = BTreeMap::new();
            for (number, index, count, data) in parts {
                now += Duration::from_millis(rng.below(60).into());
                oracle.retain(|_, (begun, _)| now < *begun + LIFETIME);
                let (_, have) = oracle.entry(number).or_insert_with(|| (now, BTreeMap::new()));
                let expected = match have.insert(index, data.clone()) {
                    Some(_) => Err(PartFault::Duplicate),
                    None if have.len() < count.into() => Ok(None),
                    None => Ok(Some((have.values().flatten().copied().collect(), Ecn::NotEct))),
                };
                if matches!(expected, Ok(Some(_))) {
                    oracle.remove(&number);
                }
                let deadline = oracle.values().map(|(begun, _)| *begun + LIFETIME).min();
                prop_assert_eq!(reassembly.on_part(now, number, index, count, &data, Ecn::NotEct), expected);
                prop_assert_eq!(reassembly.deadline(), deadline);
            }
        }

        #[test]
        fn no_parts_whatever_break_the_bounds(
            parts in proptest::collection::vec((0u32..90, 0u8..66, 0u8..66, 0usize..3000, 0u64..100), 0..400),
        ) {
            let (mut now, mut reassembly) = (epoch(), Reassembly::new());
            for (number, index, count, length, pause) in parts {
                now += Duration::from_millis(pause);
                let _ = reassembly.on_part(now, number, index, count, &vec![1; length], Ecn::NotEct);
                prop_assert!(reassembly.held <= ROOM && reassembly.incomplete.len() <= MAX_INCOMPLETE);
                prop_assert_eq!(reassembly.held, reassembly.incomplete.iter().map(Incomplete::cost).sum::<usize>());
                prop_assert!(reassembly.deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }
}
