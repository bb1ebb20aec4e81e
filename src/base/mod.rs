//! Layer 0: the vocabulary that every other layer speaks. Imports nothing of the crate.

pub mod id;
pub mod link;
pub mod rng;
pub mod sink;

pub use id::{PeerId, PeerIndex, SessionIndex};
pub use link::{Ecn, Link};
pub use rng::Rng;
pub use sink::{TunSink, TxSink};
