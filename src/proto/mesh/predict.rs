//! Foretelling where a NAT that counts its ports will put the next mapping (PROTOCOL §12.4).
//!
//! A symmetric NAT takes another port for each destination. Some take the next one each time: two or three places that see the same host at different ports tell the step, and a few pings
//! ahead of the last port meet the mapping that the host's own ping makes.

use std::net::SocketAddr;

/// Ports ahead of the last one that are tried: whatever else the host does meanwhile uses some up.
const AHEAD: u16 = 8;
/// The largest step that is taken for one.
const LARGEST_STEP: u16 = 8;
/// Ports that lie further apart were not given out one after another.
const LARGEST_SPAN: u16 = 64;

/// Where a host that was seen at these addresses will be seen next, if its router counts.
pub(super) fn next_ports(seen: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut next = Vec::new();
    for (position, address) in seen.iter().enumerate() {
        let is_first = !seen.iter().take(position).any(|other| other.ip() == address.ip());
        let ports: Vec<u16> =
            seen.iter().filter(|other| is_first && other.ip() == address.ip()).map(SocketAddr::port).collect();
        if let Some((last, step)) = counting(&ports) {
            let ahead = (1..=AHEAD).map_while(|count| last.checked_add(step * count));
            next.extend(ahead.map(|port| SocketAddr::new(address.ip(), port)));
        }
    }
    next
}

/// The last of ports that were given out one after another, and the distance between two.
pub(super) fn counting(ports: &[u16]) -> Option<(u16, u16)> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let (first, last) = (*ports.first()?, *ports.last()?);
    let step = ports.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?)).min()?;
    (step <= LARGEST_STEP && last - first <= LARGEST_SPAN && (last - first) % step == 0).then_some((last, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([192, 0, 2, 1], *port))).collect()
    }

    #[test]
    fn ports_that_follow_each_other_foretell_the_next_ones() {
        let ports = |known: &[u16]| next_ports(&seen(known)).iter().map(SocketAddr::port).collect::<Vec<_>>();
        assert_eq!(ports(&[40_001, 40_000]), [40_002, 40_003, 40_004, 40_005, 40_006, 40_007, 40_008, 40_009]);
        assert_eq!(ports(&[5000, 5002, 5006])[..2], [5008, 5010]);
        assert!(ports(&[65_534, 65_535]).is_empty());
    }

    #[test]
    fn one_port_and_random_ports_foretell_nothing() {
        for known in [&[][..], &[40_000], &[40_000, 40_000], &[40_000, 51_234], &[1000, 1001, 9000]] {
            assert_eq!(next_ports(&seen(known)), [], "{known:?}");
        }
        // Each address counts for itself.
        let two = [SocketAddr::from(([192, 0, 2, 1], 5000)), SocketAddr::from(([192, 0, 2, 2], 5001))];
        assert_eq!(next_ports(&two), []);
    }
}
