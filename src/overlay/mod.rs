//! Layer 2: where inner packets go. Imports `base` and `ip`.
