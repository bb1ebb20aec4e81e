//! The header in front of every packet of a TUN device with `IFF_VNET_HDR`: `struct virtio_net_hdr` (`linux/virtio_net.h`).

/// What the kernel says, or is told, about one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CHECKSUM`] and others.
    pub flags: u8,
    /// See [`VnetHeader::gso`].
    pub gso_type: u8,
    /// A hint how long the headers are. The kernel writes what it likes, so it is never believed.
    pub header_len: u16,
    /// Payload of each piece but the last, in bytes.
    pub gso_size: u16,
    /// From where to the end of the packet the checksum goes, if it is still to be computed.
    pub checksum_start: u16,
    /// Where it is to be written, counted from there; until then, the sum of the pseudo-header is written there.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Length of the header in bytes.
    pub const LEN: usize = 10;

    /// A packet that is complete and in one piece.
    pub const PLAIN: Self =
        Self { flags: 0, gso_type: 0, header_len: 0, gso_size: 0, checksum_start: 0, checksum_offset: 0 };

    /// Flag: the checksum is still to be computed.
    pub const NEEDS_CHECKSUM: u8 = 1;

    /// Bit of the type: TCP with CWR, which only the first piece keeps.
    pub(super) const ECN: u8 = 0x80;

    /// Reads a header; the device uses the byte order of the host.
    pub const fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let &[flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        Self {
            flags,
            gso_type,
            header_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// Takes the header off what was read from the device; `None` if that is shorter.
    pub fn split(read: &[u8]) -> Option<(Self, &[u8])> {
        let (header, packet) = read.split_first_chunk()?;
        Some((Self::parse(header), packet))
    }

    /// The bytes of the header.
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Whether the checksum is still to be computed.
    pub const fn needs_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CHECKSUM != 0
    }

    /// What the packet is to be cut into; `None` for a type that was not asked for, such as fragments of UDP (UFO).
    pub const fn gso(&self) -> Option<Gso> {
        match self.gso_type & !Self::ECN {
            0 => Some(Gso::None),
            1 => Some(Gso::Tcpv4),
            4 => Some(Gso::Tcpv6),
            5 => Some(Gso::Udp),
            _ => None,
        }
    }
}

/// What a super packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// It is none.
    None,
    /// TCP segments over IPv4.
    Tcpv4,
    /// TCP segments over IPv6.
    Tcpv6,
    /// UDP datagrams over either.
    Udp,
}

impl Gso {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Tcpv4 => 1,
            Self::Tcpv6 => 4,
            Self::Udp => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_the_kernel_lays_it_out() {
        let mut bytes = vec![1, 0x81];
        for number in [66_u16, 1448, 20, 16] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(b"packet");
        let (header, packet) = VnetHeader::split(&bytes).unwrap();
        let expected = VnetHeader {
            flags: 1,
            gso_type: 0x81,
            header_len: 66,
            gso_size: 1448,
            checksum_start: 20,
            checksum_offset: 16,
        };
        assert_eq!((header, packet), (expected, &b"packet"[..]));
        assert!(header.needs_checksum());
        assert_eq!(header.gso(), Some(Gso::Tcpv4));
        assert_eq!(header.encode(), bytes[..10]);
        assert_eq!(VnetHeader::split(&bytes[..9]), None);
        assert_eq!(VnetHeader::PLAIN.encode(), [0; 10]);
    }

    #[test]
    fn fragments_of_udp_and_unknown_types_are_none() {
        for number in 0..=u8::MAX {
            let gso = VnetHeader { gso_type: number, ..VnetHeader::PLAIN }.gso();
            assert_eq!(gso.is_some(), [0, 1, 4, 5].contains(&(number & 0x7f)), "{number}");
            assert!(gso.is_none_or(|gso| gso.number() == number & 0x7f));
        }
    }
}
