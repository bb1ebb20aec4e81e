//! What a relay gives each member, as it tells it (PROTOCOL §12.2), and what that is worth beside its round trip (§8.7).

use std::time::Duration;

/// Bytes a second at exponent 0, and the transfer by which two relays are compared.
const UNIT: u64 = 64 << 10;
/// It stands in the upper half of the flags of *about*.
const SHIFT: u32 = 4;
const MAX: u8 = 15;

/// 2^exponent times 64 KiB a second, at least; exponents are 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity(u8);

impl Capacity {
    /// More than matters: of who has not said it, nothing better is known.
    pub(crate) const AMPLE: Self = Self(MAX);

    pub(crate) fn of(bytes_per_second: u64) -> Self {
        Self((bytes_per_second / UNIT).checked_ilog2().map_or(0, |exponent| exponent.min(MAX.into()) as u8))
    }

    pub(crate) const fn from_flags(flags: u8) -> Self {
        Self(flags >> SHIFT)
    }

    pub(crate) const fn flags(self) -> u8 {
        self.0 << SHIFT
    }

    pub(crate) const fn bytes_per_second(self) -> u64 {
        UNIT << self.0
    }

    /// How long it takes to get 64 KiB through, besides the round trip.
    pub(crate) const fn delay(self) -> Duration {
        Duration::from_micros(1_000_000 >> self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_promises_more_than_there_is_and_at_least_half_of_it() {
        for rate in [UNIT, 125_000, 1_000_000, 12_500_000, 125_000_000, 2_000_000_000] {
            let told = Capacity::of(rate).bytes_per_second();
            assert!(told <= rate && rate < told * 2, "{rate} {told}");
        }
        assert_eq!(Capacity::of(0), Capacity::of(UNIT), "less cannot be told");
        assert_eq!(Capacity::of(u64::MAX), Capacity::AMPLE, "more cannot be told");
    }

    #[test]
    fn it_survives_the_wire_beside_other_flags() {
        for flags in 0..=u8::MAX {
            assert_eq!(Capacity::from_flags(flags).flags(), flags & 0xf0);
        }
        for rate in [0, 1_000_000, u64::MAX] {
            assert_eq!(Capacity::from_flags(Capacity::of(rate).flags() | 0x03), Capacity::of(rate));
        }
    }

    #[test]
    fn twice_as_much_takes_half_as_long() {
        assert_eq!(Capacity::of(UNIT).delay(), Duration::from_secs(1));
        assert_eq!(Capacity::of(UNIT * 2).delay(), Duration::from_millis(500));
        assert_eq!(Capacity::of(UNIT * 1024).delay(), Duration::from_micros(976));
    }
}
