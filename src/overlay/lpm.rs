//! Longest prefix match.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A map from IP prefixes to values, asked for the longest prefix that contains an address.
///
/// IPv4 and IPv6 are apart: a v4-mapped address matches IPv6 prefixes only. Host bits of a prefix count for nothing. A look-up costs one search for
/// every prefix length in use, and there are few of those.
#[derive(Clone, Debug)]
pub struct Lpm<T> {
    v4: Family<T>,
    v6: Family<T>,
}

impl<T> Lpm<T> {
    /// A table without prefixes.
    pub const fn new() -> Self {
        Self { v4: Family(BTreeMap::new()), v6: Family(BTreeMap::new()) }
    }

    /// Sets the value of `prefix` and returns the former one.
    pub fn insert(&mut self, prefix: IpNet, value: T) -> Option<T> {
        let family = match prefix {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        };
        let len = prefix.prefix_len();
        family.0.entry(Reverse(len)).or_default().insert(head(prefix.addr(), len), value)
    }

    /// Removes `prefix` and returns its value.
    pub fn remove(&mut self, prefix: IpNet) -> Option<T> {
        let family = match prefix {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        };
        let len = prefix.prefix_len();
        let prefixes = family.0.get_mut(&Reverse(len))?;
        let value = prefixes.remove(&head(prefix.addr(), len));
        if prefixes.is_empty() {
            // Otherwise every look-up would go on searching this length.
            family.0.remove(&Reverse(len));
        }
        value
    }

    /// The value of exactly `prefix`.
    pub fn get(&self, prefix: IpNet) -> Option<&T> {
        let len = prefix.prefix_len();
        self.family(prefix.addr()).0.get(&Reverse(len))?.get(&head(prefix.addr(), len))
    }

    /// The value of the longest prefix that contains `address`.
    pub fn longest(&self, address: IpAddr) -> Option<&T> {
        self.family(address).0.iter().find_map(|(Reverse(len), prefixes)| prefixes.get(&head(address, *len)))
    }

    const fn family(&self, address: IpAddr) -> &Family<T> {
        match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        }
    }
}

impl<T> Default for Lpm<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Prefixes of one IP version by length, the longest first, and then by their [`head`].
#[derive(Clone, Debug)]
struct Family<T>(BTreeMap<Reverse<u8>, BTreeMap<u128, T>>);

/// The first `len` bits of `address`, at the top of the number.
fn head(address: IpAddr, len: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    // The shift is by 128 for length 0, which has no bits to keep.
    bits & u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Addresses that differ in few bits, so that prefixes nest and collide.
    fn address() -> impl Strategy<Value = IpAddr> {
        let bits = prop_oneof![Just(0_u128), Just(u128::MAX), any::<u128>()];
        let flips = prop::collection::vec(0..128_u32, 0..3);
        (any::<bool>(), bits, flips).prop_map(|(v4, bits, flips)| {
            let bits = flips.iter().fold(bits & (0b1011 << 124 | 0b11), |bits, flip| bits ^ (1 << flip));
            if v4 { Ipv4Addr::from_bits((bits >> 96) as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
        })
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), any::<u8>()).prop_map(|(address, len)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, len % (longest + 1)).unwrap()
        })
    }

    /// The oracle: all prefixes in one list, looked through by what `ipnet` says about containment.
    #[derive(Default)]
    struct Linear(Vec<(IpNet, u32)>);

    impl Linear {
        fn remove(&mut self, prefix: IpNet) -> Option<u32> {
            let at = self.0.iter().position(|(known, _)| *known == prefix.trunc())?;
            Some(self.0.swap_remove(at).1)
        }

        fn insert(&mut self, prefix: IpNet, value: u32) -> Option<u32> {
            let former = self.remove(prefix);
            self.0.push((prefix.trunc(), value));
            former
        }

        fn longest(&self, address: IpAddr) -> Option<&u32> {
            let containing = self.0.iter().filter(|(prefix, _)| prefix.contains(&address));
            containing.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| value)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn it_agrees_with_a_linear_scan_after_every_change(
            changes in prop::collection::vec((prefix(), prop::option::weighted(0.7, any::<u32>())), 0..40),
            addresses in prop::collection::vec(address(), 20),
        ) {
            let (mut table, mut oracle) = (Lpm::new(), Linear::default());
            for (prefix, value) in changes {
                match value {
                    Some(value) => prop_assert_eq!(table.insert(prefix, value), oracle.insert(prefix, value)),
                    None => prop_assert_eq!(table.remove(prefix), oracle.remove(prefix)),
                }
                prop_assert_eq!(table.get(prefix).copied(), value);
                for address in addresses.iter().copied().chain([prefix.addr(), prefix.network(), prefix.broadcast()]) {
                    prop_assert_eq!(table.longest(address), oracle.longest(address));
                }
            }
        }
    }

    #[test]
    fn the_whole_internet_and_a_single_host_are_prefixes() {
        let mut table = Lpm::new();
        for prefix in ["0.0.0.0/0", "10.0.0.1/32", "::/0", "fd00::1/128"] {
            table.insert(prefix.parse().unwrap(), prefix);
        }
        for (address, expected) in [
            ("10.0.0.1", "10.0.0.1/32"),
            ("10.0.0.2", "0.0.0.0/0"),
            ("255.255.255.255", "0.0.0.0/0"),
            ("fd00::1", "fd00::1/128"),
            ("fd00::2", "::/0"),
        ] {
            assert_eq!(table.longest(address.parse().unwrap()), Some(&expected), "{address}");
        }
    }

    #[test]
    fn a_v4_mapped_address_is_not_an_ipv4_address() {
        let mut table = Lpm::new();
        table.insert("10.0.0.0/8".parse().unwrap(), ());
        assert_eq!(table.longest("::ffff:10.0.0.1".parse().unwrap()), None);
    }
}
