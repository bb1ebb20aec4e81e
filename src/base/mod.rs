//! Layer 0: the vocabulary that every other layer speaks. Imports nothing of the crate.

pub mod class;
pub mod dropped;
pub mod id;
pub mod link;
pub mod rng;
pub mod sink;

pub use class::{Ecn, OuterDscp, TrafficClass};
pub use dropped::{Dropped, Drops, SharedDrops};
pub use id::{PeerId, PeerIndex, SessionIndex};
pub use link::Link;
pub use rng::Rng;
pub use sink::{TunSink, TxSink};
