//! Layer 1: keys, AEAD, key schedule, replay window, cookies. Imports `base`.
//!
//! The primitives come from outside and stand behind one file each; what they are combined into stands in [`schedule`]. Nothing here knows a
//! packet layout, a socket or a clock.

pub mod aead;
pub mod cookie;
mod hash;
pub mod kem;
pub mod keys;
pub mod mesh;
pub mod replay;
pub mod schedule;
pub mod secret;

pub use aead::{Authentic, Cipher, OpenKey, SealKey, TxCounter, TxNonce};
pub use cookie::CookieJar;
pub use hash::equal;
pub use kem::KemSecret;
pub use keys::{EphemeralSecret, IdentitySecret, Label, SignatureValid};
pub use replay::ReplayWindow;
pub use schedule::{Chain, Epoch0, EpochKeys, Halves, Net, Role, Transcript};
pub use secret::Secret;

/// The bytes that `text` stands for.
#[cfg(test)]
fn hex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}
