//! What the tests are written with.

pub mod capture;
pub mod delay;
pub mod intruder;
pub mod lab;
pub mod namespace;
pub mod nat;
pub mod natlab;
pub mod node;
pub mod programs;
pub mod recording;
pub mod site;
pub mod status;
pub mod steady;
pub mod ticks;
pub mod traffic;

use std::io::Write as _;
use std::time::{Duration, Instant};

/// The UDP port of every node.
pub const PORT: u16 = 18502;

/// Whether `condition` becomes true within `limit`.
pub fn becomes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `condition` holds; fails with `what` when it does not within `limit`.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(becomes_true(limit, condition), "not within {limit:?}: {what}");
}

/// Shorthand for the limits of the tests.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Says something to who runs the tests, even where the harness keeps the output of tests to itself.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
