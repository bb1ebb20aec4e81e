//! Anything that is read from the TUN device: it is refused, or its pieces arrive as they were.
#![no_main]

#[path = "../../checks/offload.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::offload(bytes));
