//! Two whole nodes, and a script that owns the line between them.
#![no_main]

#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/node.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|script: &[u8]| checks::pair(script));
