//! What sealing and opening one datagram costs, for each cipher: `cargo bench --bench cipher`.
//!
//! The least of several rounds is shown: on a shared machine it is the figure that says most about the code.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a benchmark prints and reads the clock"
)]

use std::hint::black_box;
use std::time::Instant;

use handfast::crypto::aead::{Cipher, OpenKey, SealKey, TAG_LEN, TxCounter, hardware_prefers_aes};
use handfast::crypto::secret::Secret;

const LENGTHS: [usize; 4] = [64, 1198, 1442, 8942];
const BATCH: usize = 256;
const ROUNDS: usize = 60;
const HEADER: [u8; 14] = [1; 14];

fn main() {
    println!("AES-256-GCM is {}fast on this hardware", if hardware_prefers_aes() { "" } else { "not " });
    println!("{:<20} {:>6} {:>9} {:>9}", "cipher", "bytes", "seal, ns", "open, ns");
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        for length in LENGTHS {
            let [seal, open] = measure(cipher, length);
            println!("{:<20} {length:>6} {seal:>9.0} {open:>9.0}", format!("{cipher:?}"));
        }
    }
}

/// Nanoseconds for one datagram with a plaintext of `length` bytes: sealed, and opened.
fn measure(cipher: Cipher, length: usize) -> [f64; 2] {
    let secret = Secret::fill(|bytes: &mut [u8; 32]| bytes.fill(7));
    let (seal, open, counter) = (SealKey::new(cipher, &secret), OpenKey::new(cipher, &secret), TxCounter::new());
    let mut datagrams = vec![vec![0; length + TAG_LEN]; BATCH];
    let mut least = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        let first = counter.sealed();
        let begun = Instant::now();
        for datagram in &mut datagrams {
            seal.seal(counter.next().expect("a fresh key"), &HEADER, black_box(datagram));
        }
        let sealed = Instant::now();
        for (datagram, counter) in datagrams.iter_mut().zip(first..) {
            open.open(counter, &HEADER, black_box(datagram)).expect("what was just sealed");
        }
        let opened = Instant::now();
        for (least, time) in least.iter_mut().zip([sealed - begun, opened - sealed]) {
            *least = least.min(time.as_secs_f64() * 1e9 / BATCH as f64);
        }
    }
    least
}
