//! A set of numbers kept as disjoint ranges, for what arrived out of order.

use std::collections::BTreeMap;

/// Disjoint, not adjacent, half-open ranges.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds one number; the caller knows that it is not yet in the set.
    pub(super) fn insert(&mut self, number: u64) {
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before == number => *before = end,
            Some(_) | None => drop(self.0.insert(number, end)),
        }
    }

    /// Takes out the range that begins at `number`, and returns its end.
    pub(super) fn take_at(&mut self, number: u64) -> Option<u64> {
        self.0.remove(&number)
    }

    /// At most `limit` ranges in ascending order, those around `newest` where there are more.
    pub(super) fn around(&self, newest: u64, limit: usize) -> Vec<(u64, u64)> {
        let below = self.0.range(..=newest).rev().take(limit).count();
        let above = self.0.range(newest.saturating_add(1)..).take(limit).count();
        let above = above.min(limit.saturating_sub(below).max(limit / 2));
        let below = below.min(limit - above);
        let mut ranges: Vec<_> = self.0.range(..=newest).rev().take(below).map(|(first, end)| (*first, *end)).collect();
        ranges.reverse();
        ranges.extend(self.0.range(newest.saturating_add(1)..).take(above).map(|(first, end)| (*first, *end)));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn oracle(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some((_, end)) if end == number => *end += 1,
                Some(_) | None => ranges.push((*number, number + 1)),
            }
        }
        ranges
    }

    proptest! {
        #[test]
        fn ranges_are_the_runs_of_the_set(numbers in proptest::collection::vec(0u64..200, 0..150), newest in 0u64..200) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                if set.insert(number) {
                    ranges.insert(number);
                }
            }
            let all = oracle(&set);
            prop_assert_eq!(&ranges.around(newest, 1000), &all);
            let some = ranges.around(newest, 8);
            prop_assert_eq!(some.len(), all.len().min(8));
            prop_assert!(all.windows(some.len().max(1)).any(|window| window == some) || some.is_empty());
            if let Some(own) = all.iter().find(|(first, end)| (*first..*end).contains(&newest)) {
                prop_assert!(some.contains(own));
            }
            if let Some((first, end)) = all.first() {
                prop_assert_eq!(ranges.take_at(*first), Some(*end));
                prop_assert_eq!(ranges.around(newest, 1000).len(), all.len() - 1);
            }
        }
    }
}
