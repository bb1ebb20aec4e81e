//! Layer 3: the protocol core, without input or output. Imports `base`, `crypto`, `ip`, `wire`, `overlay`.

pub mod channel;
