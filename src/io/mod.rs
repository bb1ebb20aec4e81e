//! Layer 4: the Linux edges. Imports `base` and `ip`; knows no protocol.
