//! Any control record: one that decodes is encoded to the same bytes.
#![no_main]

#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/wire.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::record(bytes));
