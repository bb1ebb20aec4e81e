//! Which channel an inner packet takes.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use thiserror::Error;

use crate::ip::IpPacket;

/// The reliable channels for IP packets are 1 to 127, one per rule (PROTOCOL §9.2).
pub const MAX_RULES: usize = 127;

/// What a packet must look like; what is `None` is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowMatch {
    /// Upper-layer protocol number (IANA).
    pub protocol: Option<u8>,
    /// Source or destination port; a packet without ports does not match.
    pub ports: Option<RangeInclusive<u16>>,
    /// Source or destination address.
    pub prefix: Option<IpNet>,
    /// Differentiated services codepoint, 0 to 63.
    pub dscp: Option<u8>,
}

impl FlowMatch {
    /// Whether `packet` has everything that is asked for.
    pub fn matches(&self, packet: &IpPacket<'_>) -> bool {
        self.protocol.is_none_or(|protocol| protocol == packet.protocol())
            && self.dscp.is_none_or(|dscp| dscp == packet.dscp())
            && self.prefix.is_none_or(|prefix| prefix.contains(&packet.src()) || prefix.contains(&packet.dst()))
            && self.ports.as_ref().is_none_or(|range| {
                packet.ports().is_some_and(|(src, dst)| range.contains(&src) || range.contains(&dst))
            })
    }
}

/// More than [`MAX_RULES`] rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} channel rules, and there are channels for 127")]
pub struct TooManyRules(pub usize);

/// The rules that put flows on reliable channels, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct ChannelRules(Vec<FlowMatch>);

impl ChannelRules {
    /// Rule `i`, counted from 0, is for channel `i + 1`.
    ///
    /// # Errors
    /// [`TooManyRules`] if there is no channel for the last.
    pub fn new(rules: Vec<FlowMatch>) -> Result<Self, TooManyRules> {
        if rules.len() > MAX_RULES { Err(TooManyRules(rules.len())) } else { Ok(Self(rules)) }
    }

    /// The reliable channel of `packet`: that of the first rule that matches. `None` means that it goes unreliably.
    pub fn channel_for(&self, packet: &IpPacket<'_>) -> Option<u8> {
        (1..).zip(&self.0).find_map(|(channel, rule)| rule.matches(packet).then_some(channel))
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::ip::packet::protocol::{TCP, UDP};

    fn udp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), dscp: u8) -> Vec<u8> {
        let mut header = Ipv4Header::new(8, 64, IpNumber(UDP), src, dst).unwrap();
        header.dscp = dscp.try_into().unwrap();
        let mut packet = Vec::new();
        PacketBuilder::ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            .udp(ports.0, ports.1)
            .write(&mut packet, b"data")
            .unwrap();
        packet
    }

    #[test]
    fn a_rule_that_asks_for_nothing_matches_everything() {
        let packet = udp([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0);
        assert!(FlowMatch::default().matches(&IpPacket::parse(&packet).unwrap()));
    }

    #[test]
    fn a_rule_with_ports_does_not_match_a_packet_without() {
        let rule = FlowMatch { ports: Some(0..=u16::MAX), ..FlowMatch::default() };
        let mut packet = udp([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0);
        assert!(rule.matches(&IpPacket::parse(&packet).unwrap()));
        // Fragment offset 8.
        packet[7] = 1;
        assert!(!rule.matches(&IpPacket::parse(&packet).unwrap()));
    }

    #[test]
    fn a_prefix_of_the_other_ip_version_does_not_match() {
        let rule = FlowMatch { prefix: Some("::/0".parse().unwrap()), ..FlowMatch::default() };
        let packet = udp([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0);
        assert!(!rule.matches(&IpPacket::parse(&packet).unwrap()));
    }

    #[test]
    fn the_first_matching_rule_names_the_channel() {
        let port = |port| FlowMatch { ports: Some(port..=port), ..FlowMatch::default() };
        let rules = ChannelRules::new(vec![port(22), port(53), port(22)]).unwrap();
        for (ports, channel) in [((9, 22), Some(1)), ((53, 9), Some(2)), ((53, 22), Some(1)), ((9, 9), None)] {
            let packet = udp([10, 0, 0, 1], [10, 0, 0, 2], ports, 0);
            assert_eq!(rules.channel_for(&IpPacket::parse(&packet).unwrap()), channel);
        }
    }

    #[test]
    fn the_last_of_127_rules_has_channel_127_and_a_128th_is_refused() {
        let mut rules = vec![FlowMatch { protocol: Some(TCP), ..FlowMatch::default() }; 126];
        rules.push(FlowMatch::default());
        let packet = udp([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0);
        let full = ChannelRules::new(rules.clone()).unwrap();
        assert_eq!(full.channel_for(&IpPacket::parse(&packet).unwrap()), Some(127));
        rules.push(FlowMatch::default());
        assert_eq!(ChannelRules::new(rules).unwrap_err(), TooManyRules(128));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]
        #[test]
        fn a_rule_matches_if_each_thing_asked_for_is_there(
            (protocol, dscp) in (prop::option::of(prop_oneof![Just(UDP), Just(TCP)]), prop::option::of(0..3_u8)),
            range in prop::option::of((0..6_u16, 0..6_u16)),
            prefix in prop::option::of((0..4_u8, 30..=32_u8)),
            (src, dst, ports, marked) in (0..4_u8, 0..4_u8, (0..6_u16, 0..6_u16), 0..3_u8),
        ) {
            let packet = udp([10, 0, 0, src], [10, 0, 0, dst], ports, marked);
            let rule = FlowMatch {
                protocol,
                ports: range.map(|(from, to)| from..=to),
                prefix: prefix.map(|(low, len)| IpNet::new([10, 0, 0, low].into(), len).unwrap()),
                dscp,
            };
            let in_range = |port: u16| range.is_none_or(|(from, to)| from <= port && port <= to);
            let in_prefix = |low: u8| prefix.is_none_or(|(base, len)| low >> (32 - len) == base >> (32 - len));
            let naive = protocol != Some(TCP)
                && (dscp.is_none() || dscp == Some(marked))
                && (in_range(ports.0) || in_range(ports.1))
                && (in_prefix(src) || in_prefix(dst));
            prop_assert_eq!(rule.matches(&IpPacket::parse(&packet).unwrap()), naive);
        }
    }
}
