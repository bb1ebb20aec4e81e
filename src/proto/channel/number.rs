//! How message numbers are written on the wire (PROTOCOL §10): counted without end in here, modulo 2^32 - 1 plus one out there.

const MODULUS: u64 = u32::MAX as u64;

/// The wire form of `number`; never 0.
pub(super) const fn write(number: u64) -> u32 {
    (number % MODULUS) as u32 + 1
}

/// The number nearest to `near` whose wire form is `written`; `None` for 0 and for what would lie before the first number.
pub(super) const fn read(written: u32, near: u64) -> Option<u64> {
    if written == 0 {
        return None;
    }
    let ahead = (written as u64 - 1 + MODULUS - near % MODULUS) % MODULUS;
    if ahead <= MODULUS / 2 { near.checked_add(ahead) } else { near.checked_sub(MODULUS - ahead) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_numbers_no_message() {
        assert_eq!(write(0), 1);
        assert_eq!(write(MODULUS - 1), u32::MAX);
        assert_eq!(write(MODULUS), 1);
        assert_eq!(read(0, 5), None);
    }

    #[test]
    fn there_is_nothing_before_the_first_message() {
        assert_eq!(read(u32::MAX, 0), None);
        assert_eq!(read(u32::MAX, MODULUS), Some(MODULUS - 1));
    }

    proptest! {
        #[test]
        fn a_number_is_read_back_within_half_the_circle(near in 0..u64::MAX / 2, away in -(MODULUS as i64 / 2)..=MODULUS as i64 / 2) {
            let number = near.checked_add_signed(away);
            prop_assume!(number.is_some());
            prop_assert_eq!(read(write(number.unwrap()), near), number);
        }
    }
}
