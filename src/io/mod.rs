//! Layer 5: the Linux edges. Imports `base` and `ip`; knows no protocol.
//!
//! - [`tun`]: the overlay interface, packet by packet;
//! - [`udp`]: the underlay, datagrams in batches;
//! - [`offload`]: many packets as one, and apart again;
//! - [`netlink`]: addresses, routes and rules of the interface, and those that the host has besides;
//! - [`multicast`]: neighbours on the same link;
//! - [`poller`]: waiting, for threads without a runtime;
//! - [`portmap`]: a port that the router forwards;
//! - [`resolve`]: names to addresses;
//! - [`alarm`]: a deadline that passes during suspend too.

pub mod alarm;
pub mod multicast;
pub mod netlink;
pub mod offload;
pub mod poller;
pub mod portmap;
pub mod resolve;
pub mod tun;
pub mod udp;

mod readiness;

/// The firewall mark on every datagram of this program.
///
/// The routing rule of the overlay matches everything *but* this mark, so that a sealed datagram never enters the tunnel again, not even where the
/// prefixes of a peer cover its own endpoint.
pub const MARK: u32 = 0x4866;
