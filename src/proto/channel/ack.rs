//! The data field of an acknowledgement frame (PROTOCOL §10).

use std::time::Duration;

use super::number;

/// Bytes before the ranges.
const FIXED: usize = 4;
/// Bytes of one range.
const RANGE: usize = 8;
/// The most ranges that one frame names.
pub(super) const MAX_RANGES: usize = 32;
/// The longest field.
pub(super) const MAX_LENGTH: usize = FIXED + MAX_RANGES * RANGE;
/// The shortest field.
pub(super) const MIN_LENGTH: usize = FIXED;

/// What an acknowledgement frame says beside its ack number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    /// How many messages from the ack number on the receiver is ready to hold.
    pub(super) window: u16,
    /// Between the arrival of the newest message and the sending of this frame; whole milliseconds.
    pub(super) delay: Duration,
    /// What arrived beyond the ack number, ascending, ends exclusive.
    pub(super) ranges: Vec<(u64, u64)>,
}

impl Acknowledgement {
    /// Writes the field into `field`, with as many ranges as fit, and returns its length; `field` holds at least [`MIN_LENGTH`] bytes.
    pub(super) fn encode(&self, field: &mut [u8]) -> usize {
        let (fixed, rest) = field.split_at_mut(FIXED);
        // Rounded down: a delay that is too long would make the round trip look shorter than it is.
        let delay = u16::try_from(self.delay.as_millis()).unwrap_or(u16::MAX);
        fixed[..2].copy_from_slice(&self.window.to_be_bytes());
        fixed[2..].copy_from_slice(&delay.to_be_bytes());
        let mut length = FIXED;
        for (slot, (first, end)) in rest.chunks_exact_mut(RANGE).zip(self.ranges.iter().take(MAX_RANGES)) {
            slot[..4].copy_from_slice(&number::write(*first).to_be_bytes());
            slot[4..].copy_from_slice(&number::write(*end).to_be_bytes());
            length += RANGE;
        }
        length
    }

    /// Reads the field of a frame whose ack number is `ack`; `None` if it is malformed.
    pub(super) fn decode(field: &[u8], ack: u64) -> Option<Self> {
        let (fixed, rest) = field.split_first_chunk::<FIXED>()?;
        if rest.len() % RANGE != 0 || rest.len() / RANGE > MAX_RANGES {
            return None;
        }
        let [window_high, window_low, delay_high, delay_low] = *fixed;
        let mut ranges = Vec::with_capacity(rest.len() / RANGE);
        // The message at the ack number itself has not arrived, so no range may begin there.
        let mut least = ack.checked_add(1)?;
        for range in rest.chunks_exact(RANGE) {
            let (first, end) = range.split_first_chunk::<4>()?;
            let first = number::read(u32::from_be_bytes(*first), ack)?;
            let end = number::read(u32::from_be_bytes(end.try_into().ok()?), ack)?;
            if first < least || end <= first {
                return None;
            }
            ranges.push((first, end));
            least = end;
        }
        let window = u16::from_be_bytes([window_high, window_low]);
        let delay = Duration::from_millis(u16::from_be_bytes([delay_high, delay_low]).into());
        Some(Self { window, delay, ranges })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRAP: u64 = u32::MAX as u64;

    fn field(of: &Acknowledgement) -> Vec<u8> {
        let mut bytes = vec![0; MAX_LENGTH];
        let length = of.encode(&mut bytes);
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn a_field_has_the_layout_of_the_protocol() {
        let ack = Acknowledgement { window: 0x0102, delay: Duration::from_micros(3999), ranges: vec![(5, 7), (9, 10)] };
        assert_eq!(field(&ack), [1, 2, 0, 3, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0, 10, 0, 0, 0, 11]);
    }

    #[test]
    fn absurd_ranges_are_refused() {
        let bytes = |ranges: &[(u32, u32)]| {
            let mut bytes = vec![0, 1, 0, 0];
            for (first, end) in ranges {
                bytes.extend(first.to_be_bytes());
                bytes.extend(end.to_be_bytes());
            }
            bytes
        };
        let read = |ranges: &[(u32, u32)]| Acknowledgement::decode(&bytes(ranges), 10);
        assert!(read(&[(13, 14)]).is_some());
        assert!(read(&[(11, 14)]).is_none(), "the message at the ack number cannot have arrived");
        assert!(read(&[(9, 20)]).is_none(), "begins before the ack number");
        assert!(read(&[(14, 14)]).is_none(), "empty");
        assert!(read(&[(15, 13)]).is_none(), "backwards");
        assert!(read(&[(20, 22), (13, 14)]).is_none(), "descending");
        assert!(read(&[(13, 20), (15, 22)]).is_none(), "overlapping");
        assert!(read(&[(0, 20)]).is_none(), "no number");
        assert!(read(&[(13, 0)]).is_none(), "no number");
        assert!(read(&vec![(13, 14); 33]).is_none(), "too many");
        assert!(Acknowledgement::decode(&[0, 1, 0], 10).is_none(), "too short");
        assert!(Acknowledgement::decode(&[0; 9], 10).is_none(), "half a range");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(ack in WRAP - 300..WRAP + 300, window: u16, delay: u16,
                                      steps in proptest::collection::vec((1u64..50, 1u64..50), 0..=MAX_RANGES)) {
            let mut at = ack;
            let ranges = steps.iter().map(|(gap, length)| { let first = at + gap; at = first + length; (first, at) }).collect();
            let whole = Acknowledgement { window, delay: Duration::from_millis(delay.into()), ranges };
            prop_assert_eq!(Acknowledgement::decode(&field(&whole), ack), Some(whole));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, ack in 0..WRAP * 3) {
            if let Some(read) = Acknowledgement::decode(&bytes, ack) {
                prop_assert_eq!(field(&read), bytes);
            }
        }
    }
}
