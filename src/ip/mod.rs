//! Layer 1: looking at the IP packets inside the tunnel. Imports `base`.

pub mod checksum;
pub mod icmp;
pub mod packet;

pub use packet::{IpError, IpPacket};
