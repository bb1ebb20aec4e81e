//! A whole node, and a peer with the right keys that means harm.
#![no_main]

#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/node.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    checks::insider(script);
});
