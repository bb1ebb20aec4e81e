//! Layer 4: the local administration protocol. Imports `base` and `config`.
