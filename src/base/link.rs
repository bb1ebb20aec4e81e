//! How one datagram came, or is to leave.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::TrafficClass;

/// The two ends of a datagram in the underlay.
///
/// IPv4 addresses are always written as IPv4, never v4-mapped: make one with [`Link::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Address of this host, where known: a reply leaves from the address that was spoken to.
    pub local: Option<IpAddr>,
    /// Address and port of the other side.
    pub remote: SocketAddr,
    /// On the outer header. The default leaves it to the socket; of what came in, only the mark is known.
    pub class: TrafficClass,
    /// How many routers a datagram may pass; `None` leaves it to the host. A small one opens the way out of the own NAT and no further (PROTOCOL §12.4). Unknown of what came in.
    pub hop_limit: Option<u8>,
    /// Through which socket of this host: 0 for the common port, else an extra one, by its number (PROTOCOL §12.8).
    pub socket: u16,
}

impl Link {
    /// A link to or from `remote`, with v4-mapped addresses turned into IPv4.
    pub fn new(local: Option<IpAddr>, remote: SocketAddr) -> Self {
        Self {
            local: local.map(|ip| ip.to_canonical()),
            remote: canonical(remote),
            class: TrafficClass::default(),
            hop_limit: None,
            socket: 0,
        }
    }

    /// A link to `remote` from whichever address the host chooses.
    pub fn to(remote: SocketAddr) -> Self {
        Self::new(None, remote)
    }

    /// The same two ends for a datagram of class `class`.
    pub const fn bearing(self, class: TrafficClass) -> Self {
        Self { class, ..self }
    }

    /// The same two ends for a datagram that gets no further than `hops` routers.
    pub const fn within(self, hops: u8) -> Self {
        Self { hop_limit: Some(hops), ..self }
    }

    /// The same two ends by way of another socket of this host.
    pub const fn through(self, socket: u16) -> Self {
        Self { socket, ..self }
    }

    /// Whether a NAT would see the same two ends: the same place of the other side, and the same port of this one.
    pub fn is_same_way(self, other: Self) -> bool {
        (self.remote, self.socket) == (other.remote, other.socket)
    }

    /// The same two ends, without what the datagram said of the road.
    pub fn unmarked(self) -> Self {
        self.bearing(TrafficClass::default())
    }
}

/// `address` with a v4-mapped IP turned into IPv4, and without flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => {
                let mut v6 = v6;
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
    }
}

/// The 16-byte form of an address (PROTOCOL §1): IPv4 is v4-mapped.
pub fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
