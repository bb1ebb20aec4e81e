//! Super packets: up to 64 KiB that cross the TUN device in one system call and travel as pieces.
//!
//! A device with `IFF_VNET_HDR` gives and takes packets with a [`VnetHeader`] in front, which says of which length the pieces are and that the TCP or UDP
//! checksum is still to be computed. [`plan`] cuts what was read; a [`Coalescer`] makes the writes at the other end. Neither does input or output, or allocates.
//!
//! A checksum that nobody has computed yet need not be computed by us: between two peers that both know how, it is left *partial*. Its field is zero, and the
//! kernel of the receiver is told that the packet was protected otherwise. A checksum that came with the packet is carried to the end, right or wrong.

mod coalesce;
mod header;
#[cfg(test)]
mod sample;
mod split;
mod vnet;

pub use coalesce::{Capabilities, Coalescer, MAX_PIECES};
pub use split::{Checksum, Plan, SplitError, plan};
pub use vnet::{Gso, VnetHeader};
