//! Handfast: a serverless, post-quantum mesh VPN for Linux.
//!
//! The five-minute tour, from the bottom up; imports only ever point down:
//!
//! - [`base`]: the words every layer uses: peer ids, links, sinks, the random generator;
//! - [`crypto`]: keys, AEAD, key schedule, replay window, cookies; [`ip`]: the packets inside the tunnel;
//! - [`wire`]: bytes to values and back; [`overlay`]: where inner packets go;
//! - [`envelope`]: sealing and opening, from any thread;
//! - [`proto`]: the protocol core, deterministic, without input or output;
//! - [`io`], [`config`], [`control`]: the edges: TUN and UDP, files, the control socket;
//! - [`dataplane`]: the threads that carry bulk data;
//! - [`daemon`]: the shell that introduces core and edges to each other; [`cli`]: the command line.

pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod dataplane;
pub mod envelope;
pub mod io;
pub mod ip;
pub mod overlay;
pub mod proto;
pub mod wire;
