//! Reliable channels, parts of large packets, packing: what travels inside one session.
