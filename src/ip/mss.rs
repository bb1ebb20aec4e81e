//! The segment size that TCP announces when it opens a connection (RFC 9293 §3.7.1).

use super::packet::{IpPacket, protocol};

/// Headers before the segment, without options: what is subtracted from the MTU (RFC 6691).
const HEADERS_V4: usize = 40;
const HEADERS_V6: usize = 60;

/// Fixed part of a TCP header.
const TCP_HEADER: usize = 20;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const SYN: u8 = 0x02;
const CHECKSUM: usize = 16;

/// Option kinds.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const AUTHENTICATION: u8 = 29;

/// Whether `packet` is a SYN, or a SYN with ACK.
pub fn opens_connection(packet: &IpPacket<'_>) -> bool {
    packet.protocol() == protocol::TCP
        && !packet.is_fragment()
        && packet.upper().get(FLAGS).is_some_and(|flags| flags & SYN != 0)
}

/// A copy of `packet` that announces segments of a size with which packets are at most `mtu` bytes long.
///
/// `None` if there is nothing to change: it opens no connection, announces no size, or one that fits; and if its options are authenticated (RFC 5925), for then
/// its receiver would refuse it. The TCP checksum is updated, not computed (RFC 1624): a
/// damaged packet stays damaged.
pub fn clamp(packet: &IpPacket<'_>, mtu: usize) -> Option<Vec<u8>> {
    if !opens_connection(packet) {
        return None;
    }
    let headers = if packet.src().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
    let fitting = u16::try_from(mtu.checked_sub(headers)?).ok()?;
    let tcp = packet.upper();
    let at = segment_size(tcp)?;
    let announced = u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]);
    if announced <= fitting {
        return None;
    }
    let checksum = u16::from_be_bytes([*tcp.get(CHECKSUM)?, *tcp.get(CHECKSUM + 1)?]);
    // At an odd place the two bytes belong to two words; a sum of ones' complement does not mind in which order bytes are summed, if it is the same for all.
    let word = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
    let checksum = updated(checksum, word(announced), word(fitting));
    let mut copy = packet.bytes().to_vec();
    let start = copy.len() - tcp.len();
    copy[start + at..start + at + 2].copy_from_slice(&fitting.to_be_bytes());
    copy[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(copy)
}

/// Where the announced size stands in a TCP header.
fn segment_size(tcp: &[u8]) -> Option<usize> {
    let end = usize::from(*tcp.get(DATA_OFFSET)? >> 4) * 4;
    let header = tcp.get(..end)?;
    let (mut at, mut size) = (TCP_HEADER, None);
    while at < end && header[at] != END {
        if header[at] == NO_OPERATION {
            at += 1;
            continue;
        }
        let length = header.get(at + 1).map_or(0, |&length| length.into());
        // Shorter than its own header, it would never end; longer than the header, it is cut off.
        if length < 2 || at + length > end {
            break;
        }
        match header[at] {
            SEGMENT_SIZE if length == 4 => size = size.or(Some(at + 2)),
            AUTHENTICATION => return None,
            _ => {}
        }
        at += length;
    }
    size
}

