//! Inner IP packets, made up and then spoilt: `IpPacket` and etherparse say the same about them.

#[path = "checks/inner_ip.rs"]
mod checks;

use handfast::ip::IpPacket;
use proptest::prelude::*;

/// An extension header: its number, and its bytes with a next-header field still to be filled in.
fn extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let raw = (prop_oneof![Just(43_u8), Just(60)], 0..4_u8, any::<u8>()).prop_map(|(number, units, fill)| {
        let mut header = vec![fill; 8 + 8 * usize::from(units)];
        header[1] = units;
        (number, header)
    });
    let authentication = (1..8_u8, any::<u8>()).prop_map(|(units, fill)| {
        let mut header = vec![fill; (usize::from(units) + 2) * 4];
        header[1] = units;
        (51, header)
    });
    let fragment = (prop_oneof![3 => Just(0_u16), 1 => any::<u16>()], any::<bool>()).prop_map(|(offset, more)| {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        (44, vec![0, 0, high, low, 1, 2, 3, 4])
    });
    prop_oneof![2 => raw, 1 => authentication, 1 => fragment]
}

/// An upper-layer protocol and its bytes; 4-in-6 and 6-in-4 among them.
fn upper() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let number =
        prop_oneof![Just(6_u8), Just(17), Just(33), Just(132), Just(136), Just(58), Just(1), Just(59), any::<u8>()];
    let plain = (number, prop::collection::vec(any::<u8>(), 0..64));
    let tunnelled = any::<bool>().prop_map(|inner_is_v6| {
        if inner_is_v6 { (41, v6(false, &[], (17, vec![9; 8]), 0)) } else { (4, v4(&[], (17, vec![9; 8]), 0, 0)) }
    });
    prop_oneof![5 => plain, 1 => tunnelled]
}

fn v4(options: &[u8], (number, payload): (u8, Vec<u8>), fragment: u16, class: u8) -> Vec<u8> {
    let header_len = 20 + options.len();
    let [high, low] = ((header_len + payload.len()) as u16).to_be_bytes();
    let [f1, f2] = fragment.to_be_bytes();
    let fixed = [0x40 | (header_len / 4) as u8, class, high, low, 0, 1, f1, f2, 64, number, 0, 0];
    [&fixed[..], &[10, 1, 2, 3, 10, 4, 5, 6], options, &payload].concat()
}

fn v6(hop_by_hop: bool, extensions: &[(u8, Vec<u8>)], (number, payload): (u8, Vec<u8>), class: u8) -> Vec<u8> {
    let mut chain = extensions.to_vec();
    if hop_by_hop {
        chain.insert(0, (0, vec![0, 0, 1, 4, 0, 0, 0, 0]));
    }
    let mut numbers: Vec<u8> = chain.iter().map(|(number, _)| *number).collect();
    numbers.push(number);
    let mut body = Vec::new();
    for ((_, mut header), next) in chain.into_iter().zip(&numbers[1..]) {
        header[0] = *next;
        body.extend(header);
    }
    body.extend(payload);
    let [high, low] = (body.len() as u16).to_be_bytes();
    let addresses: [u8; 32] = std::array::from_fn(|at| at as u8);
    [&[0x60 | class >> 4, class << 4, 0, 0, high, low, numbers[0], 64][..], &addresses, &body].concat()
}

fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![2 => Just(0_u16), 1 => any::<u16>()];
    let options = (0..=10_usize).prop_map(|words| vec![1; words * 4]);
    prop_oneof![
        (options, upper(), fragment, any::<u8>())
            .prop_map(|(options, upper, fragment, class)| v4(&options, upper, fragment, class)),
        (any::<bool>(), prop::collection::vec(extension(), 0..5), upper(), any::<u8>())
            .prop_map(|(hop_by_hop, extensions, upper, class)| v6(hop_by_hop, &extensions, upper, class)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_well_formed_packet_is_accepted_and_seen_as_the_reference_sees_it(bytes in well_formed()) {
        prop_assert!(IpPacket::parse(&bytes).is_ok());
        checks::inner_ip(&bytes);
    }

    #[test]
    fn a_packet_that_lies_is_refused_or_seen_as_the_reference_sees_it(
        bytes in well_formed(), lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes;
        for (at, lie) in lies {
            *at.get_mut(&mut bytes) = lie;
        }
        checks::inner_ip(&bytes);
    }

    #[test]
    fn a_packet_that_is_cut_with_its_length_made_right_is_seen_as_the_reference_sees_it(
        bytes in well_formed(), at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes;
        bytes.truncate(at.index(bytes.len() + 1));
        let len = bytes.len();
        if len >= 40 && bytes[0] >> 4 == 6 {
            bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else if len >= 20 && bytes[0] >> 4 == 4 {
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        checks::inner_ip(&bytes);
    }

    #[test]
    fn a_wrong_length_is_always_refused(bytes in well_formed(), extra in 1..9_usize, shorter: bool) {
        let mut bytes = bytes;
        let len = bytes.len();
        bytes.resize(if shorter { len - extra } else { len + extra }, 0);
        prop_assert!(IpPacket::parse(&bytes).is_err());
    }
}
