//! Scenarios that need to look inside.

use std::time::Instant;

/// Some moment; tests only ever add to it.
#[expect(clippy::disallowed_methods, reason = "tests need one arbitrary moment to start from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

mod collisions;
mod epochs;
mod first_contact;
mod half_open;
mod hostile;
mod marks;
pub(crate) mod measuring;
mod overlap;
pub(crate) mod pair;
mod path_mtu;
mod reliable;
mod silence;
