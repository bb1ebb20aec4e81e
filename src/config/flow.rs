//! `match = { .. }` of a channel rule.

use std::ops::RangeInclusive;

use super::address;
use super::document::{Item, Section, nearest};
use super::error::ConfigError;
use crate::overlay::flow::FlowMatch;

/// Keys of `match`.
pub(super) const MATCH_KEYS: &[&str] = &["protocol", "port", "prefix", "dscp"];

/// Protocols by name (IANA protocol numbers).
const PROTOCOLS: &[(&str, u8)] =
    &[("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("gre", 47), ("esp", 50)];
/// Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: &[u8] = &[6, 17, 33, 132, 136];

/// Codepoints by name: RFC 4594 for the classes, RFC 5865 for VA, RFC 8622 for LE.
const CODEPOINTS: &[(&str, u8)] = &[
    ("CS0", 0),
    ("CS1", 8),
    ("CS2", 16),
    ("CS3", 24),
    ("CS4", 32),
    ("CS5", 40),
    ("CS6", 48),
    ("CS7", 56),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("EF", 46),
    ("VA", 44),
    ("LE", 1),
];

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
    named(item, PROTOCOLS, u8::MAX)
}

fn codepoint(item: &Item<'_>) -> Result<u8, ConfigError> {
    named(item, CODEPOINTS, 63)
}

/// A number up to `last`, or one of `names`.
fn named(item: &Item<'_>, names: &[(&str, u8)], last: u8) -> Result<u8, ConfigError> {
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let accepted = format!("accepted: {}, or a number from 0 to {last}", words.join(", "));
    if let Some(number) = item.integer() {
        return u8::try_from(number).ok().filter(|number| *number <= last).ok_or_else(|| item.refuse(accepted));
    }
    let text = item.text(&format!("{}, or a number from 0 to {last}", words.join(", ")))?;
    match names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, number)) => Ok(*number),
        None => {
            let suggestion = nearest(text, &words).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
            Err(item.refuse(format!("{suggestion}{accepted}")))
        }
    }
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
