//! Layer 4: files to values. Imports `base`, `crypto` and `overlay`.
