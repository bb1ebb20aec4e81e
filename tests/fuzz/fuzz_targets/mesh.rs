//! A whole node, and two members that say and carry whatever they like.
#![no_main]

#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/mesh.rs"]
mod mesh;
#[allow(dead_code, reason = "each target uses its part of the checks")]
#[path = "../../checks/node.rs"]
mod node;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    mesh::mesh(script);
});
