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
