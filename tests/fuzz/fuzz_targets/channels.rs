//! A peer that says anything: the reliable channels keep their bounds, their timers and their peace.
#![no_main]

#[path = "../../checks/channels.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::channels(bytes));
