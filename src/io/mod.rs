//! Layer 4: the Linux edges. Imports `base` and `ip`; knows no protocol.
//!
//! - [`tun`]: the overlay interface, packet by packet;
//! - [`offload`]: super packets of the overlay interface, cut and put together;
//! - [`udp`]: the underlay, datagrams in batches;
//! - [`netlink`]: addresses, routes and rules of the interface;
//! - [`resolve`]: names to addresses;
//! - [`alarm`]: a deadline that passes during suspend too.

pub mod alarm;
pub mod netlink;
pub mod offload;
pub mod resolve;
pub mod tun;
pub mod udp;

mod readiness;

/// The firewall mark on every datagram of this program.
///
/// The routing rule of the overlay matches everything *but* this mark, so that a sealed datagram never enters the tunnel again, not even where the
/// prefixes of a peer cover its own endpoint.
pub const MARK: u32 = 0x4866;
