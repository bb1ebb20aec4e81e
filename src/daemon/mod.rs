//! Layer 5: the tokio shell that introduces core and edges to each other. Imports all above.
