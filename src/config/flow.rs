//! `match = { .. }` of a channel rule.

use std::ops::RangeInclusive;

use super::address;
use super::codepoint::{codepoint, named};
use super::document::{Item, Section};
use super::error::ConfigError;
use crate::overlay::flow::FlowMatch;

/// Keys of `match`.
pub(super) const MATCH_KEYS: &[&str] = &["protocol", "port", "prefix", "dscp"];

/// Protocols by name (IANA protocol numbers).
const PROTOCOLS: &[(&str, u8)] =
    &[("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("gre", 47), ("esp", 50)];
/// Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: &[u8] = &[6, 17, 33, 132, 136];

/// What the packets of a rule have in common: at least one thing.
pub(super) fn read(section: &Section<'_>) -> Result<FlowMatch, ConfigError> {
    let protocol = section.find("protocol").map(|item| protocol(&item)).transpose()?;
    let ports = match section.find("port") {
        Some(item) => {
            if protocol.is_some_and(|number| !WITH_PORTS.contains(&number)) {
                return Err(
                    item.refuse("this protocol has no ports; accepted with tcp, udp or sctp, or without a protocol")
                );
            }
            Some(ports(&item)?)
        }
        None => None,
    };
    let prefix = match section.find("prefix") {
        Some(item) => {
            let text = item.text(r#"a prefix such as "10.77.0.0/24""#)?;
            Some(address::prefix(text).map_err(|problem| item.refuse(problem))?)
        }
        None => None,
    };
    let dscp = section.find("dscp").map(|item| codepoint(&item)).transpose()?;
    if protocol.is_none() && ports.is_none() && prefix.is_none() && dscp.is_none() {
        return Err(section.refuse(format!("would match every packet; name at least one of {}", MATCH_KEYS.join(", "))));
    }
    Ok(FlowMatch { protocol, ports, prefix, dscp })
}

fn protocol(item: &Item<'_>) -> Result<u8, ConfigError> {
    named(item, PROTOCOLS, u8::MAX, |number| number)
}

/// `514` or `"6000-6010"`.
fn ports(item: &Item<'_>) -> Result<RangeInclusive<u16>, ConfigError> {
    const ACCEPTED: &str = r#"a port from 1 to 65535, or a range such as "6000-6010""#;
    let refuse = || item.refuse(format!("accepted: {ACCEPTED}"));
    let port = |number: Option<u16>| number.filter(|number| *number != 0).ok_or_else(refuse);
    if let Some(number) = item.integer() {
        let port = port(u16::try_from(number).ok())?;
        return Ok(port..=port);
    }
    let text = item.text(ACCEPTED)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = port(first.trim().parse().ok())?;
    let last = port(last.trim().parse().ok())?;
    if first > last {
        return Err(item.refuse(format!("runs backwards; write \"{last}-{first}\"")));
    }
    Ok(first..=last)
}
