//! Layer 1: keys, AEAD, key schedule, replay window, cookies. Imports `base`.
