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
