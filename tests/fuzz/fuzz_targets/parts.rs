//! Any parts: what comes together is in order, and nothing stays longer than it may.
#![no_main]

#[path = "../../checks/parts.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::parts(bytes));
