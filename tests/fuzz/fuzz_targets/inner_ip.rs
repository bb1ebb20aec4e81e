//! Any inner packet: it is seen as etherparse sees it.
#![no_main]

#[path = "../../checks/inner_ip.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::inner_ip(bytes));
