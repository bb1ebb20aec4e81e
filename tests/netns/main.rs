//! Real daemons in network namespaces: programs talk through them, and the underlay loses, delays, forges, replays, moves and ends.
//!
//! Every test builds a lab of its own (`support::lab`) and may run beside the others. Without root or `/dev/net/tun` the tests say so and do nothing; with
//! `HANDFAST_NETNS=required` in the environment they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail like tests"
)]
#![allow(clippy::disallowed_methods, reason = "the world outside runs by the clock of the wall")]
#![allow(unreachable_pub, missing_docs, reason = "the modules of a test have no users outside")]

mod class;
mod commands;
mod fragments;
mod gateway;
mod hostile;
mod life;
mod link;
mod loss;
mod narrow;
mod nat;
mod natlab;
mod offload;
mod paths;
mod portmap;
mod reach;
mod support;
mod wire;
