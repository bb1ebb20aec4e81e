//! The rest of a data packet behind its type: its frames are written to the same bytes.
#![no_main]

#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/wire.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::frames(bytes));
