//! Layer 6: the command line. Imports `control`, `config`, `crypto` and `daemon`.
