//! Layer 1: looking at the IP packets inside the tunnel. Imports `base`.
