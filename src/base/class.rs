//! The byte of an IP header that says how the packet is to be treated: *type of service* in IPv4, *traffic class* in IPv6.

/// Explicit congestion notification field of an IP header (RFC 3168), in the order of severity: a tunnel never makes a mark weaker (RFC 6040 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct,
    /// ECN-capable, codepoint 0.
    Ect0,
    /// ECN-capable, codepoint 1.
    Ect1,
    /// Congestion experienced.
    Ce,
}

impl Ecn {
    /// From the lowest two bits of a byte.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0b00,
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }
}

/// Six bits that choose a treatment (DSCP, RFC 2474), and two for congestion. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficClass(u8);

impl TrafficClass {
    /// As it stands in a header.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// From both fields; of `dscp`, the lowest six bits.
    pub const fn new(dscp: u8, ecn: Ecn) -> Self {
        Self(dscp << 2 | ecn.bits())
    }

    /// As it is written in a header.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Differentiated services codepoint, 0 to 63.
    pub const fn dscp(self) -> u8 {
        self.0 >> 2
    }

    /// The mark.
    pub const fn ecn(self) -> Ecn {
        Ecn::from_bits(self.0)
    }
}

/// Which codepoint the outer header bears (PROTOCOL §11.6). The mark is always that of the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterDscp {
    /// The same on every datagram.
    Fixed(u8),
    /// That of the packets inside; 0 where there are none.
    Copy,
}

impl OuterDscp {
    /// The class of a datagram that carries packets of class `inner`.
    pub const fn outer(self, inner: TrafficClass) -> TrafficClass {
        match self {
            Self::Fixed(dscp) => TrafficClass::new(dscp, inner.ecn()),
            Self::Copy => inner,
        }
    }

    /// The class of a datagram without IP packets, and of one of reliable channels.
    pub const fn own(self) -> TrafficClass {
        self.outer(TrafficClass::from_byte(0))
    }
}

impl Default for OuterDscp {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_codepoint_and_a_mark() {
        for byte in 0..=u8::MAX {
            let class = TrafficClass::from_byte(byte);
            assert_eq!((class.dscp(), class.ecn().bits()), (byte >> 2, byte & 3));
            assert_eq!(TrafficClass::new(class.dscp(), class.ecn()), class);
            assert_eq!(class.byte(), byte);
        }
    }

    #[test]
    fn the_codepoint_is_copied_on_request_alone_and_the_mark_always() {
        let inner = TrafficClass::new(46, Ecn::Ect0);
        assert_eq!(OuterDscp::Copy.outer(inner), inner);
        assert_eq!(OuterDscp::default().outer(inner), TrafficClass::new(0, Ecn::Ect0));
        assert_eq!(OuterDscp::Fixed(8).outer(inner), TrafficClass::new(8, Ecn::Ect0));
        let own = [OuterDscp::Copy, OuterDscp::default(), OuterDscp::Fixed(8)].map(OuterDscp::own);
        assert_eq!(own.map(TrafficClass::byte), [0, 0, 8 << 2]);
    }
}
