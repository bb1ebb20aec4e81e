//! Where the core writes bytes. The edges implement these; the core never learns what is behind them.

use super::Link;

/// Takes datagrams for the underlay.
pub trait TxSink {
    /// Makes room for `len` bytes towards `link` and lets `fill` write all of them in place.
    ///
    /// The room may be the tail of a larger batch and holds arbitrary bytes before. A sink that is full drops the datagram and counts it: it never
    /// blocks and never grows without bound.
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8]));
}

/// Takes IP packets for the overlay interface.
pub trait TunSink {
    /// Hands over one whole, checked IP packet.
    fn deliver(&mut self, packet: &[u8]);
}