/// The checksum after one word has changed (RFC 1624, equation 3).
pub(super) fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TcpSlice, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    /// A TCP packet with these flags and options as they are, and a right checksum.
    fn tcp(v6: bool, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let options = [options, &vec![0; options.len().next_multiple_of(4) - options.len()]].concat();
        if v6 {
            let [src, dst] = [[0xfd; 16], [0xfe; 16]];
            let builder = PacketBuilder::ipv6(src, dst, 64).tcp(1000, 2000, 7, 8);
            builder.options_raw(&options).unwrap().write(&mut packet, payload).unwrap();
        } else {
            let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1000, 2000, 7, 8);
            builder.options_raw(&options).unwrap().write(&mut packet, payload).unwrap();
        }
        let start = if v6 { 40 } else { 20 };
        packet[start + FLAGS] = flags;
        let sum = computed(&packet);
        packet[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn slice(packet: &[u8]) -> TcpSlice<'_> {
        let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(packet).unwrap().transport else { panic!() };
        tcp
    }

    /// The checksum as another implementation computes it over all.
    fn computed(packet: &[u8]) -> u16 {
        let (tcp, ip) = (slice(packet), IpPacket::parse(packet).unwrap());
        match (ip.src(), ip.dst()) {
            (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
                tcp.calc_checksum_ipv4(src.octets(), dst.octets()).unwrap()
            }
            (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
                tcp.calc_checksum_ipv6(src.octets(), dst.octets()).unwrap()
            }
            _ => panic!(),
        }
    }

    fn clamped(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
        clamp(&IpPacket::parse(packet).unwrap(), mtu)
    }

    proptest! {
        #[test]
        fn a_larger_size_is_lowered_wherever_it_stands_and_nothing_else_changes(
            v6 in any::<bool>(), ack in any::<bool>(), announced in any::<u16>(), mtu in 576..9000_usize, padding in 0..8_usize,
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut options = vec![NO_OPERATION; padding];
            let [high, low] = announced.to_be_bytes();
            options.extend([SEGMENT_SIZE, 4, high, low, 3, 3, 7]);
            let packet = tcp(v6, SYN | if ack { 0x10 } else { 0 }, &options, &payload);
            let fitting = mtu - if v6 { 60 } else { 40 };
            let Some(changed) = clamped(&packet, mtu) else {
                prop_assert!(usize::from(announced) <= fitting);
                return Ok(());
            };
            prop_assert!(usize::from(announced) > fitting);
            prop_assert_eq!(computed(&changed), slice(&changed).checksum());
            let at = packet.len() - slice(&packet).slice().len() + TCP_HEADER + padding + 2;
            prop_assert_eq!(&changed[at..at + 2], &(fitting as u16).to_be_bytes());
            let start = if v6 { 40 } else { 20 };
            let mut restored = changed.clone();
            for place in [at, at + 1, start + CHECKSUM, start + CHECKSUM + 1] {
                restored[place] = packet[place];
            }
            prop_assert_eq!(restored, packet);
            prop_assert_eq!(clamped(&changed, mtu), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 20..120), mtu in 0..70_000_usize) {
            let len = bytes.len() as u16;
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            (bytes[6], bytes[7], bytes[9]) = (0, 0, protocol::TCP);
            if let Some(flags) = bytes.get_mut(20 + FLAGS) {
                *flags |= SYN;
            }
            if let Some(changed) = clamped(&bytes, mtu) {
                prop_assert_eq!(changed.len(), bytes.len());
            }
        }
    }

    #[test]
    fn only_what_opens_a_connection_and_announces_a_size_is_changed() {
        let size = [SEGMENT_SIZE, 4, 0x05, 0xb4];
        assert!(clamped(&tcp(false, SYN, &size, &[]), 1280).is_some());
        assert_eq!(clamped(&tcp(false, 0x10, &size, &[]), 1280), None, "an acknowledgement");
        assert_eq!(clamped(&tcp(false, SYN, &[], &[]), 1280), None, "no options");
        for cut in [[SEGMENT_SIZE, 0, 5, 0xb4], [SEGMENT_SIZE, 3, 5, 0xb4], [SEGMENT_SIZE, 40, 5, 0xb4], [9, 1, 1, 1]] {
            assert_eq!(clamped(&tcp(false, SYN, &cut, &[]), 1280), None, "{cut:?}");
        }
        assert_eq!(clamped(&tcp(false, SYN, &[END, NO_OPERATION, SEGMENT_SIZE, 4, 5, 0xb4], &[]), 1280), None);
        let authenticated = [&size[..], &[29, 4, 0, 0]].concat();
        assert_eq!(clamped(&tcp(false, SYN, &authenticated, &[]), 1280), None, "its options are authenticated");
        let signed = [&size[..], &[19, 18], &[29; 16]].concat();
        assert!(clamped(&tcp(false, SYN, &signed, &[]), 1280).is_some(), "MD5 leaves the options out");
        let mut fragment = tcp(false, SYN, &size, &[]);
        fragment[6] = 0x20;
        assert_eq!(clamped(&fragment, 1280), None, "a fragment");
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2).write(&mut packet, &[2; 40]).unwrap();
        assert_eq!(clamped(&packet, 1280), None, "not TCP");
    }
}
