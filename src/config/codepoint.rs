//! Differentiated services codepoints as they are written, and other values with a name or a number.

use super::document::{Item, nearest};
use super::error::ConfigError;
use crate::base::OuterDscp;

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

/// A codepoint.
pub(super) fn codepoint(item: &Item<'_>) -> Result<u8, ConfigError> {
    named(item, CODEPOINTS, 63, |number| number)
}

/// `interface.dscp`: a rule, or a codepoint for all datagrams.
pub(super) fn outer_dscp(item: &Item<'_>) -> Result<OuterDscp, ConfigError> {
    let rules = [("none", OuterDscp::default()), ("copy", OuterDscp::Copy)];
    let codepoints = CODEPOINTS.iter().map(|(name, codepoint)| (*name, OuterDscp::Fixed(*codepoint)));
    let names: Vec<_> = rules.into_iter().chain(codepoints).collect();
    named(item, &names, 63, OuterDscp::Fixed)
}

/// A number up to `last`, or one of `names`.
pub(super) fn named<T: Copy>(
    item: &Item<'_>,
    names: &[(&str, T)],
    last: u8,
    numbered: impl FnOnce(u8) -> T,
) -> Result<T, ConfigError> {
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let accepted = format!("accepted: {}, or a number from 0 to {last}", words.join(", "));
    if let Some(number) = item.integer() {
        let number = u8::try_from(number).ok().filter(|number| *number <= last);
        return number.map(numbered).ok_or_else(|| item.refuse(accepted));
    }
    let text = item.text(&format!("{}, or a number from 0 to {last}", words.join(", ")))?;
    match names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, value)) => Ok(*value),
        None if text.parse::<u64>().is_ok() => Err(item.refuse(format!("write a number without quotes; {accepted}"))),
        None => {
            let suggestion = nearest(text, &words).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
            Err(item.refuse(format!("{suggestion}{accepted}")))
        }
    }
}
