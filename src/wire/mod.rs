//! Layer 2: bytes to values and back. Imports `base`.
